"""The preflight draws the items of an audit, uses past runs of the same kind, and promises only what holds."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from audit.abilities import ABILITIES, PROTOCOLS
from audit.abilities.contract import Item, is_graded
from audit.abilities.data.sources import FolderSource, PocketSource, items
from audit.abilities.presentation import present_ability
from audit.answering.items import drawn_items
from audit.engine.reuse_counts import ReuseCounts
from audit.errors import AbilityError, AuditError
from audit.reports.folder import write_report
from audit.reports.rows import AbilityRow, AnswerRecord, ItemRecord, RunReport
from audit.reports.workflows.preflight import CERTIFIABLE, DEPENDS, TOO_SMALL
from audit.settings.options import AuditSettings
from audit.verdicts.bootstrap import as_ratios
from audit.verdicts.intervals import Floats
from audit.verdicts.margins import Points
from audit.verdicts.power import observed_change
from audit.workflows.expectation import ASSUMED_CHANGE_OF_ENTITIES, ASSUMED_CHANGES, Expectation, Sample
from audit.workflows.past_runs import PastVerdict
from audit.workflows.preflight import Preflight
from tests.reports.sample import HEADER, PASSED, row_with
from tests.small_audit import abilities as small_abilities
from tests.small_audit import write_lines


def preflight(tmp_path: Path, **wanted: Any) -> Preflight:
    return Preflight(AuditSettings(model="pocket-gpt2", reports=tmp_path, use_store=False, **wanted))


def past_run(tmp_path: Path, *rows: AbilityRow, items: tuple[ItemRecord, ...] = (), **header: Any) -> RunReport:
    """A report of a past run under `tmp_path`; 100 seconds for base answers and 50 for edited ones."""
    report = RunReport(
        replace(HEADER, **header),
        rows,
        settings=AuditSettings(model="pocket-gpt2").plain() | header,
        seconds={"base answers": 100.0, "edited answers": 50.0},
        reuse=ReuseCounts(answers=2 * sum(row.verdict.n for row in rows)),
        items=items,
    )
    return replace(report, folder=str(write_report(report, tmp_path)))


def row(ability: str = "nli", **what: Any) -> AbilityRow:
    return row_with(PASSED, ability=ability, base_from_store=False, **what)


def test_the_items_are_those_of_an_audit(tmp_path: Path) -> None:
    found = preflight(tmp_path, limit=30, seed=3).assess("dialogue")
    drawn = drawn_items("dialogue", PocketSource(), AuditSettings(limit=30, seed=3)).items
    assert (found.items, found.clusters) == (30, len({item.cluster for item in drawn}))


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("name", ABILITIES)
def test_graded_abilities_are_named(name: str, protocol: str, tmp_path: Path) -> None:
    write_lines(tmp_path / "nq_open.jsonl", [row | {"passage": "p"} for row in small_abilities()["nq_open"]])
    ability = present_ability(name, protocol, PocketSource())
    source = FolderSource(tmp_path) if name == "open_qa" else PocketSource()
    sample = Sample.of(ability, items(ability, source, 12, 0))
    if ability.decoding is None:
        return
    rights = [ability.gold_answer(item) for item in sample.items]
    scores = [
        [ability.score(item, ability.parse(text[:end])) for end in (None, len(text) // 2)]
        for item, text in zip(sample.items, rights, strict=True)
    ]
    assert all(whole.value == 1 for whole, _ in scores)  # a right answer is right
    assert (sample.weights is not None) == any(whole.counts for whole, _ in scores)
    assert is_graded(ability) == any(0 < half.value < 1 for _, half in scores if not half.counts)


def test_the_weight_of_a_sentence_is_its_number_of_entities(tmp_path: Path) -> None:
    asked = drawn_items("ner", PocketSource(), AuditSettings(limit=20))
    ability, drawn = asked.ability, asked.items
    assert Sample.of(ability, drawn).weights == tuple(len(item.gold) for item in drawn)


def test_changes_are_assumed_without_a_past_run(tmp_path: Path) -> None:
    found = preflight(tmp_path).assess("nli")
    assert (found.changes, found.changes_from) == (ASSUMED_CHANGES, None)


def test_the_share_of_changes_comes_from_a_past_run(tmp_path: Path) -> None:
    run = past_run(tmp_path, row(right_to_wrong=5, wrong_to_right=3))
    found = preflight(tmp_path).assess("nli")
    assert (found.changes, found.changes_from) == (0.04, Path(run.folder or "").name)
    assert preflight(tmp_path).assess("sentiment").changes_from is None


def test_a_past_run_without_changes_counts_as_one_change(tmp_path: Path) -> None:
    past_run(tmp_path, row(right_to_wrong=0, wrong_to_right=0))
    assert preflight(tmp_path).assess("nli").changes == 1 / PASSED.verdict.n


@pytest.mark.parametrize(
    "other", [{"model": "pocket-llama"}, {"data": "hub"}, {"shots": 2}, {"rescored": "reports/x"}, {"editor": "vandal"}]
)
def test_runs_of_another_kind_are_ignored(other: dict[str, Any], tmp_path: Path) -> None:
    past_run(tmp_path, row(right_to_wrong=50), **other)
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "verdict.json").write_text("{}", encoding="utf-8")
    assert preflight(tmp_path).assess("nli").changes_from is None


def test_past_runs_are_preferred_by_editor_then_edit_count_then_date(tmp_path: Path) -> None:
    for day, editor, count in ((1, "memit", 10), (2, "rome", 10), (3, "memit", 99), (4, "identity", 10)):
        changed = row(right_to_wrong=10 * day, wrong_to_right=0)
        past_run(tmp_path, changed, started=f"2026-11-0{day}T00:00:00+00:00", editor=editor, edit_count=count)
    changes = {
        editor: preflight(tmp_path, editor=editor).assess("nli").changes
        for editor in ("memit", "rome", "ft", "identity")
    }
    assert changes == {"memit": 0.05, "rome": 0.1, "ft": 0.1, "identity": 0.2}
    assert preflight(tmp_path, edit_count=99).assess("nli").changes == 0.15


def test_the_size_of_graded_changes_comes_from_the_past_run(tmp_path: Path) -> None:
    def item(k: int, size: float) -> ItemRecord:
        base, after = (AnswerRecord("t", "t", True, score) for score in (0.5, 0.5 + size * (-1) ** k))
        return ItemRecord("summarization", f"summarization/{k}", str(k), "p", (), ("g",), base, (after,))

    smallest = []
    for size in (0.05, 0.5):
        folder = tmp_path / str(size)
        changed = row("summarization", right_to_wrong=10, wrong_to_right=10)
        past_run(folder, changed, items=tuple(item(k, size if k < 20 else 0.0) for k in range(200)))
        smallest.append(preflight(folder).assess("summarization").smallest_margin)
    assert smallest[0] < 0.7 * smallest[1]


def test_the_size_of_changes_of_a_corpus_metric_comes_from_the_counts_of_the_saved_answers(tmp_path: Path) -> None:
    asked = drawn_items("ner", PocketSource(), AuditSettings(limit=200))
    ability, drawn = asked.ability, asked.items

    def record(k: int, item: Item) -> ItemRecord:
        base, after = ability.gold_answer(item), "" if k < 40 else ability.gold_answer(item)
        both = [AnswerRecord(text, None, True, float(text != "")) for text in (base, after)]
        given = (item.ability, item.key, item.cluster, "p", item.choices, item.gold, both[0], (both[1],))
        return ItemRecord(*given, fields=item.fields)

    records = tuple(record(k, item) for k, item in enumerate(drawn))
    answers = [(one.base, one.edited[0]) for one in records]

    def ratios(texts: list[str]) -> Floats:
        scores = [ability.score(item, ability.parse(text)) for item, text in zip(drawn, texts, strict=True)]
        return as_ratios(np.array([score.counts for score in scores], dtype=float))

    sizes = observed_change(*(ratios([one.text for one in side]) for side in zip(*answers, strict=True)))
    changed = row("ner", n=200, right_to_wrong=40, wrong_to_right=0)
    run = past_run(tmp_path, changed, items=records)
    past = PastVerdict(run.abilities[0], Path(run.folder or ""))
    assert past.corpus_moves == pytest.approx(sizes)
    found = Expectation.of(Sample.of(ability, drawn), past, Points(0.05), 0.05)
    assert (found.change, found.changes) == (past.corpus_moves, len(sizes) / 200)
    without = past_run(tmp_path / "old", changed, items=tuple(replace(one, fields=None) for one in records))
    old = PastVerdict(without.abilities[0], Path(without.folder or ""))
    assert old.corpus_moves == ()
    assert Expectation.of(Sample.of(ability, drawn), old, Points(0.05), 0.05).change == ASSUMED_CHANGE_OF_ENTITIES


def test_the_suggested_limit_is_enough_and_not_much_too_large(tmp_path: Path) -> None:
    short = preflight(tmp_path, limit=100, margins={"open_qa": 0.05}).assess("open_qa")
    assert short.prospect == TOO_SMALL
    assert short.limit_enough is not None
    assert 100 < short.limit_enough <= (short.available or 0)
    enough = preflight(tmp_path, limit=short.limit_enough, margins={"open_qa": 0.05}).assess("open_qa")
    assert enough.prospect == CERTIFIABLE
    less = preflight(tmp_path, limit=int(0.85 * short.limit_enough), margins={"open_qa": 0.05}).assess("open_qa")
    assert less.prospect == TOO_SMALL


def test_the_suggested_limit_counts_rows_when_a_row_makes_several_items(tmp_path: Path) -> None:
    short = preflight(tmp_path, limit=20, protocol="gu2024").assess("ner", 0.04)
    assert short.items == 80
    assert short.limit_enough is not None
    assert preflight(tmp_path, limit=short.limit_enough, protocol="gu2024").assess("ner", 0.04).prospect == CERTIFIABLE


def test_no_limit_is_suggested_for_a_tiny_margin(tmp_path: Path) -> None:
    found = preflight(tmp_path, limit=50).assess("nli", 0.00001)
    assert (found.prospect, found.limit_enough) == (TOO_SMALL, None)
    assert found.smallest_with_all is not None
    assert found.smallest_margin is not None
    assert found.smallest_with_all < found.smallest_margin


def test_a_share_depends_on_the_base_score_without_a_past_run(tmp_path: Path) -> None:
    unknown = preflight(tmp_path).assess("open_qa", "90%")
    assert (unknown.margin, unknown.prospect, unknown.changes) == (None, DEPENDS, ASSUMED_CHANGES)
    assert unknown.needed_base is not None
    asked = drawn_items("open_qa", PocketSource(), AuditSettings())
    ability, drawn = asked.ability, asked.items
    floor = ability.floor(drawn)
    assert unknown.smallest_margin == pytest.approx(0.1 * (unknown.needed_base - floor))
    past_run(tmp_path, row("open_qa", base=0.9))
    assert preflight(tmp_path).assess("open_qa", "90%").margin == pytest.approx(0.1 * (0.9 - floor))


def test_a_share_is_too_small_if_a_perfect_base_score_does_not_help(tmp_path: Path) -> None:
    found = preflight(tmp_path, limit=50).assess("nli", "98%")
    assert (found.prospect, found.margin) == (TOO_SMALL, None)


def test_a_base_model_at_the_floor_is_reported(tmp_path: Path) -> None:
    past_run(tmp_path, row(base=0.52, base_lower=0.5, floor=0.51))
    assert preflight(tmp_path).assess("nli").at_the_floor


def test_a_margin_in_the_settings_overrides_the_suites(tmp_path: Path) -> None:
    found = preflight(tmp_path, margins={"nli": 0.01}).assess("nli", 0.05)
    assert (found.margin, found.asked_margin) == (0.01, "0.01")


def test_the_time_comes_from_a_past_run(tmp_path: Path) -> None:
    run = past_run(tmp_path, row("nli"), row("reasoning"))
    whole, half = preflight(tmp_path), preflight(tmp_path, limit=100, early_stop=True)
    for flight in (whole, half):
        flight.assess("reasoning")
        flight.assess("nli")
    report = whole.report()
    assert [one.ability for one in report.abilities] == ["reasoning", "nli"]
    assert report.seconds == pytest.approx(150.0)
    assert report.timing == f"minutes: at the speed of {Path(run.folder or '').name}, without the time for editing."
    assert half.report().seconds == pytest.approx(75.0, rel=0.05)
    assert half.report().early_stop


def test_early_stopping_certifies_slightly_larger_margins(tmp_path: Path) -> None:
    fixed, early = (preflight(tmp_path, early_stop=stops).assess("nli").smallest_margin for stops in (False, True))
    assert fixed is not None and early is not None
    assert fixed < early < 1.3 * fixed


def test_the_time_covers_every_edited_model(tmp_path: Path) -> None:
    past_run(tmp_path, row("nli"))
    flight = preflight(tmp_path, edit_mode="instance-single", edit_count=4)
    flight.assess("nli")
    assert flight.report().seconds == pytest.approx(100 + 4 * 50)


def test_answers_from_the_store_are_not_timed(tmp_path: Path) -> None:
    known = replace(row("nli"), base_from_store=True)
    report = past_run(tmp_path, known)
    again = replace(report, reuse=ReuseCounts(answers=400, answers_known=200), header=replace(HEADER, seed=1))
    (tmp_path / "only").mkdir()
    write_report(again, tmp_path / "only")
    flight = preflight(tmp_path / "only")
    flight.assess("nli")
    assert flight.report().seconds == pytest.approx(
        2 * 50
    )  # the base answers' time says nothing, so the edited ones' does
    write_report(replace(again, reuse=ReuseCounts(answers=400, answers_known=300)), tmp_path / "partly")
    assert preflight(tmp_path / "partly")._past.speed(lambda _: 1.0) is None


def test_the_machine_is_timed_without_a_past_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("audit.workflows.durations.MEASURED_FOR", 0.01)
    flight = preflight(tmp_path, limit=20)
    flight.assess("nli")
    report = flight.report()
    assert report.seconds is not None
    assert 0 < report.seconds < 60
    assert report.timing.startswith(
        "minutes: a rough estimate without a past run: 3.08 million weights at the speed of"
    )


def test_the_time_is_unknown_without_the_models_files(tmp_path: Path) -> None:
    flight = Preflight(AuditSettings(model="owner/no-such-model", reports=tmp_path))
    flight.assess("nli")
    report = flight.report()
    assert report.seconds is None
    assert report.timing == (
        "minutes: unknown, since there is no past run to go by and the files of "
        "owner/no-such-model are not on this machine."
    )


def test_abilities_without_data_do_not_stop_the_others(tmp_path: Path) -> None:
    write_lines(tmp_path / "rte.jsonl", small_abilities()["rte"])
    flight = preflight(tmp_path / "reports", data=str(tmp_path))
    flight.check()
    flight.assess("nli")
    with pytest.raises(AbilityError, match=r"sentiment cannot be asked: .* has no sst2\.jsonl"):
        flight.assess("sentiment")
    assert set(flight.report().unasked) == {"sentiment"}
    assert [one.ability for one in flight.report().abilities] == ["nli"]


def test_a_prompt_longer_than_the_context_is_reported(tmp_path: Path) -> None:
    write_lines(tmp_path / "rte.jsonl", [{**one, "sentence1": "Velden " * 600} for one in small_abilities()["rte"]])
    with pytest.raises(
        AbilityError, match=r"its longest prompt has \d+ tokens, but the context of pocket-gpt2 holds 512"
    ):
        preflight(tmp_path / "reports", data=str(tmp_path)).assess("nli")


def test_a_folder_without_any_data_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AuditError, match=r"the folder contains no \.jsonl or \.parquet file named"):
        preflight(tmp_path / "reports", data=str(tmp_path)).check()
