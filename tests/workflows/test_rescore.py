"""Every reading of a small world, end to end, and scored again from what the run kept."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from audit import Audit
from audit.cli import app
from audit.errors import AuditError
from audit.reports.folder import read_report, write_report
from audit.reports.markdown import markdown
from audit.reports.rows import RunReport
from audit.verdicts.margins import Points, Retained
from audit.workflows.compare import Terms, compared
from audit.workflows.rescore import rescored
from audit.workflows.results.run_folder import run_scores
from tests.small_audit import SmallWorld, build, widen, write_lines

READ = [
    ("open_qa", "answers"),
    ("sentiment", "choices"),
    ("dialogue", "choices"),
    ("sentiment", "calibrated"),
    ("open_qa", "likelihood"),
    ("sentiment", "likelihood"),
    ("dialogue", "likelihood"),
]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> SmallWorld:
    return widen(build(tmp_path_factory.mktemp("world")), 60)


def report_of(world: SmallWorld, name: str, reading: str, **more: Any) -> RunReport:
    wanted: dict[str, Any] = {"editor": "vandal", "device": "cpu", "use_store": False, "triage": False, "limit": 20}
    audit = Audit(**world.options(**wanted | {"prompting": "plain", "reading": {"": reading}} | more))
    audit.verdict(name)
    return audit.report()


def saved(report: RunReport, folder: Path) -> RunReport:
    """The report as it is read back, with its items."""
    return read_report(write_report(report, folder), with_items=True)


@pytest.mark.parametrize("early_stop", [False, True], ids=["all items", "early stop"])
@pytest.mark.parametrize(("name", "reading"), READ)
def test_a_saved_run_has_the_same_verdict_to_the_last_digit(
    name: str, reading: str, early_stop: bool, world: SmallWorld, tmp_path: Path
) -> None:
    report = report_of(world, name, reading, early_stop=early_stop)
    run = saved(report, tmp_path)
    again = rescored(run, {})
    (row,) = report.abilities
    assert (row.reading, row.prompting) == (reading, "plain")
    assert again.abilities == report.abilities == run.abilities
    assert [repr(item) for item in again.items] == [repr(item) for item in report.items]
    assert (row.stopping_rule is not None) == early_stop
    assert row.changed > 0 and (row.verdict.n + len(row.edited_facts) == 20 or early_stop)
    base, edited = (run_scores(Path(run.folder or ""), edited=side) for side in (False, True))
    assert compared(base, [edited], Terms()).report.abilities == report.abilities


@pytest.mark.parametrize(("name", "reading"), READ)
def test_identity_loses_nothing(name: str, reading: str, world: SmallWorld) -> None:
    (row,) = report_of(world, name, reading, editor="identity").abilities
    verdict = row.verdict
    assert (verdict.drop, verdict.base - verdict.edited, row.changed) == (0, 0, 0)
    assert verdict.lower <= 0 <= verdict.upper and row.outcome != "FAIL"
    assert math.isfinite(verdict.base) and 0 <= verdict.floor < 1
    assert (reading in ("calibrated", "likelihood")) <= (name == "dialogue" or verdict.method != "tango")


@pytest.mark.parametrize("name", ["open_qa", "sentiment", "dialogue"])
def test_the_items_keep_what_scoring_a_likelihood_takes(name: str, world: SmallWorld, tmp_path: Path) -> None:
    run = saved(report_of(world, name, "likelihood", edit_count=2), tmp_path)
    continuations = {"open_qa": 1, "sentiment": 2, "dialogue": 4}[name]
    for item in run.items:
        for answer in (item.base, *item.edited):
            assert answer.tokens is not None and answer.log_probabilities is not None
            assert len(answer.tokens) == len(answer.log_probabilities) == continuations
            assert [len(one) for one in answer.tokens] == [len(one) for one in answer.log_probabilities]
            assert all(value <= 0 for one in answer.log_probabilities for value in one)
        if name == "open_qa":  # the right answer, token by token, and the same behind another prompt
            assert "".join(item.base.tokens[0]).strip() == item.gold[0]  # type: ignore[index]
            assert item.floor is not None and item.floor.tokens == item.base.tokens
            assert item.floor.log_probabilities != item.base.log_probabilities
        else:
            assert item.floor is None
    (row,) = run.abilities
    floors = [item.floor.score for item in run.items if item.floor is not None]
    assert row.verdict.floor == pytest.approx(
        sum(floors) / len(floors) if floors else {"sentiment": 0.5}.get(name, 0.25)
    )


def test_a_likelihood_of_nan_is_scored_again_as_nan(world: SmallWorld, tmp_path: Path) -> None:
    run = saved(report_of(world, "sentiment", "likelihood"), tmp_path)
    folder = Path(run.folder or "")
    lines = [json.loads(line) for line in (folder / "items.jsonl").read_text(encoding="utf-8").splitlines()]
    for line in lines:
        line["edited"][0]["log_probabilities"][0][0] = math.nan
    write_lines(folder / "items.jsonl", lines)
    (row,) = rescored(read_report(folder, with_items=True), {}).abilities
    assert row.edited_unparseable == 1.0
    assert row.verdict.edited == 0.0


def test_other_shares_change_the_verdict_but_no_number(world: SmallWorld, tmp_path: Path) -> None:
    run = saved(report_of(world, "open_qa", "likelihood", margins={"open_qa": "99%"}), tmp_path)
    (old,), (new,) = run.abilities, rescored(run, {"open_qa": Retained(0.5)}).abilities
    assert (old.asked_margin, new.asked_margin) == ("99%", "50%")
    assert (old.verdict.base, old.verdict.edited, old.verdict.floor) == (
        new.verdict.base,
        new.verdict.edited,
        new.verdict.floor,
    )
    assert (old.trials, old.reading, old.items_fingerprint) == (new.trials, new.reading, new.items_fingerprint)


def test_points_for_a_likelihood_are_refused_in_a_sentence(
    world: SmallWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = saved(report_of(world, "open_qa", "likelihood"), tmp_path)
    with pytest.raises(AuditError) as caught:
        rescored(run, {"open_qa": Points(0.05)})
    assert str(caught.value).startswith("--margin open_qa=0.05 is in score points, but ")
    assert str(caught.value).endswith("give a share such as open_qa=90%.")
    result = CliRunner().invoke(app, ["rescore", str(run.folder), "--margin", "open_qa=0.05"])
    assert result.exit_code == 2 and len(result.stderr.splitlines()) == 1
    by_choices = saved(report_of(world, "dialogue", "choices"), tmp_path)
    assert rescored(by_choices, {"dialogue": Points(0.2)}).abilities[0].asked_margin == "0.2"


def test_a_calibrated_run_is_scored_with_its_own_offset(world: SmallWorld, tmp_path: Path) -> None:
    run = saved(report_of(world, "sentiment", "calibrated"), tmp_path)
    (row,) = run.abilities
    assert row.offset != 0 and row.trials
    (again,) = rescored(run, {}).abilities
    assert (again.offset, again.trials, again.verdict) == (row.offset, row.trials, row.verdict)
    (moved,) = rescored(replace(run, abilities=(replace(row, offset=row.offset + 50),)), {}).abilities
    assert moved.verdict.base == 0.5  # every item then has the second label


def test_a_run_without_log_probabilities_is_one_sentence(world: SmallWorld, tmp_path: Path) -> None:
    run = saved(report_of(world, "sentiment", "likelihood"), tmp_path)
    bare = tuple(replace(item, base=replace(item.base, log_probabilities=None)) for item in run.items)
    with pytest.raises(AuditError, match="without what scoring again takes"):
        rescored(replace(run, items=bare), {})


def test_the_report_lists_how_the_ability_was_asked(world: SmallWorld) -> None:
    report = report_of(world, "sentiment", "auto", prompting="auto", editor="identity")
    (row,) = report.abilities
    text = markdown(report)
    assert "## How the abilities were asked" in text
    assert f"- **sentiment** by {row.how}; tried on items set aside: " in text
    assert len(row.trials) > 1 and all(trial.replace("`", "'") in text for trial in row.trials)


@pytest.mark.parametrize(("name", "reading"), READ[2:])
def test_many_edited_models_are_averaged_again(name: str, reading: str, world: SmallWorld, tmp_path: Path) -> None:
    more: dict[str, Any] = {"edit_mode": "instance-single", "edit_count": 2, "editor": "tests.fake_editors:Nudge"}
    report = report_of(world, name, reading, **more)
    run = saved(report, tmp_path)
    assert {len(item.edited) for item in run.items} == {2}
    assert rescored(run, {}).abilities == report.abilities
