"""The commands of pytest that the README shows."""

import re
import shlex
import shutil
from pathlib import Path

import pytest

from audit.pocket import POCKET_WEIGHTS

pytest_plugins = ("pytester",)

ROOT = Path(__file__).resolve().parents[2]
LINES = re.findall(r"^(pytest .*?)(?: #.*)?$", (ROOT / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
SWAPPED = {"facts.jsonl": "pocket", "hub": "pocket"}  # what a reader has, and a test not


@pytest.mark.parametrize("line", LINES)
def test_a_pytest_command_is_understood(line: str, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """With its files made up and the preflight instead of a run, it does what it says."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("AUDIT_STORE", str(pytester.path / "store"))
    words = shlex.split(line)[2:]
    for folder in ("my-model", "my-edited-model"):
        shutil.copytree(POCKET_WEIGHTS / "pocket-llama", pytester.path / folder)
    kept = [SWAPPED.get(word, word) for word in words]
    suite = ROOT / "suites" / "test_sentiment.py"
    pytester.makeconftest('pytest_plugins = ["audit.pytest_plugin"]')
    pytester.path.joinpath("test_sentiment.py").write_text(suite.read_text(encoding="utf-8"), encoding="utf-8")
    result = pytester.runpytest_subprocess(*kept, "--plan-only", "-p", "no:cacheprovider")
    result.stdout.fnmatch_lines(["*sentiment*200*"])
    assert result.ret == 0
