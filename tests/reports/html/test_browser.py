"""report.html in Chromium: no errors, filters that filter, keys that open, and no violation of WCAG 2.2 A and AA.

The browser is the system's (`apt-get install chromium`); nothing is downloaded. Without it these tests are skipped.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from audit.reports.html.run_page import run_html
from tests.reports.html.browser import OPEN_ALL, Tab
from tests.reports.html.pages import large_report, record, report_of, scored
from tests.reports.html.test_escaping import HOSTILE, everywhere

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("large") / "report.html"
    file.write_text(run_html(large_report()), encoding="utf-8")
    return file


@pytest.fixture
def small(tmp_path: Path) -> Path:
    likely = {"base": scored((-1.0, -2.0, -0.5), 0.8), "edited": (scored((-1.5, -9.2, -30.5), 0.1),)}
    items = [record(), record("reasoning/2", mentions=("Mara Lind",)), replace(record("reasoning/3"), **likely)]
    file = tmp_path / "report.html"
    file.write_text(run_html(report_of(*items)), encoding="utf-8")
    return file


def test_a_page_of_a_megabyte_opens_within_a_second_and_asks_for_nothing(chromium: Any, large: Path) -> None:
    """A second of the browser's own work, so that other work on the machine does not count."""
    page = chromium.new_context().new_page()
    session = page.context.new_cdp_session(page)
    session.send("Performance.enable", {"timeDomain": "threadTicks"})
    page.goto(large.as_uri())
    seconds = {one["name"]: one["value"] for one in session.send("Performance.getMetrics")["metrics"]}
    assert 0 < seconds["TaskDuration"] < 1
    tab = Tab(chromium, large)
    assert (tab.complaints, tab.requests) == ([], [large.as_uri()])


def test_filters_show_the_items_that_fit(chromium: Any, large: Path) -> None:
    tab = Tab(chromium, large)
    ability = tab.page.locator("#ability-1")
    tab.page.evaluate(OPEN_ALL)
    everything, others, output = tab.shown(1), tab.shown(2), ability.locator("output")
    ability.locator("select").select_option("won")
    won = tab.shown(1)
    assert 0 < won < everything
    assert output.inner_text() == f"{won} of {everything} shown"
    ability.locator("select").select_option("lost")
    assert tab.shown(1) == everything - won
    ability.locator("[type=checkbox]").check()
    assert 0 < tab.shown(1) < everything - won
    ability.locator("[type=checkbox]").uncheck()
    ability.locator("select").select_option("")
    key = ability.locator(".item h4").nth(1).inner_text().split()[0]
    ability.locator("[type=search]").fill(key.upper() + " ")
    assert 1 <= tab.shown(1) < everything
    ability.locator("[type=search]").fill("nowhere to be found")
    assert tab.shown(1) == 0 and tab.shown(2) == others
    assert tab.complaints == []


def test_the_keyboard_opens_an_ability_and_a_link_of_the_chart_too(chromium: Any, small: Path) -> None:
    tab = Tab(chromium, small)
    for _ in range(2):
        tab.page.keyboard.press("Tab")
    assert tab.page.evaluate("document.activeElement.tagName") == "SUMMARY"
    tab.page.keyboard.press("Enter")
    assert tab.page.locator("#ability-1").evaluate("one => one.open")
    tab.page.keyboard.press("Enter")
    tab.page.keyboard.press("Shift+Tab")
    tab.page.keyboard.press("Enter")
    assert tab.page.locator("#ability-1").evaluate("one => one.open")


def test_without_scripts_everything_can_be_read_and_there_are_no_filters(chromium: Any, small: Path) -> None:
    tab = Tab(chromium, small, java_script_enabled=False)
    tab.page.locator("#ability-1 > summary").click()
    tab.page.locator("#ability-1 details > summary").click()
    assert tab.page.locator(".item").nth(2).is_visible()
    assert not tab.page.locator("form.filters").is_visible()


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_texts_run_nothing(chromium: Any, tmp_path: Path, text: str) -> None:
    (tmp_path / "report.html").write_text(everywhere(text), encoding="utf-8")
    tab = Tab(chromium, tmp_path / "report.html", viewport={"width": 360, "height": 800})
    tab.page.evaluate(OPEN_ALL)
    assert tab.complaints == [] and len(tab.requests) == 1


def test_a_long_word_does_not_widen_the_page(chromium: Any, tmp_path: Path) -> None:
    (tmp_path / "report.html").write_text(everywhere("w" * 3000), encoding="utf-8")
    tab = Tab(chromium, tmp_path / "report.html", viewport={"width": 360, "height": 800})
    tab.page.evaluate(OPEN_ALL)
    assert tab.width() == 360


def test_on_paper_every_ability_is_open(chromium: Any, small: Path) -> None:
    tab = Tab(chromium, small)
    tab.page.evaluate("dispatchEvent(new Event('beforeprint'))")
    tab.page.emulate_media(media="print")
    assert tab.page.locator("#ability-1 .facts").is_visible()
    assert not tab.page.locator("#ability-1 .item").first.is_visible()
