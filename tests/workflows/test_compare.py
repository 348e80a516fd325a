"""Verdicts on results that exist: pairing, margins, floors, several models, trends, and what a report keeps of them."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from audit.errors import AuditError
from audit.reports.folder import read_report, write_report
from audit.reports.html.run_page import run_html
from audit.reports.markdown import markdown
from audit.reports.rows import RunReport
from audit.reports.run_sentences import harm_sentence, header_lines
from audit.reports.workflows.compare import trend_rows
from audit.verdicts import FAIL, PASS
from audit.verdicts.alarm import harm_p_value
from audit.verdicts.margins import Points, Retained
from audit.verdicts.verdict import judge
from audit.workflows.compare import Comparison, Terms, compared
from audit.workflows.comparison_rows import MOST_CHANGED
from audit.workflows.results.choices import Choices
from audit.workflows.results.origin import read_results

DATA = Path(__file__).parent / "results" / "data"
GENERATOR = np.random.default_rng(3)
BASE = (GENERATOR.random(300) < 0.8).astype(float)
WORSE = np.where(GENERATOR.random(300) < 0.3, 0.0, BASE)
GRADED = np.round(GENERATOR.beta(3, 6, 300), 3)


def write(path: Path, scores: Sequence[float] | np.ndarray, **columns: Sequence[Any]) -> Path:
    rows = [
        {"id": f"q{k}", "score": float(score), **{name: values[k] for name, values in columns.items()}}
        for k, score in enumerate(scores)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def compare(base: Path, *edited: Path, trend: bool = False, **terms: Any) -> Comparison:
    models = [read_results(path, Choices(), edited=k > 0) for k, path in enumerate((base, *edited))]
    return compared(models[0], models[1:], Terms(**terms), trend=trend)


def saved(found: Comparison, folder: Path) -> RunReport:
    return read_report(write_report(found.report, folder, found.item_lines()), with_items=True)


def test_the_verdict_is_that_of_judge(tmp_path: Path) -> None:
    base, edited = write(tmp_path / "base.jsonl", BASE), write(tmp_path / "edited.jsonl", WORSE)
    (row,) = compare(base, edited, margins={"": Points(0.1)}, floors={"scores": 0.25}).report.abilities
    assert row.verdict == judge(BASE, WORSE, margin=0.1, floor=0.25)
    assert row.harm_p == harm_p_value(BASE, WORSE)
    assert (row.outcome, row.asked_margin, row.verdict.margin) == (FAIL, "0.1", 0.1)
    assert row.flips is not None
    assert row.flips.elsewhere.right_to_wrong == row.verdict.right_to_wrong == int((WORSE < BASE).sum())


def test_items_are_paired_by_id_and_not_by_order(tmp_path: Path) -> None:
    order = np.random.default_rng(0).permutation(300)
    base, edited = write(tmp_path / "base.jsonl", BASE), write(tmp_path / "edited.jsonl", WORSE)
    lines = edited.read_text(encoding="utf-8").splitlines()
    mixed = tmp_path / "mixed" / "edited.jsonl"
    mixed.parent.mkdir()
    mixed.write_text("\n".join(lines[k] for k in order), encoding="utf-8")
    first, other = compare(base, edited), compare(base, mixed)
    assert first.report.abilities == other.report.abilities
    assert list(first.item_lines()) == list(other.item_lines())


def test_clusters_and_floors_of_items_count(tmp_path: Path) -> None:
    clusters, floors = [f"p{k // 3}" for k in range(300)], [float(x) for x in np.round(GRADED * 0.5, 4)]
    base = write(tmp_path / "base.jsonl", GRADED, cluster=clusters, floor=floors)
    edited = write(tmp_path / "edited.jsonl", GRADED * 0.99)
    (row,) = compare(base, edited).report.abilities
    wanted = judge(GRADED, GRADED * 0.99, margin=Retained(0.9), floor=0, floors=np.array(floors), clusters=clusters)
    assert row.verdict == wanted and row.asked_margin == "90%" and wanted.clusters == 100
    other_way = compare(write(tmp_path / "bare.jsonl", GRADED), write(tmp_path / "own.jsonl", GRADED, floor=floors))
    assert other_way.report.abilities[0].verdict.floor == wanted.floor
    assert not any("no floor" in line for line in other_way.report.header.result_caveats)
    (one,) = compare(base, edited, floors={"": 0.1}).report.abilities
    assert one.verdict == judge(GRADED, GRADED * 0.99, margin=0.05, floor=0.1, clusters=clusters)


def test_missing_items_are_dropped_only_where_that_is_allowed(tmp_path: Path) -> None:
    base, edited = write(tmp_path / "base.jsonl", BASE), write(tmp_path / "edited.jsonl", BASE[:290])
    with pytest.raises(
        AuditError, match=r"scores: 10 of 300 items are only in .*base.jsonl \('q290', 'q291', 'q292', \.\.\.\)"
    ):
        compare(base, edited)
    report = compare(base, edited, allow_missing=True).report
    said = f"scores: 10 items of {base} and 0 of {edited} were dropped, because the other has no score for them."
    assert report.abilities[0].verdict.n == 290
    assert said in report.header.result_caveats
    assert any(said in line for line in header_lines(report.header))
    assert said in markdown(report)


def test_another_document_is_refused_even_if_missing_ones_are_allowed(tmp_path: Path) -> None:
    hashes = [f"h{k}" for k in range(300)]
    base = write(tmp_path / "base.jsonl", BASE, hash=hashes)
    edited = write(tmp_path / "edited.jsonl", BASE, hash=["x", *hashes[1:]])
    with pytest.raises(AuditError, match=r"1 of 300 items have the same id .* and another hash \('q0'\)"):
        compare(base, edited, allow_missing=True)
    without = write(tmp_path / "without.jsonl", BASE)
    with pytest.raises(AuditError, match=r"without\.jsonl does not say what the hash of its items is"):
        compare(base, without)


def test_a_missing_task_is_left_out_only_where_that_is_allowed(tmp_path: Path) -> None:
    base = write(tmp_path / "base.jsonl", BASE, ability=["ab"[k % 2] for k in range(300)])
    edited = write(tmp_path / "edited.jsonl", BASE, ability=["ac"[k % 2] for k in range(300)])
    with pytest.raises(AuditError, match=r"1 tasks of .*base.jsonl are not in .*edited.jsonl \('b'\)"):
        compare(base, edited)
    report = compare(base, edited, allow_missing=True).report
    assert [row.ability for row in report.abilities] == ["a"]
    left_out = [line for line in report.header.result_caveats if "were left out" in line]
    assert len(left_out) == 2 and left_out[0].endswith("left out: b.")


def test_what_no_file_says_is_said_in_every_output(tmp_path: Path) -> None:
    base, edited = write(tmp_path / "base.jsonl", BASE), write(tmp_path / "edited.jsonl", BASE)
    report = compare(base, edited).report
    assert report.outcome == PASS
    assert report.header.result_caveats == (
        "scores: no floor is known, so 0 is taken; give the score of a model that cannot do it with --floor.",
        "scores: the items were paired by their ids alone, since the file has no hash of them.",
    )
    assert compare(base, edited, floors={"": 0.5}).report.header.result_caveats[0].startswith("scores: the items were")


def test_a_report_is_read_back_and_compared_again(tmp_path: Path) -> None:
    lm_eval = compare(DATA / "lm_eval" / "base", DATA / "lm_eval" / "edited", margins={"": Retained(0.8)})
    report = saved(lm_eval, tmp_path)
    assert report.abilities == lm_eval.report.abilities and report.header == lm_eval.report.header
    item = next(item for item in report.items if item.ability == "sums")
    assert item.fields is not None and item.fields.keys() == {"document", "prompt", "target"}
    assert (item.base.score, item.base.text, item.gold) == (1.0, "2", ("2",))
    again = compare(Path(report.folder or ""), Path(report.folder or "")).report
    assert [row.verdict for row in again.abilities] == [row.verdict for row in report.abilities]


def test_many_models_are_in_one_report_with_one_correction(tmp_path: Path) -> None:
    base = write(tmp_path / "base.jsonl", BASE)
    slightly = BASE.copy()
    slightly[np.flatnonzero(BASE)[:5]] = 0  # p = 1/32: harm by itself, and not after the correction
    edited = [write(tmp_path / f"step-{k}.jsonl", scores) for k, scores in enumerate((BASE, slightly, WORSE))]
    found = compare(base, *edited)
    report = saved(found, tmp_path / "reports")
    assert [row.ability for row in report.abilities] == [f"scores of step-{k}" for k in range(3)]
    assert [row.model for row in report.abilities] == ["step-0", "step-1", "step-2"]
    assert report.abilities[1].harm_p == pytest.approx(1 / 32)
    assert "harmed, within the margin or not: scores of step-2 (95 %, Holm over 3 abilities)" in harm_sentence(report)
    assert report.outcome == FAIL and len(report.items) == 900
    assert report.header.editor == "3 models"
    alone = compare(base, edited[1]).report
    assert alone.abilities[0].ability == "scores" and alone.alarms[0].harmed


def test_a_trend_compares_each_checkpoint_with_the_one_before(tmp_path: Path) -> None:
    base = write(tmp_path / "base.jsonl", BASE)
    edited = [write(tmp_path / f"step-{k}.jsonl", scores) for k, scores in enumerate((BASE, WORSE, WORSE))]
    found = compare(base, *edited, trend=True)
    report = saved(found, tmp_path / "reports")
    assert report.steps == found.report.steps
    assert [row.ability for row in report.steps] == ["scores of step-1 since step-0", "scores of step-2 since step-1"]
    assert [row.verdict.drop for row in report.steps] == [report.abilities[1].verdict.drop, 0.0]
    assert "Holm over 5 abilities" in harm_sentence(report) and len(report.alarms) == 5
    headings, lines = trend_rows(report)
    assert headings == ["ability", "base", "step-0", "step-1", "step-2"]
    scores = [row.verdict.edited for row in report.abilities]
    assert lines[0] == ["scores", f"{BASE.mean():.3f}", f"{scores[0]:.3f}", f"{scores[1]:.3f} ✗", f"{scores[2]:.3f} ✗"]
    assert lines[1] == ["  since the last", "", "", f"{scores[1] - scores[0]:.3f} !", "0.000"]
    assert "## Against the checkpoint before" in markdown(report)
    only = replace(report, abilities=report.abilities[:1])
    assert only.outcome == PASS  # the steps decide nothing


def test_models_of_the_same_name_keep_their_paths(tmp_path: Path) -> None:
    paths = []
    for name in ("base", "one", "two"):
        (tmp_path / name).mkdir()
        paths.append(write(tmp_path / name / "scores.jsonl", BASE))
    assert [row.model for row in compare(*paths).report.abilities] == [str(paths[1]), str(paths[2])]


def test_the_report_has_the_items_that_changed_most_with_both_texts(tmp_path: Path) -> None:
    found = compare(DATA / "lm_eval" / "base", DATA / "lm_eval" / "edited")
    report = found.report
    every = {(item.ability, item.key): item for item in saved(found, tmp_path).items}
    assert report.items and len(report.items) < len(every)
    for item in report.items:
        whole = every[item.ability, item.key]
        assert (item.gold, item.flips, item.cluster) == (whole.gold, whole.flips, whole.cluster)
        assert (item.base.text, item.edited[0].text) == (whole.base.text, whole.edited[0].text)
        assert (item.base.score, item.edited_score) == (whole.base.score, whole.edited_score)
    left = [item for key, item in every.items() if key not in {(one.ability, one.key) for one in report.items}]
    assert not any(item.flips or item.base.text != item.edited[0].text for item in left)
    sums = next(item for item in report.items if item.ability == "sums" and item.base.text)
    page = run_html(report)
    assert f"<h4>{sums.key} " in page and "10 of 24 items changed" in page and "against" in page.split("</h1>")[0]
    assert "not recorded" not in page and "unparseable" not in page


def test_of_many_changed_items_the_largest_changes_are_kept_and_all_are_counted(tmp_path: Path) -> None:
    lower = GRADED - np.linspace(0.001, GRADED.min(), 300)
    report = compare(write(tmp_path / "base.jsonl", GRADED), write(tmp_path / "edited.jsonl", lower)).report
    assert [item.key for item in report.items] == [f"q{k}" for k in range(299, 299 - MOST_CHANGED, -1)]
    assert f"300 of 300 items changed; {MOST_CHANGED} of them are here, all are in items.jsonl" in run_html(report)


def test_the_page_of_a_trend_has_the_checkpoints_in_their_order(tmp_path: Path) -> None:
    paths = [write(tmp_path / f"{name}.jsonl", scores) for name, scores in (("base", BASE), ("a", BASE), ("b", WORSE))]
    report = compare(*paths, trend=True).report
    page = run_html(report)
    assert "<h2>Checkpoints in their order</h2>" in page and "scores of b since a" in page
    assert "1 further comparisons" in page


def test_the_page_says_where_random_groups_were_drawn(tmp_path: Path) -> None:
    scores = GENERATOR.beta(3, 6, 10_001).round(3)
    paths = [write(tmp_path / f"{name}.jsonl", scores * share) for name, share in (("base", 1.0), ("edited", 0.99))]
    assert "studentized bootstrap of 1,000 random groups" in run_html(compare(*paths).report)
