"""All pages in Chromium, light and dark, narrow and wide: no violation of WCAG 2.2 A and AA, no error, no request."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from audit.reports.html.run_page import run_html
from audit.reports.workflows.bisect import write_culprits
from audit.reports.workflows.budget import write_budget
from audit.reports.workflows.calibration import write_calibration
from audit.reports.workflows.checkpoint_diff import write_diff
from audit.reports.workflows.curve import write_curve
from audit.reports.workflows.locate import write_located
from tests.reports.html.browser import LEVELS, OPEN_ALL, Tab
from tests.reports.html.grids import small_page
from tests.reports.html.pages import record, report_of, scored
from tests.reports.plots.test_heat_map import located_with
from tests.reports.sample import FAILED, PASSED
from tests.reports.workflows.test_bisect import FOUND as CULPRITS
from tests.reports.workflows.test_budget import budget
from tests.reports.workflows.test_calibration import FOUND as CALIBRATED
from tests.reports.workflows.test_checkpoint_diff import diff
from tests.reports.workflows.test_curve import points

pytestmark = pytest.mark.browser


def of_texts(text: str) -> Callable[[Path], object]:
    return lambda folder: (folder / "page.html").write_text(text, encoding="utf-8")


def run_page() -> str:
    likely = {"base": scored((-1.0, -2.0, -0.5), 0.8), "edited": (scored((-1.5, -9.2, -30.5), 0.1),)}
    items = [record(), record("reasoning/2", mentions=("Mara Lind",)), replace(record("reasoning/3"), **likely)]
    return run_html(report_of(*items))


def comparison_page() -> str:
    """Two checkpoints in order, with an item that has texts and one that has none."""
    rows = [
        replace(row, title="nli", ability=f"nli of {name}", model=name) for name, row in (("a", PASSED), ("b", FAILED))
    ]
    step = replace(FAILED, title="nli", ability="nli of b since a", model="b")
    items = [
        replace(record(f"nli/{k}", *texts, prompt="", gold=()), ability="nli of b")
        for k, texts in enumerate((("a", "b"), ("", "")))
    ]
    report = report_of(*items)
    header = replace(report.header, compared=True, model="base.csv", editor="2 models")
    return run_html(replace(report, header=header, abilities=tuple(rows), steps=(step,)))


PAGES: dict[str, Callable[[Path], object]] = {
    "run": of_texts(run_page()),
    "compare": of_texts(comparison_page()),
    "grid": of_texts(small_page()),
    "curve": lambda folder: write_curve(points(), folder),
    "budget": lambda folder: write_budget(budget(), folder),
    "bisect": lambda folder: write_culprits(CULPRITS, folder),
    "calibrate": lambda folder: write_calibration(CALIBRATED, folder),
    "diff": lambda folder: write_diff(diff(), folder),
    "locate": lambda folder: write_located(located_with(24, 3), folder),
}


@pytest.mark.parametrize("name", PAGES)
def test_axe_finds_no_violation_and_nothing_is_wider_than_the_screen(chromium: Any, name: str, tmp_path: Path) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    PAGES[name](tmp_path)
    (file,) = tmp_path.glob("*.html")
    # The pages share their style: each is seen in both schemes and both widths, the page of a run in all four pairs.
    pairs = [("light", 360), ("dark", 1100)] + ([("light", 1100), ("dark", 360)] if name == "run" else [])
    for scheme, width in pairs:
        tab = Tab(chromium, file, color_scheme=scheme, viewport={"width": width, "height": 800})
        tab.page.evaluate(OPEN_ALL)
        found = axe.run(tab.page, options={"runOnly": LEVELS})
        assert found.response["passes"]
        assert found.violations_count == 0, found.generate_report()
        assert tab.width() == width
        assert tab.complaints == [] and all(url.startswith(("file:", "data:")) for url in tab.requests)


@pytest.mark.parametrize("name", PAGES)
def test_on_paper_no_table_and_no_figure_is_cut(chromium: Any, name: str, tmp_path: Path) -> None:
    PAGES[name](tmp_path)
    (file,) = tmp_path.glob("*.html")
    tab = Tab(chromium, file, color_scheme="dark")
    tab.page.emulate_media(media="print")
    assert (
        tab.page.evaluate("getComputedStyle(document.documentElement).getPropertyValue('--page').trim()") == "#ffffff"
    )
    shown = "[...document.querySelectorAll('.scroll')].map((one) => getComputedStyle(one).overflowX)"
    assert set(tab.page.evaluate(shown)) <= {"visible"}
