"""report.html: the verdict first, one row an ability, and everything in one file that needs no network."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from audit.reports.html.run_page import run_html
from audit.reports.rows import IntegrityRow, RunReport, SkippedEdit
from audit.reports.run_sentences import next_step, verdict_reason
from tests.reports.html.pages import Page, large_report, record, report_of
from tests.reports.sample import ALL_PASS, FAILED, REPORT, row_with

GOLDEN = Path(__file__).parent / "golden" / "report.html"


def test_the_page_opens_with_the_verdict_its_reason_and_what_to_do() -> None:
    page = Page(run_html(REPORT))
    assert page.one("title").text == "FAIL: memit on pocket-gpt2"
    assert " ".join(page.one("h1").text.split()) == "✗ FAIL memit on pocket-gpt2"
    assert page.all("p")[0].text == verdict_reason(REPORT) + "."
    assert page.one("p", "next").text == next_step(REPORT)


@pytest.mark.parametrize("report", [REPORT, ALL_PASS, report_of(record()), RunReport(REPORT.header)])
def test_every_tag_is_closed_and_every_id_is_there_once(report: RunReport) -> None:
    page = Page(run_html(report))
    assert page.wrong == []
    ids = [one.attributes["id"] for one in page.elements if "id" in one.attributes]
    assert len(ids) == len(set(ids))
    targets = {(one.attributes["href"] or "")[1:] for one in page.all("a") if (one.attributes["href"] or "")[0] == "#"}
    assert targets == {f"ability-{number}" for number in range(1, len(report.abilities) + 1)}


def test_the_page_asks_for_nothing_but_itself() -> None:
    text = run_html(large_report(items=2))
    assert not re.search(r"https?:|@import|url\(", text)
    page = Page(text)
    assert [one.attributes for one in page.all("script")] == [{}]
    links = [one for one in page.elements if {"src", "href"} & one.attributes.keys()]
    assert {one.attributes["href"] for one in links if one.attributes["href"][0] != "#"} == {  # type: ignore[index]
        "verdict.json", "items.jsonl", "report.md"
    }  # fmt: skip
    policy = next(one.attributes["content"] for one in page.all("meta") if "http-equiv" in one.attributes)
    assert policy is not None and policy.startswith("default-src 'none'; ")


def test_an_ability_opens_to_its_sentence_and_its_numbers() -> None:
    row = row_with(FAILED, reading="answers", prompting="4 examples", harm_p=0.002, trials=("answers, chat: base 0.1",))
    page = Page(run_html(replace(REPORT, abilities=(row,))))
    ability = page.one("details", "ability").text
    assert row.sentence in ability
    facts = dict(re.findall(r"<dt>([^<]+)</dt><dd>([^<]+)</dd></div>", run_html(replace(REPORT, abilities=(row,)))))
    assert facts["reading"] == "answers" and facts["prompting"] == "4 examples" and facts["floor"] == "0.030"
    assert facts["90 % interval"] == "[0.190, 0.291]" and facts["margin"] == "0.050" and facts["items"] == "200"
    assert facts["p-value of harm"] == "0.002" and facts["lost, won"] == "50, 2"
    assert facts["unparseable, base and edited"] == "0.0 %, 3.5 %"
    assert "answers, chat: base 0.1" in ability


def test_the_chart_has_a_word_and_a_shape_for_each_verdict() -> None:
    page = Page(run_html(REPORT))
    strips = [one for one in page.all("svg", "strip") if "role" in one.attributes]
    assert [one.attributes["aria-label"] for one in strips] == [
        "drop 0.240, limits [0.190, 0.291], margin 0.050",
        "drop 0.005, limits [-0.013, 0.024], margin 0.050",
        "drop 0.020, limits [-0.021, 0.061], margin 0.050",
    ]
    chart = page.one("figure", "chart").text
    assert all(word in chart for word in ("✗ FAIL", "✓ PASS", "? INCONCLUSIVE"))
    assert len({one.attributes["d"] for one in page.all("path")}) == 3


def test_an_item_has_both_answers_with_their_difference_and_what_a_filter_needs() -> None:
    item = record(mentions=("Mara Lind", "Velden"))
    page = Page(run_html(report_of(item, record("reasoning/2", flips=(), edited=" 10"))))
    shown = page.one("li", "item")
    assert (shown.attributes["data-change"], shown.attributes["data-mentions"]) == ("lost", "yes")
    assert "mentions Mara Lind, Velden" in shown.text and "1.000 to 0.000" in shown.text
    assert page.one("p", "prompt").text == "Question: é?\nAnswer:"
    assert (page.one("dd", "base").text, page.one("dd", "edited").text) == (" 10", " 12")
    assert (page.one("del").text, page.one("ins").text) == ("10", "12")
    assert "1 of 200 items changed" in page.one("details", "ability").text


def test_the_other_parts_are_there_when_they_have_content() -> None:
    report = replace(
        REPORT,
        skipped=tuple(SkippedEdit("z.json", line, "alt", "empty") for line in range(25)),
        unasked={"ner": "no rows"},
        collapse="The model collapsed.",
        edit_notes=("case-1: long",),
        failed_tests=("suites/test_edit.py::test_it",),
        integrity=(*REPORT.integrity, IntegrityRow("unchanged models", 1.0, True, "Nothing was changed.")),
    )
    page = Page(run_html(report))
    assert [one.text for one in page.all("p", "alert")] == [
        "Nothing was changed.",
        "The model collapsed. No ability was asked.",
    ]
    text = page.one("main").text
    for part in ("and 15 more, in verdict.json", "ner: no rows", "case-1: long", "test_edit.py::test_it", "0f" * 32):
        assert part in text
    headings = {one.text for one in Page(run_html(ALL_PASS)).all("h2")}
    assert not headings & {"Skipped edits", "Not asked", "Notes on edits", "Other tests that failed"}


def test_a_page_of_eight_abilities_with_200_long_items_each_is_below_a_megabyte() -> None:
    page = run_html(large_report())
    assert 700_000 < len(page.encode()) < 1_000_000
    parsed = Page(page)
    kinds = {one.attributes["data-change"] for one in parsed.all("li", "item")}
    assert kinds == {"lost", "won"}
    assert re.search(r"200 of 200 items changed; \d+ of them are here, all are in items\.jsonl", page)


def test_a_run_without_texts_has_keys_and_scores() -> None:
    numbers = {"prompt": "", "gold": (), "base": replace(record().base, text=""), "edited": record(edited="").edited}
    item = replace(record(), **numbers)  # type: ignore[arg-type]
    page = Page(run_html(replace(report_of(item), settings={"item_texts": False})))
    shown = page.one("li", "item").text
    assert "reasoning/1" in shown and "1.000 to 0.000" in shown
    assert not page.all("p", "prompt") and not page.all("dd", "base")
    assert "items.jsonl with all items, without their texts" in page.one("main").text


def test_the_body_of_a_small_page_is_the_one_on_file() -> None:
    """Where the change is wanted: write `body(...)` into the file and read the difference before you commit it."""
    small = replace(report_of(record(mentions=("Mara Lind",))), edit_scores=REPORT.edit_scores[:1])
    assert body(run_html(small)) == GOLDEN.read_text(encoding="utf-8")


def body(page: str) -> str:
    """What is between the tags of `main`."""
    return page.split("<main>")[1].split("</main>")[0]
