"""The summary in a terminal: every width holds, nothing is cut in the middle, and rounding tells no lies."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit.reports.rows import IntegrityRow, SkippedEdit
from audit.reports.run_sentences import verdict_line
from audit.reports.terminal import summary
from audit.reports.verdict_sentences import interval, points
from tests.reports.sample import ALL_PASS, FAILED, REPORT, row_with


@pytest.mark.parametrize("verbosity", [0, 1])
@pytest.mark.parametrize("ascii_only", [False, True])
@pytest.mark.parametrize("width", range(36, 140, 4))
def test_lines_fit_and_no_cell_is_cut(width: int, verbosity: int, ascii_only: bool) -> None:
    text = summary(REPORT, width=width, color=False, verbosity=verbosity, ascii_only=ascii_only)
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text
    assert text.isascii() == ascii_only
    table = text.partition("\n\n")[0].splitlines()
    for row in REPORT.abilities:
        (line,) = [line for line in table if line.startswith(row.ability + " ")]
        assert line.endswith(row.outcome)


def test_columns_go_least_needed_first() -> None:
    headings = {width: summary(REPORT, width=width, color=False).splitlines()[0].split() for width in (80, 76, 60, 36)}
    assert headings[80] == ["ability", "base", "edited", "drop", "90", "%", "interval", "margin", "n", "verdict"]
    assert headings[76] == ["ability", "base", "edited", "drop", "90", "%", "interval", "n", "verdict"]
    assert headings[60] == ["ability", "base", "edited", "drop", "n", "verdict"]
    assert headings[36] == ["ability", "drop", "verdict"]


def test_quiet_is_one_line() -> None:
    assert summary(REPORT, width=200, color=False, verbosity=-1).splitlines() == [verdict_line(REPORT)]


def test_colour_marks_outcomes_and_leaves_the_text() -> None:
    plain, colored = (summary(REPORT, width=100, color=color) for color in (False, True))
    assert "\x1b[1;31mFAIL" in colored
    assert "\x1b" not in plain


def test_damage_and_skipped_rows_are_said() -> None:
    damaged = IntegrityRow("finite logits", False, False, "Some logits are NaN.")
    skipped = tuple(SkippedEdit("zsre.json", line, "alt", "the target is empty") for line in (3, 9))
    text = summary(replace(REPORT, integrity=(damaged,), skipped=skipped), width=200, color=False)
    assert "UNSOUND  Some logits are NaN." in text
    assert "skipped 2 unusable edit requests, the first at zsre.json, line 3 (alt: the target is empty)" in text


def test_the_headline_measures_are_shown_and_the_others_at_v() -> None:
    more = replace(REPORT.edit_scores[0], measure="neighborhood accuracy")
    report = replace(REPORT, edit_scores=(*REPORT.edit_scores, more))
    assert "neighborhood accuracy" not in summary(report, width=100, color=False)
    assert "neighborhood accuracy" in summary(report, width=100, color=False, verbosity=1)


def test_markup_in_texts_is_shown_as_it_is() -> None:
    report = replace(ALL_PASS, header=replace(ALL_PASS.header, model="[red]/models[0]"), unasked={"ner": "[bold]x[/]"})
    text = summary(report, width=100, color=False)
    assert "[red]/models[0]" in text
    assert "[bold]x[/]" in text


@given(value=st.floats(-1, 1))
def test_points_round_and_zero_has_no_sign(value: float) -> None:
    assert float(points(value)) == pytest.approx(value, abs=0.0005001)
    assert points(value) != "-0.000"


def test_sound_checks_share_a_line_and_speak_for_themselves_at_v() -> None:
    assert "\nsound: finite weights\n" in summary(ALL_PASS, width=100, color=False)
    assert "\nsound  all weights are finite\n" in summary(ALL_PASS, width=100, color=False, verbosity=1)


@given(lower=st.floats(-1, 1), upper=st.floats(-1, 1))
def test_intervals_are_never_printed_narrower_than_they_are(lower: float, upper: float) -> None:
    shown = interval(replace(FAILED.verdict, lower=lower, upper=upper)).strip("[]").split(", ")
    assert float(shown[0]) <= lower + 1e-9
    assert float(shown[1]) >= upper - 1e-9


def test_an_empty_report_is_undecided_and_says_what_to_do() -> None:
    text = summary(replace(REPORT, abilities=(), edit_scores=(), integrity=()), width=100, color=False)
    assert "INCONCLUSIVE: memit on pocket-gpt2, 10 edits in one batch: no verdict" in text
    assert text.splitlines()[-1].startswith("Next: run a suite")


def test_a_gain_is_a_negative_drop() -> None:
    gained = row_with(FAILED, outcome="PASS", drop=-0.1, lower=-0.15, upper=-0.05)
    assert "-0.100  [-0.150, -0.050]" in summary(replace(REPORT, abilities=(gained,)), width=100, color=False)
