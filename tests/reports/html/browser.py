"""A page in Chromium, for the tests of pages. The browser is the system's (`apt-get install chromium`)."""

import shutil
from pathlib import Path
from typing import Any

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
LEVELS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]
OPEN_ALL = "document.querySelectorAll('details').forEach((one) => { one.open = true; })"


class Tab:
    """A page in the browser, with what it wrote to the console and what it asked the network for."""

    def __init__(self, browser: Any, file: Path, **options: Any) -> None:
        self.page = browser.new_context(**options).new_page()
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("dialog", lambda dialog: self.complaints.append(dialog.message))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(file.as_uri())

    def width(self) -> int:
        return int(self.page.evaluate("document.documentElement.scrollWidth"))

    def shown(self, ability: int) -> int:
        return int(self.page.locator(f"#ability-{ability} .item:not([hidden])").count())
