"""What the README shows works: examples run, options exist, links lead somewhere, the table is the table."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from audit.abilities import ABILITIES, load_ability
from audit.edits.sources import load_requests
from audit.settings.options import OPTIONS

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
needs_pocket_model = pytest.mark.skipif(
    not list((ROOT / "audit" / "pocket" / "weights").glob("pocket-gpt2/*.safetensors")),
    reason="the weights of pocket-gpt2 are not there",
)


def block(language: str, word: str) -> str:
    """The one code block in `language` that holds `word`."""
    (found,) = [code for tongue, code in BLOCKS if tongue == language and word in code]
    return found


def names_after(code: str) -> Mapping[str, Any]:
    names: dict[str, Any] = {"__name__": "readme"}
    exec(compile(code, "README.md", "exec"), names)
    return names


@needs_pocket_model
def test_the_python_example_runs(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AUDIT_STORE", str(tmp_path / "store"))
    code = block("python", "audit.run()")
    assert len([line for line in code.splitlines() if line]) == 5
    names_after(code.replace("edit_count=10, limit=50", "edit_count=2, limit=20"))
    said = capsys.readouterr().out
    assert "drop" in said
    assert "reasoning" in said.lower()


@needs_pocket_model
def test_the_editor_example_edits_and_leaves_the_model_as_it_was() -> None:
    from audit.models.fingerprints import weights_fingerprint
    from audit.models.loading import load_language_model

    editor = names_after(block("python", "class Surgeon"))["Surgeon"]()
    lm = load_language_model("pocket-gpt2", device="cpu")
    before = weights_fingerprint(lm)
    patch = editor.edit(lm, [])
    assert weights_fingerprint(lm) == before
    with patch.applied(lm):
        assert weights_fingerprint(lm) != before
    assert weights_fingerprint(lm) == before


def test_the_suite_example_is_the_suite() -> None:
    suite = (ROOT / "suites" / "test_reasoning.py").read_text(encoding="utf-8")
    shown, there = (re.sub(r" *#.*", "", code) for code in (block("python", "degradation("), suite))
    assert shown.split() == there.split()


def test_the_edit_request_example_loads(tmp_path: Path) -> None:
    line = block("json", "target_new")
    file = tmp_path / "facts.jsonl"
    file.write_text(line, encoding="utf-8")
    (request,) = load_requests(str(file)).requests
    assert request.target_new == json.loads(line)["target_new"]


def test_every_option_that_is_shown_exists() -> None:
    shown = {flag for code in re.findall(r"`([^`\n]+)`|^(pytest .*)$", README, re.MULTILINE)
             for flag in re.findall(r"--[a-z][a-z-]+", "".join(code))}  # fmt: skip
    assert {"--editor", "--edits", "--model", "--margin"} <= shown
    flags = {option.flag for option in OPTIONS}
    prefixed = {flag.replace("--", "--audit-", 1) for flag in flags} | {"--audit-"}
    assert shown - flags - prefixed == {"--help", "--junitxml"}


def test_the_abilities_are_listed_in_order_with_their_metrics() -> None:
    rows = re.findall(r"^\| `(\w+)` \|.*\| ([^|]+) \|$", README, re.MULTILINE)
    assert [name for name, _ in rows] == list(ABILITIES)
    for name, metric in rows:
        first = re.split(r"\W", load_ability(name).metric)[0]
        assert first in metric


def test_the_data_files_that_are_named_are_those_that_are_read() -> None:
    named = re.findall(r"`(\w+)\.jsonl`", README.partition("## Gate your own model")[2])
    assert set(named) == {load_ability(name).data_name for name in ABILITIES}


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md"])
def test_links_lead_somewhere(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    targets = [target for target in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in target]
    anchors = {
        re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in re.findall(r"^#+ (.+)$", text, re.M)
    }
    missing = [
        target
        for target in targets
        if not (target[1:] in anchors if target.startswith("#") else (ROOT / target).exists())
    ]
    assert missing == []


def test_the_files_and_rooms_that_the_map_names_exist() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`((?:audit|suites|tests)/[\w/.]*)`", text))
    assert len(named) > 40
    assert [path for path in sorted(named) if not (ROOT / path).exists()] == []


def test_make_targets_that_are_named_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    pages = README + (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    named = set(re.findall(r"\bmake (audit|test|lint|format)\b", pages))
    assert named == {"audit", "test", "lint", "format"}
    assert all(re.search(rf"^{target}:", makefile, re.MULTILINE) for target in named)
