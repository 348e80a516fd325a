"""Two sentences and their errors: all within the margins needs no correction, harm to single abilities does."""

from dataclasses import replace

from audit.reports.json_report import verdict_document
from audit.reports.markdown import markdown
from audit.reports.rows import AbilityRow, RunReport
from audit.reports.run_sentences import claims, curve_harm_sentence
from audit.reports.terminal import summary
from tests.reports.sample import FAILED, HEADER, PASSED, REPORT, row_with

ABILITIES = ("reasoning", "nli", "open_qa", "closed_qa")


def row(name: str, chance: float | None, outcome: str = "PASS") -> AbilityRow:
    return row_with(PASSED, ability=name, harm_p=chance, outcome=outcome)


def report(*chances: float | None, edits: int = 10) -> RunReport:
    rows = tuple(row(name, chance) for name, chance in zip(ABILITIES, chances, strict=False))
    return replace(REPORT, header=replace(HEADER, edit_count=edits), abilities=rows)


def test_all_within_their_margins_is_claimed_without_correction() -> None:
    within, _ = claims(report(0.5, 0.5))
    assert within.startswith("All abilities are within their margins")
    assert "without correction" in within


def test_what_was_not_asked_is_not_claimed() -> None:
    within, _ = claims(replace(report(0.5, 0.5), unasked={"ner": "no data"}))
    assert within == "Within its margin, each with 95 % confidence by itself: reasoning, nli."


def test_a_run_in_which_nothing_passes_claims_nothing() -> None:
    within, _ = claims(replace(REPORT, abilities=(FAILED,)))
    assert within == "No ability was shown to be within its margin."


def test_harm_is_corrected_for_the_number_of_abilities() -> None:
    assert claims(report(0.02))[1].startswith("Certainly harmed, within the margin or not: reasoning (")
    assert claims(report(0.02, 0.5, 0.5))[1].startswith("No harm was shown in any of the abilities")
    assert claims(report(0.02, 0.5, 0.5))[1].endswith("Holm over 3 abilities).")  # 3 x 0.02 > 0.05
    assert "reasoning, nli (95" in claims(report(0.001, 0.02, 0.5))[1]


def test_what_was_not_tested_does_not_count() -> None:
    assert claims(report(0.02, None, None))[1].endswith("Holm over 1 ability).")
    assert claims(report(None))[1].startswith("It was not tested whether an ability was harmed at all")


def test_a_curve_is_corrected_for_its_points_too() -> None:
    early, late = report(0.02, 0.5, edits=4), report(0.0001, 0.5, edits=8)
    said = curve_harm_sentence([early, late])
    assert "reasoning after 8 (95" in said  # 0.02 alone would do; among 4 looks it does not
    assert "Holm over 4 abilities and points" in said
    assert curve_harm_sentence([report(0.4, edits=1), report(0.4, edits=2)]).startswith(
        "No harm was shown at any point"
    )


def test_every_face_of_a_report_tells_of_harm() -> None:
    harmed = report(0.0001, 0.5)
    assert verdict_document(harmed)["harmed"] == ["reasoning"]
    assert "Certainly harmed, within the margin or not: reasoning" in summary(harmed, width=160, color=False)
    assert "## What this run supports" in markdown(harmed)
    assert "harmed" not in summary(report(0.5, 0.5), width=160, color=False)
