"""The preflight report as a table and as sentences: prospects, remedies, and numbers rounded to the safe side."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit.reports.workflows.preflight import (
    AT_THE_FLOOR,
    CERTIFIABLE,
    DEPENDS,
    TOO_SMALL,
    AbilityPreflight,
    PreflightReport,
    in_minutes,
    preflight_markdown,
    preflight_summary,
    rounded_up,
)
from tests.reports.sample import HEADER

FITS = AbilityPreflight(
    ability="nli",
    protocol="standard",
    items=277,
    clusters=270,
    changes=0.05,
    smallest_drop=0.0301,
    smallest_margin=0.0351,
    margin=0.05,
    asked_margin="0.05",
    changes_from="20261121-101500-memit-pocket-gpt2",
    seconds=90.0,
)
SHORT = replace(
    FITS,
    ability="reasoning",
    margin=0.02,
    asked_margin="0.02",
    available=1319,
    limit_enough=900,
    smallest_with_all=0.015,
    changes_from=None,
    seconds=30.0,
)
SHARE = replace(FITS, ability="summarization", margin=None, asked_margin="90%", needed_base=0.4)
REPORT = PreflightReport(
    HEADER, (FITS, SHORT, SHARE), {"ner": "the folder holds no conll2003.jsonl"}, "minutes: measured."
)


@pytest.mark.parametrize(
    ("row", "prospect", "remedy", "sentence"),
    [
        (FITS, CERTIFIABLE, "", "nli: a margin of 0.05 can be certified (smallest: 0.036); a drop of 0.031 would be"),
        (SHORT, TOO_SMALL, "--limit 900", "which certify 0.036: about --limit 900 is enough, and the data has 1319."),
        (
            replace(SHORT, available=500, smallest_with_all=0.03),
            TOO_SMALL,
            "more data: 900",
            "about --limit 900 is enough; the data has 500, which certify 0.030.",
        ),
        (
            replace(SHORT, available=277, smallest_with_all=0.0351),
            TOO_SMALL,
            "more data: 900",
            "about --limit 900 is enough, but the data has only 277.",
        ),
        (
            replace(SHORT, limit_enough=None),
            TOO_SMALL,
            "a larger margin",
            "no affordable number of items is enough;",
        ),
        (replace(FITS, smallest_margin=None, available=5), TOO_SMALL, "a larger margin", "which certify none"),
        (SHARE, DEPENDS, "", "a margin of 90% can be certified if the base score is at least 0.400;"),
        (replace(SHARE, margin=0.08, needed_base=None), CERTIFIABLE, "", "a margin of 90% (0.080) can be certified"),
        (replace(FITS, at_the_floor=True), AT_THE_FLOOR, "", "as it was not in 20261121-101500-memit-pocket-gpt2."),
    ],
)
def test_a_prospect_has_a_remedy_and_a_sentence(
    row: AbilityPreflight, prospect: str, remedy: str, sentence: str
) -> None:
    assert (row.prospect, row.remedy) == (prospect, remedy)
    assert sentence in row.sentence


def test_the_margin_that_is_just_reached_can_be_certified() -> None:
    assert replace(FITS, margin=FITS.smallest_margin).prospect == CERTIFIABLE
    assert replace(FITS, margin=0.0350, available=277).prospect == TOO_SMALL


@pytest.mark.parametrize("ascii_only", [False, True])
@pytest.mark.parametrize("width", range(40, 140, 10))
def test_lines_fit_and_the_prospect_always_stays(width: int, ascii_only: bool) -> None:
    text = preflight_summary(REPORT, width=width, color=False, ascii_only=ascii_only)
    assert max(map(len, text.splitlines())) <= width
    assert text.isascii() == ascii_only
    for row in REPORT.abilities:
        (line,) = [line for line in text.partition("\n\n")[0].splitlines() if line.startswith(row.ability)]
        assert row.prospect in line


def test_a_wide_terminal_shows_every_column() -> None:
    first, _, *rows = preflight_summary(REPORT, width=120, color=False).splitlines()
    headings = "ability items clusters minutes changes sees certifies margin prospect remedy"
    assert " ".join(first.split()) == headings
    assert " ".join(rows[1].split()) == "reasoning 277 270 0.50 5.0 % assumed 0.031 0.036 0.02 too small --limit 900"


def test_the_notes_tell_what_was_assumed_and_what_is_missing() -> None:
    text = " ".join(preflight_summary(REPORT, width=400, color=False).split())
    assert "changes: as many as in 20261121-101500-memit-pocket-gpt2 (nli, summarization)." in text
    assert "changes: assumed, because there is no past run to estimate them from (reasoning)." in text
    assert "ner cannot be asked: the folder holds no conll2003.jsonl" in text
    assert "minutes: measured." in text
    assert "--early-stop" not in text
    assert text.endswith(
        "PREFLIGHT: memit on pocket-gpt2: 1 of 3 margins can be certified, about 3.5 minutes of answers, "
        "cannot be asked: ner"
    )
    assert "the minutes are an upper limit" in preflight_summary(
        replace(REPORT, early_stop=True), width=400, color=False
    )


def test_minutes_that_are_not_known_are_not_summed() -> None:
    report = replace(REPORT, abilities=(FITS, replace(SHORT, seconds=None)))
    assert report.seconds is None
    assert "minutes of answers" not in report.verdict_line


def test_quiet_is_one_line() -> None:
    assert preflight_summary(REPORT, width=200, color=False, verbosity=-1) == REPORT.verdict_line


def test_markdown_holds_the_table_and_the_notes() -> None:
    text = preflight_markdown(REPORT)
    assert text.startswith(f"# {REPORT.verdict_line}\n")
    assert "| reasoning | 277 | 270 | 0.50 | 5.0 % assumed | 0.031 | 0.036 | 0.02 | too small | --limit 900 |" in text
    assert f"- {SHORT.sentence}" in text
    assert REPORT._repr_markdown_() == text
    assert "| ability" not in preflight_markdown(replace(REPORT, abilities=()))


@given(st.floats(0, 1))
def test_a_number_is_never_shown_smaller_than_it_is(value: float) -> None:
    assert value - 1e-9 <= float(rounded_up(value)) < value + 0.001 + 1e-9


@pytest.mark.parametrize(
    ("seconds", "text"), [(None, "?"), (0.1, "<0.01"), (6, "0.10"), (90, "1.5"), (3600, "60"), (840, "14")]
)
def test_minutes_are_as_exact_as_they_deserve(seconds: float | None, text: str) -> None:
    assert in_minutes(seconds) == text
