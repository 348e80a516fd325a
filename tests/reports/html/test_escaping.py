"""Nothing that came from a model, a data file, an edit request or a path becomes markup, and nothing stays unseen."""

import html
import re
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit.measures.checkpoint_diff import CheckpointDiff
from audit.reports.html.changed_items import ANSWER_WIDTH
from audit.reports.html.findings_page import Findings, FindingsTable, findings_html
from audit.reports.html.grid_page import grid_html
from audit.reports.html.page import prose, visible
from audit.reports.html.run_page import run_html
from audit.reports.rows import EditScore, IntegrityRow, SkippedEdit
from audit.reports.workflows.checkpoint_diff import diff_html
from audit.reports.workflows.grid_findings import Finding
from tests.reports.html.pages import Page, record, report_of
from tests.reports.sample import FAILED
from tests.reports.workflows.test_checkpoint_diff import WHERE
from tests.workflows.grid.made_results import graded

HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' onmouseover='alert(1)",
    "</script></style></title><svg onload=alert(1)>",
    "<!-- --> ]]> {{ 7 * 7 }} {% raw %} &amp; &lt;",
    "user\u202etxt.exe\u2066",
    "a\x00b\x0bc\x1bd\x85e\u2028f\ud800g",
)
KINDS = {"html", "head", "meta", "title", "style", "body", "main", "script"}


def everywhere(text: str) -> str:
    """A page on which every text of a stranger is `text`."""
    item = record(f"reasoning/{text}", f"1 {text}", f"2 {text}", prompt=text, gold=(text,), mentions=(text,))
    header: dict[str, Any] = {name: text for name in ("model", "editor", "edits", "plan", "data", "editing_caveats")}
    row = replace(FAILED, title=text, metric=text, prompting=text, trials=(text,), beside={text: (0.1, 0.2)})
    report = replace(
        report_of(item),
        header=replace(report_of().header, **{**header, "editing_caveats": (text,)}),
        abilities=(row,),
        edit_scores=(EditScore(text, text, 0.5, 1),),
        integrity=(IntegrityRow(text, 0.5, False, text),),
        skipped=(SkippedEdit(text, 1, text, text),),
        unasked={text: text},
        failed_tests=(text,),
        edit_notes=(text,),
        collapse=text,
        command=text,
        fingerprints={text: text},
        versions={text: text},
        settings={"editor": text},
        seconds={text: 1.0},
    )
    return run_html(report)


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_a_hostile_text_makes_no_element_and_no_attribute(text: str) -> None:
    hostile, harmless = Page(everywhere(text)), Page(everywhere("plain"))
    assert hostile.wrong == []
    shape = [(one.tag, sorted(one.attributes)) for one in harmless.elements if one.tag not in ("del", "ins")]
    assert [(one.tag, sorted(one.attributes)) for one in hostile.elements if one.tag not in ("del", "ins")] == shape
    assert "onerror" not in {name for one in hostile.elements for name in one.attributes}
    assert visible(text) in hostile.one("p", "prompt").text


def hostile_grid(text: str) -> str:
    """A grid whose names and settings are all `text`: of one cell with a result, and of one without."""
    result = graded("rome", "instance-sequential", 10, 0.8)
    cell = replace(result.cell, model=text, editor=text, restraint=text, edits=text, config=(text,))
    named = {"prompting": text, "reading": text}
    rows = [replace(row, ability=f"{text}{k}", **named) for k, row in enumerate(result.report.abilities)]
    report = replace(result.report, abilities=tuple(rows), command=text, collapse=text, unasked={text: text})
    report = replace(report, fingerprints={"edits": text})
    scores = tuple(replace(one, ability=f"{text}{k}") for k, one in enumerate(result.scores))
    result = replace(result, cell=cell, report=report, scores=scores)
    findings = {text: (Finding(1, text, text, True, (text,)),)}
    return grid_html([result], findings, None, {replace(cell, mode=f"z{text}"): text})


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_a_hostile_name_in_a_grid_is_text(text: str) -> None:
    hostile, harmless = Page(hostile_grid(text)), Page(hostile_grid("plain"))
    assert hostile.wrong == []
    shape = [(one.tag, sorted(one.attributes)) for one in harmless.elements]
    assert [(one.tag, sorted(one.attributes)) for one in hostile.elements] == shape
    assert "onerror" not in {name for one in hostile.elements for name in one.attributes}
    item = hostile.all("li", "item")[0]
    assert item.attributes["data-editor"] == item.attributes["data-model"] == visible(text)
    assert visible(text) in hostile.one("h1").text and visible(text) in hostile.one("p", "absent").text


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_names_of_tensors_and_checkpoints_are_text(text: str) -> None:
    named = replace(WHERE[0], name=text, role=text)
    page = Page(diff_html(CheckpointDiff(text, text, text, 9, 8, (named,)), "<svg/>"))
    assert page.wrong == [] and len(page.all("script")) == 1 and not page.all("svg")
    (name,) = [one.text for one in page.all("th", "left") if one.attributes["scope"] == "row"]
    assert name == visible(text) and visible(text) in page.all("li")[0].text


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_results_are_text(text: str) -> None:
    row = replace(FAILED, ability=text, title=text, metric=text, model=text, reading="")
    item = replace(record("x/1", text, f"1 {text}", prompt="", gold=(text,)), ability=text)
    header = replace(report_of().header, model=text, editor=text, plan=text, compared=True, result_caveats=(text,))
    report = replace(report_of(item), header=header, abilities=(row,), steps=(replace(row, ability=f"{text} since"),))
    page = Page(run_html(report))
    assert page.wrong == [] and len(page.all("script")) == 1 and not page.all("img")
    assert " ".join(page.one("h1").text.split()).startswith("✗ FAIL") and visible(text) in page.one("h1").text
    assert page.one("dd", "base").text == visible(text) and page.one("p", "alert").text == visible(text)


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_a_hostile_finding_is_text(text: str) -> None:
    table = FindingsTable(text, [text, text], [[text, text]])
    page = Page(findings_html(Findings(text, [text], [text], [table], [text], "<svg/>", text)))
    assert page.wrong == [] and len(page.all("script")) == 1 and not page.all("svg")
    assert page.one("h1").text == page.one("td").text == page.one("img").attributes["alt"] == visible(text)


def test_what_cannot_be_seen_is_written_out() -> None:
    page = everywhere(HOSTILE[-2] + HOSTILE[-1])
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]", page)
    assert r"user\u202etxt.exe\u2066a\x00b\x0bc\x1bd\x85e\u2028f\ud800g" in page
    assert page.encode()  # a lone surrogate has no UTF-8
    kept = "naïve 日本語\u3000\u0645\u06cc\u200c\u062e\u0648 👩\u200d🚀\ttab\n"  # joiners belong to their words
    assert visible(kept) == kept


def test_a_line_of_100_kilobytes_keeps_its_ends() -> None:
    long = "<" * 50_000 + ">" * 50_000
    text = everywhere(long)
    assert len(Page(text).one("dd", "base").text) < ANSWER_WIDTH + 50
    assert "[... 99,602 characters left out ...]" in Page(text).one("dd", "base").text
    assert len(run_html(report_of(record("reasoning/1", long, "x"))).encode()) < 60_000


@given(st.text(st.characters(), max_size=ANSWER_WIDTH - 2), st.text(st.characters(), max_size=ANSWER_WIDTH))
def test_any_answer_is_escaped_exactly_once(base: str, edited: str) -> None:
    page = run_html(report_of(record("reasoning/1", f"b{base}", edited)))
    found = re.search(r'base" dir="auto">(.*?)</dd>.*?edited" dir="auto">(.*?)</dd>', page, re.DOTALL)
    assert found is not None
    for markup, text in zip(found.groups(), (f"b{base}", edited), strict=True):
        escaped = re.sub("</?(?:del|ins)>", "", markup)
        assert not set(escaped) & set("<>\"'")
        assert html.unescape(escaped) == visible(text)
        assert escaped == html.escape(visible(text)).replace("&quot;", "&#34;").replace("&#x27;", "&#39;")


def test_marks_of_sentences_are_markup_and_their_texts_are_not() -> None:
    assert prose("try `audit diff <a>` *or* <b>") == (
        "try <code>audit diff &lt;a&gt;</code> <em>or</em> &lt;b&gt;"
    )  # fmt: skip
