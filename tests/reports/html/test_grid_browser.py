"""grid.html in Chromium: filters, sorting, lines that can be hidden, keys, and the page without scripts."""

from pathlib import Path
from typing import Any

import pytest

from tests.reports.html.browser import OPEN_ALL, Tab
from tests.reports.html.grids import large_page, small_page
from tests.reports.html.test_escaping import HOSTILE, hostile_grid

pytestmark = pytest.mark.browser


@pytest.fixture
def small(tmp_path: Path) -> Path:
    file = tmp_path / "grid.html"
    file.write_text(small_page(), encoding="utf-8")
    return file


def titles(tab: Tab) -> list[str]:
    """The cells that are shown, in their order: editor, restraint and number of edits."""
    found = "[...document.querySelectorAll('.cells .item:not([hidden])')].map((one) => one.dataset)"
    return [f"{one['editor']} {one['restraint']} {one.get('edits', '-')}" for one in tab.page.evaluate(found)]


def test_filters_and_the_search_show_the_cells_that_fit(chromium: Any, small: Path) -> None:
    tab = Tab(chromium, small)
    assert len(titles(tab)) == 8
    form = tab.page.locator("form.filters")
    form.locator("[name=editor]").select_option("rome")
    assert titles(tab) == ["rome none 1", "rome none 10", "rome none 100", "rome rect:0.4 10", "rome none -"]
    assert form.locator("output").inner_text() == "5 of 8 shown"
    form.locator("[name=restraint]").select_option("rect:0.4")
    assert titles(tab) == ["rome rect:0.4 10"]
    form.locator("[name=editor]").select_option("")
    form.locator("[name=restraint]").select_option("")
    form.locator("[name=result]").select_option("not run")
    assert titles(tab) == ["mend none -"]
    form.locator("[name=result]").select_option("")
    form.locator("[name=model]").select_option("pocket-llama")
    assert titles(tab) == ["rome none -"]
    form.locator("[name=model]").select_option("")
    form.locator("[type=search]").fill("MEMIT, batch ")
    assert titles(tab) == ["memit none 10"]
    assert tab.complaints == []


def test_cells_are_sorted_and_those_without_a_result_come_last(chromium: Any, small: Path) -> None:
    tab = Tab(chromium, small)
    planned, sort = titles(tab), tab.page.locator("[name=sort]")
    sort.select_option("kept")
    assert titles(tab)[0] == "rome none 100" and titles(tab)[-2:] == ["mend none -", "rome none -"]
    sort.select_option("-kept")
    assert titles(tab)[5:] == ["rome none 100", "mend none -", "rome none -"]
    sort.select_option("-edits")
    assert titles(tab)[0] == "rome none 100"
    sort.select_option("")
    assert titles(tab) == planned and tab.complaints == []


def test_a_line_of_the_chart_can_be_hidden(chromium: Any, small: Path) -> None:
    tab = Tab(chromium, small)
    line = tab.page.locator("g[data-line='2']")
    assert line.is_visible()
    tab.page.locator("input[data-line='2']").uncheck()
    assert not line.is_visible() and tab.page.locator("g[data-line='1']").is_visible()
    tab.page.locator("input[data-line='2']").check()
    assert line.is_visible()


def test_the_keyboard_opens_a_cell(chromium: Any, small: Path) -> None:
    tab = Tab(chromium, small)
    cell = tab.page.locator("details.cell").first
    cell.locator("summary").focus()
    tab.page.keyboard.press("Enter")
    assert cell.locator("table").is_visible()


def test_without_scripts_everything_can_be_read_and_nothing_can_be_filtered(chromium: Any, small: Path) -> None:
    tab = Tab(chromium, small, java_script_enabled=False)
    tab.page.locator("details.cell > summary").first.click()
    assert tab.page.locator("details.cell table").first.is_visible()
    assert tab.page.locator("svg.curves path").first.is_visible()
    assert (
        not tab.page.locator("form.filters").is_visible()
        and not tab.page.locator("input[data-line]").first.is_visible()
    )


def test_a_page_of_112_cells_opens_within_a_second_of_the_browsers_work(chromium: Any, tmp_path: Path) -> None:
    file = tmp_path / "grid.html"
    file.write_text(large_page(), encoding="utf-8")
    page = chromium.new_context().new_page()
    session = page.context.new_cdp_session(page)
    session.send("Performance.enable", {"timeDomain": "threadTicks"})
    page.goto(file.as_uri())
    seconds = {one["name"]: one["value"] for one in session.send("Performance.getMetrics")["metrics"]}
    assert 0 < seconds["TaskDuration"] < 1


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_names_run_nothing(chromium: Any, tmp_path: Path, text: str) -> None:
    (tmp_path / "grid.html").write_text(hostile_grid(text), encoding="utf-8")
    tab = Tab(chromium, tmp_path / "grid.html", viewport={"width": 360, "height": 800})
    tab.page.evaluate(OPEN_ALL)
    assert tab.complaints == [] and len(tab.requests) == 1 and tab.width() == 360


def test_long_names_do_not_widen_the_page(chromium: Any, tmp_path: Path) -> None:
    (tmp_path / "grid.html").write_text(hostile_grid("w" * 300), encoding="utf-8")
    tab = Tab(chromium, tmp_path / "grid.html", viewport={"width": 360, "height": 800})
    tab.page.evaluate(OPEN_ALL)
    assert tab.width() == 360
