"""Several processes' reports become one, whatever way the tests were dealt out among them."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit.errors import AuditError
from audit.reports.merged import merged, packed, unpacked
from audit.reports.rows import IntegrityRow, RunReport
from tests.reports.sample import FAILED, HEADER, PASSED, REPORT, row_with

WHOLE = replace(REPORT, unasked={"ner": "no such file"}, failed_tests=("test_a", "test_b"))


def dealt(report: RunReport, hands: list[int], process: int) -> RunReport:
    """What the process says whose number stands at each ability, score, check, test and note in `hands`."""
    hand = iter(hands)

    def mine(whole: tuple[object, ...]) -> tuple[object, ...]:
        return tuple(one for one in whole if next(hand) == process)

    names = ("abilities", "edit_scores", "integrity", "failed_tests")
    parts = {name: mine(getattr(report, name)) for name in names}
    asked = {row.ability for row in parts["abilities"]}  # type: ignore[attr-defined]
    items = tuple(item for item in report.items if item.ability in asked)
    return replace(report, **parts, items=items, unasked=report.unasked if next(hand) == process else {})


@given(st.lists(st.integers(0, 2), min_size=20, max_size=20))
def test_a_report_that_was_dealt_out_comes_back_whole(hands: list[int]) -> None:
    whole = merged([dealt(WHOLE, hands, process) for process in range(3)])
    for name in ("abilities", "edit_scores", "integrity", "failed_tests"):
        assert set(map(repr, getattr(whole, name))) == set(map(repr, getattr(WHOLE, name)))
    for name in ("header", "items", "unasked", "settings", "fingerprints", "versions", "seconds", "command"):
        assert getattr(whole, name) == getattr(WHOLE, name)
    assert whole.outcome == WHOLE.outcome


def test_a_report_survives_the_way_from_another_process() -> None:
    text = packed(WHOLE)
    assert text.isascii()
    assert unpacked(text) == WHOLE


def test_abilities_stand_in_their_usual_order() -> None:
    parts = [replace(REPORT, abilities=(PASSED,)), replace(REPORT, abilities=(FAILED,))]
    assert [row.ability for row in merged(parts).abilities] == ["reasoning", "sentiment"]


def test_the_worse_of_two_verdicts_and_of_two_checks_stands() -> None:
    sound, unsound = (IntegrityRow("weights restored", ok, ok, "") for ok in (True, False))
    strict = row_with(PASSED, outcome="FAIL", margin=0.001)
    first = replace(REPORT, abilities=(PASSED,), integrity=(unsound,))
    second = replace(REPORT, abilities=(strict,), integrity=(sound,))
    for order in ([first, second], [second, first]):
        whole = merged(order)
        assert whole.abilities == (strict,)
        assert whole.integrity == (unsound,)


def test_a_stage_took_as_long_as_the_slowest_process() -> None:
    parts = [replace(REPORT, seconds={"editing": 2.0, "loading": 1.0}), replace(REPORT, seconds={"editing": 3.0})]
    assert merged(parts).seconds == {"editing": 3.0, "loading": 1.0}


def test_processes_may_begin_at_other_times_on_other_devices_and_find_the_patch_of_the_first() -> None:
    other = replace(HEADER, started="2026-11-21T10:14:59+00:00", device="cuda:1", patch_from="patches")
    header = merged([replace(REPORT, header=replace(HEADER, device="cuda:0")), replace(REPORT, header=other)]).header
    assert header == replace(HEADER, started=other.started, device="cuda:0, cuda:1")


@pytest.mark.parametrize(
    ("other", "sentence"),
    [
        (replace(REPORT, header=replace(HEADER, model="gpt2")), "model are 'gpt2' and 'pocket-gpt2'"),
        (replace(REPORT, fingerprints={"weights": "ff"}), r"fingerprints \(weights\) are"),
        (replace(REPORT, versions={"torch": "1"}), r"versions \(torch\) are '1' and '2.13.0'"),
    ],
)
def test_reports_of_different_audits_are_refused(other: RunReport, sentence: str) -> None:
    with pytest.raises(AuditError, match=sentence):
        merged([REPORT, other])
