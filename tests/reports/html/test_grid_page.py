"""grid.html: findings, a chart of each model, every cell with its abilities, and nothing of the items."""

import re
from dataclasses import replace

from audit.reports.html.grid_page import grid_html
from tests.reports.html.grids import COMMAND, FINDINGS, absent_cells, large_page, small_grid, small_page
from tests.reports.html.pages import Page
from tests.workflows.grid.made_results import made, sequence


def test_every_cell_opens_to_its_abilities_its_edits_and_its_command() -> None:
    page = Page(small_page())
    assert page.wrong == []
    cells = page.all("details", "cell")
    assert len(cells) == len(small_grid()) == 6
    texts = [" ".join(one.text.split()) for one in cells]
    (ten,) = (one for one in texts if one.startswith("rome, instance-sequential pocket-gpt2 edits 10 kept 0."))
    assert "harmed 2 of 2 efficacy at once 1.00 at the end 1.00" in ten and COMMAND in ten
    limits, number = r"\[0\.\d{3}, 0\.\d{3}\]", r"0\.\d{3}"
    line = rf"reasoning✗ FAIL0\.[56]\d\d {limits}{number} {limits}{number} to {number}40[\d.e-]+likelihoodplain"
    assert re.search(line, ten), ten
    assert "cells/pocket-gpt2_rome_instance-sequential_10x1.json" in ten


def test_cells_without_a_result_are_there_with_the_reason() -> None:
    page = Page(small_page())
    assert [" ".join(one.text.split()) for one in page.all("p", "absent")] == [
        "mend, batch-single, 10 edits pocket-gpt2 not run",
        "rome, instance-sequential, 1 edit pocket-llama failed: --edit-count 999 is too many",
    ]
    assert [one.text for one in page.all("p")[:3]] == [
        "6 of 8 cells have results.",
        "1 are not run, so findings can still change.",
        "1 failed; each says why.",
    ]
    items = page.all("li", "item")
    assert [one.attributes["data-result"] for one in items].count("done") == 6
    assert {one.attributes["data-result"] for one in items} == {"done", "not run", "failed"}


def test_the_findings_have_a_criterion_a_word_and_figures() -> None:
    first, second = Page(small_page()).all("details", "ability")
    assert "1. Abilities drift down." in first.text and "pocket-gpt2: appears" in first.text
    assert "Appears if: The loss grows." in first.text and "ROME: 1: 0.1, 10: 0.4." in first.text
    assert "pocket-gpt2: not measured" in second.text


def test_the_chart_has_a_line_for_each_series_and_the_band_of_the_unedited_model() -> None:
    page = Page(small_page())
    assert "moves by less than 0.001" in page.one("figcaption").text
    names = [" ".join(one.text.split()) for one in page.all("label")[:3]]
    assert names == ["memit, batch-single", "rome, instance-sequential", "rome + rect:0.4, instance-sequential"]
    titles = [one.text for one in page.all("title")[1:]]
    assert len(titles) == 5 and titles[0].startswith("memit, batch-single, 10: 0.9")
    assert len(page.all("rect", "band")) == 1


def test_filters_and_sorting_find_what_they_need() -> None:
    page = Page(small_page())
    (least,) = [one for one in page.all("li", "item") if one.attributes.get("data-edits") == "100"]
    assert least.attributes["data-editor"] == "rome" and least.attributes["data-restraint"] == "none"
    assert 0.1 < float(least.attributes["data-kept"] or "") < 0.3
    offered = {one.attributes["name"]: one.text for one in page.all("select")}
    assert offered["restraint"] == "allnonerect:0.4" and offered["model"] == "allpocket-gpt2pocket-llama"


def test_the_page_has_nothing_of_the_items_and_asks_for_nothing_but_files_beside_it() -> None:
    text = small_page()
    assert not re.search(r"(reasoning|sentiment)/\d", text)
    assert not re.search(r"https?:|@import|url\(", text)
    page = Page(text)
    hrefs = {one.attributes["href"] or "" for one in page.all("a")}
    assert {one for one in hrefs if not one.startswith("cells/")} == {"grid.csv", "grid.md", "findings.md"}
    ids = [one.attributes["id"] for one in page.elements if "id" in one.attributes]
    assert len(ids) == len(set(ids))


def test_a_hundred_cells_of_eight_abilities_are_below_a_megabyte() -> None:
    text = large_page()
    assert 400_000 < len(text.encode()) < 1_000_000
    page = Page(text)
    assert len(page.all("details", "cell")) == 112 and len(page.all("svg", "curves")) == 2
    assert len(page.all("tr")) >= 112 * 9


def test_cells_without_scores_have_a_chart_of_mean_drops_and_no_shares() -> None:
    page = Page(grid_html([*sequence("rome", {1: 0.9, 10: 0.5}), made("kn", "instance-single", 5, 0.1)], {}))
    assert page.wrong == [] and page.one("figcaption").text.startswith("Mean drop of the abilities in score points")
    assert [one.text for one in page.all("title")[1:]] == [
        "rome, instance-sequential, 1: 0.000",
        "rome, instance-sequential, 10: 0.400",
    ]
    assert "mean kept" not in page.one("div", "cells-head").text and not page.all("rect", "band")


def test_a_collapse_damaged_weights_and_abilities_that_were_not_asked_are_alerts() -> None:
    one = small_grid()[0]
    broken = replace(one.report.integrity[0], sound=False, sentence="3 weights are not finite.")
    report = replace(
        one.report, collapse="It collapsed.", integrity=(broken,), unasked={"ner": "row 'A secret' is bad"}
    )
    page = Page(grid_html([replace(one, report=report)], {"pocket-gpt2": FINDINGS}))
    assert [alert.text for alert in page.all("p", "alert")] == [
        "It collapsed.",
        "3 weights are not finite.",
        "Not asked: ner; the file of the cell says why.",
    ]
    assert "secret" not in page.source and not page.all("svg", "curves")


def test_models_without_any_result_are_listed_last() -> None:
    page = Page(small_page())
    models = [one.attributes["data-model"] for one in page.all("li", "item")]
    assert models == ["pocket-gpt2"] * 7 + ["pocket-llama"] and len(absent_cells()) == 2
