"""The site: pages from code are what the code says, navigation is whole, and dead links stop the build."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import audit
from audit.cli import COMMANDS
from audit.settings.options import OPTIONS
from docs.generation.options_page import PAGE, options_page

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
CONFIGURATION = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
GUIDES_ELSEWHERE = {
    "card": "model-card.md",
    "compare": "compare.md",
    "completion": "store.md",
    "doctor": "store.md",
    "grid": "grid.md",
}
needs_mkdocs = pytest.mark.skipif(
    importlib.util.find_spec("mkdocs") is None or importlib.util.find_spec("material") is None,
    reason="building the site needs the extra `docs` (`make docs` installs it)",
)


def guide(command: str) -> str:
    return GUIDES_ELSEWHERE.get(command, f"commands/{command}.md")


def test_the_page_of_options_is_made_from_the_declarations() -> None:
    assert PAGE.read_text(encoding="utf-8") == options_page(), "run `python -m docs.generation.options_page`"


def test_the_page_of_options_has_every_option_with_its_default_and_every_command() -> None:
    page = options_page()
    for option in OPTIONS:
        (row,) = re.findall(rf"^\| .?(?:code>)?{option.flag}[ `<].*\| `{option.field}(?:=False)?` \|$", page, re.M)
        assert option.stated_default is None or f"| `{option.stated_default}` |" in row
    assert [name for name in COMMANDS if f"\n### audit {name}\n" not in page] == []


def test_every_exported_name_is_on_the_page_of_the_api() -> None:
    shown = re.findall(r"^::: audit\.(\w+)$", (DOCS / "api.md").read_text(encoding="utf-8"), re.M)
    assert sorted(shown) == sorted(audit.__all__)


def test_the_navigation_lists_every_page_once() -> None:
    listed = re.findall(r"(\S+\.md)$", CONFIGURATION.partition("\nnav:\n")[2], re.M)
    assert sorted(listed) == sorted(path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md"))


def test_every_command_has_a_guide_and_a_row_in_the_table_of_decisions() -> None:
    table = (DOCS / "which-command.md").read_text(encoding="utf-8")
    for command in COMMANDS:
        assert f"audit {command}" in (DOCS / guide(command)).read_text(encoding="utf-8"), command
        assert command == "list" or f"]({guide(command)}" in table, command


def build(config: Path, out: Path) -> subprocess.CompletedProcess[str]:
    command = [
        sys.executable,
        "-m",
        "mkdocs",
        "build",
        "--strict",
        "--config-file",
        str(config),
        "--site-dir",
        str(out),
    ]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)


@needs_mkdocs
def test_the_site_builds_and_asks_for_nothing_from_elsewhere(tmp_path: Path) -> None:
    built = build(ROOT / "mkdocs.yml", tmp_path)
    assert built.returncode == 0, built.stdout + built.stderr
    pages = list(tmp_path.rglob("*.html"))
    assert len(pages) > len(list(DOCS.rglob("*.md")))
    loaded = re.compile(r"<(?:script|img|iframe|source)\b[^>]*\bsrc=\"([^\"]*)|<link\b[^>]*\bhref=\"([^\"]*)")
    for page in pages:
        found = ["".join(pair) for pair in loaded.findall(page.read_text(encoding="utf-8"))]
        assert found
        assert [target for target in found if re.match(r"(?:https?:)?//", target)] == [], page.name
    for style in tmp_path.rglob("*.css"):
        assert re.findall(r"(?:url\(|@import)\s*[\"']?(?:https?:)?//", style.read_text(encoding="utf-8")) == []
    assert 'id="audit.Audit.verdict"' in (tmp_path / "api.html").read_text(encoding="utf-8")
    assert (tmp_path / "benchmarks" / "results" / "verdict-power.html").is_file()  # a page links to it
    assert (tmp_path / "schemas" / "verdict.schema.json").is_file()


@needs_mkdocs
@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[there](../other/page.md#a--b), [here](#title)", ""),
        ("[folder](../other), [README](../read), [file](../read/README.md), [all](../README.md)", ""),
        ("[there](missing.md)", "'missing.md'"),
        ("[there](../other/missing.md)", "'../other/missing.md'"),
        ("[here](#nowhere)", "'#nowhere'"),
        ("[there](../other/page.md#nowhere)", "an anchor '#nowhere'"),
        ("![picture](missing.png)", "'missing.png'"),
    ],
    ids=[
        "sound",
        "folders",
        "dead page",
        "dead file elsewhere",
        "dead anchor",
        "dead anchor elsewhere",
        "dead picture",
    ],
)
def test_a_dead_link_stops_the_build(text: str, complaint: str, tmp_path: Path) -> None:
    """In a small repository with one page and the settings of this one."""
    pages = {"docs/index.md": f"# Title\n{text}\n", "other/page.md": "# A & B\n[up](../docs/index.md)\n"}
    for name, content in {**pages, "read/README.md": "# Read\n[folder](../other)\n", "README.md": "# All\n"}.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content, encoding="utf-8")
    hook = DOCS / "generation" / "repository_links.py"
    settings = f"INHERIT: {ROOT / 'mkdocs.yml'}\ndocs_dir: docs\nhooks: [{hook}]\nnav: [index.md]\nplugins: [search]\n"
    (tmp_path / "mkdocs.yml").write_text(settings, encoding="utf-8")
    built = build(tmp_path / "mkdocs.yml", tmp_path / "site")
    assert (built.returncode == 0) == (not complaint), built.stderr
    assert complaint in built.stderr
    if "folder" in text:
        titles = {"index": "Title", "readme": "All", "other/index": "other/", "read/index": "Read"}
        shown = {name: (tmp_path / "site" / f"{name}.html").read_text(encoding="utf-8") for name in titles}
        assert all(re.search(rf"<h1[^>]*>{title}<", shown[name]) for name, title in titles.items())
        assert 'href="page.html"' in shown["other/index"]
        assert 'href="../other/index.html"' in shown["read/index"]
