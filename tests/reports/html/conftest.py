"""The browser of the tests of pages; without it they are skipped."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.reports.html.browser import CHROMIUM


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    api = pytest.importorskip("playwright.sync_api", reason="the `test` extra has playwright")
    if CHROMIUM is None:
        pytest.skip("no Chromium; install it with `apt-get install chromium`")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()
