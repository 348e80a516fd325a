"""report.md: well-formed tables and fences whatever a model wrote."""

import re
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from audit.reports.markdown import literal, markdown, one_line
from audit.reports.rows import Example, SkippedEdit
from tests.reports.sample import ALL_PASS, FAILED, REPORT


def test_the_report_opens_with_the_verdict_and_ends_with_what_to_do() -> None:
    lines = markdown(REPORT).splitlines()
    assert lines[0] == "# FAIL: memit on `pocket-gpt2`"
    assert lines[2] == "1 PASS, 1 FAIL, 1 INCONCLUSIVE."
    assert lines[-1].startswith("Next: ")


def test_every_row_of_a_table_has_as_many_cells_as_its_heading() -> None:
    rows = [line for line in markdown(REPORT).splitlines() if line.startswith("|")]
    tables = "\n".join(rows).split("| measure")
    for table in tables:
        assert len({len(re.findall(r"(?<!\\)\|", row)) for row in table.splitlines()[1:]}) == 1


def test_all_parts_stand_in_it() -> None:
    text = markdown(REPORT)
    for part in ("## Abilities", "## The edit itself", "## Integrity", "## Skipped edits (1)", "## What changed"):
        assert part in text
    assert "**reasoning**: 131 of 200 answers changed." in text
    assert "rouge1: base 0.720, edited 0.700." in text
    assert "pytest suites/ --editor memit" in text
    assert "- torch: `2.13.0`" in text


def test_parts_without_content_are_left_out() -> None:
    text = markdown(replace(ALL_PASS, edit_scores=(), integrity=()))
    assert not re.search("## (The edit|Integrity|Skipped|What changed)", text)


def test_backticks_and_fences_of_a_model_break_nothing() -> None:
    wild = Example("k", "```\nrm\n````", "`gold`", "a\n# not a\x01 heading\n| x |", "")
    text = markdown(replace(REPORT, abilities=(replace(FAILED, examples=(wild,)),)))
    assert "`````text\n```\nrm\n````\n`````" in text
    assert "- base: `a # not a\\x01 heading | x |`" in text
    assert "- edited: (nothing)" in text


def test_many_skipped_rows_are_cut_short() -> None:
    skipped = tuple(SkippedEdit("z.json", line, "alt", "empty") for line in range(25))
    text = markdown(replace(REPORT, skipped=skipped))
    assert "## Skipped edits (25)" in text
    assert "- and 15 more, in `verdict.json`" in text


def test_a_name_of_markup_is_shown_as_it_is() -> None:
    name = "a*b*|<script> c_d"
    row = replace(FAILED, ability=name)
    report = replace(REPORT, abilities=(row,), steps=(row,), unasked={"x: *y*": "no rows"})
    parsed = MarkdownIt("commonmark", {"html": True}).enable("table").parse(markdown(report))
    shown = "\n".join(part.content for token in parsed for part in token.children or () if part.type == "text")
    assert not [token for token in parsed if "html" in token.type]
    assert shown.count(name) == shown.count("a*b") == 4  # in two tables and two lists
    assert "1 FAIL, not asked x: *y*." in shown


@given(st.text(st.sampled_from("ab_*`|<>[]!&\\~ \n"), max_size=12))
def test_foreign_text_is_read_back_as_it_was(text: str) -> None:
    (_, inline, _), *rest = [MarkdownIt("commonmark", {"html": True}).parse(f"x {literal(text)} x")]
    assert not rest
    parts = inline.children or []
    assert {part.type for part in parts} <= {"text", "text_special"}
    assert "".join(part.content for part in parts) == f"x {one_line(text)} x"
