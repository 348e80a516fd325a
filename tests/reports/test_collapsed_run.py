"""A run whose edited model collapsed: a FAIL, said everywhere in the same words, with what to do next."""

import json
from dataclasses import replace

import pytest

from audit.reports.json_report import report_from_json, verdict_json
from audit.reports.markdown import markdown
from audit.reports.merged import merged, packed, unpacked
from audit.reports.rows import RunReport
from audit.reports.run_sentences import next_step, verdict_line
from audit.reports.terminal import summary
from tests.reports.sample import ALL_PASS, HEADER

SENTENCE = "The edited model has collapsed: its logits on plain text are NaN or infinite."
COLLAPSED = RunReport(HEADER, collapse=SENTENCE)
LINE = "FAIL: memit on pocket-gpt2, 10 edits in one batch: collapsed, so no ability was asked"


def test_it_fails_whatever_else_was_found() -> None:
    assert COLLAPSED.outcome == "FAIL"
    assert verdict_line(COLLAPSED) == LINE
    assert replace(ALL_PASS, collapse=SENTENCE).outcome == "FAIL"


@pytest.mark.parametrize("width", [20, 80, 300])
def test_the_terminal_gives_the_reason(width: int) -> None:
    text = summary(COLLAPSED, width=width, color=False)
    assert " ".join(text.split()).startswith(SENTENCE)
    assert "\x1b[1;31m" in summary(COLLAPSED, width=width, color=True).splitlines()[0]


def test_a_quiet_terminal_shows_the_verdict_line_only() -> None:
    assert summary(COLLAPSED, width=200, color=False, verbosity=-1) == LINE


def test_the_markdown_gives_the_reason() -> None:
    text = markdown(COLLAPSED)
    assert f"\n\n**{SENTENCE}** No ability was asked.\n\n" in text
    assert text.splitlines()[2] == "collapsed, so no ability was asked."


def test_what_to_do_next_names_the_way_to_see_the_abilities() -> None:
    assert next_step(COLLAPSED) == (
        "Next: do not ship these weights; try --edit-count 5 or another editor, "
        "or measure what is left of each ability with --no-triage."
    )


def test_it_survives_being_stored() -> None:
    text = verdict_json(COLLAPSED)
    assert json.loads(text)["collapse"] == SENTENCE
    assert report_from_json(text, origin="verdict.json") == COLLAPSED


def test_one_process_that_found_it_is_enough() -> None:
    parts = [replace(ALL_PASS, abilities=()), unpacked(packed(COLLAPSED))]
    for order in (parts, parts[::-1]):
        whole = merged(order)
        assert (whole.collapse, whole.outcome) == (SENTENCE, "FAIL")
