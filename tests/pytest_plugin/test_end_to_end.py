"""The suites as a user runs them, in a separate process, on a tiny random model."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.pytest_plugin.conftest import ROOT
from tests.small_audit import SmallWorld, build, teach


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> SmallWorld:
    small = build(tmp_path_factory.mktemp("world"), "llama")
    teach(small)
    return small


def run(world: SmallWorld, place: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """`pytest WORDS` in the repository, with model, edits, rows, store and reports of this test."""
    own = {"AUDIT_TEST_ROWS": str(world.rows), "AUDIT_STORE": str(place / "store"), "COLUMNS": "100"}
    plugins = ("-p", "tests.pytest_plugin.on_rows", "-p", "no:cacheprovider")
    options = ("--model", world.model, "--edits", world.edits, "--reports", place / "reports", "--device", "cpu")
    return subprocess.run(
        [sys.executable, "-m", "pytest", *plugins, *options, *words],
        cwd=ROOT,
        env={key: value for key, value in os.environ.items() if not key.startswith("PYTEST")} | own,
        capture_output=True,
        text=True,
        timeout=600,
    )


def test_a_passing_run(world: SmallWorld, tmp_path: Path) -> None:
    done = run(world, tmp_path, "suites/test_open_qa.py", "suites/test_integrity.py", "--editor", "identity")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "audit: identity edits" in done.stdout
    assert "open_qa  answers  1.000   1.000  0.000" in done.stdout
    assert "\nPASS: identity on " in done.stdout
    (folder,) = (tmp_path / "reports").iterdir()
    document = json.loads((folder / "verdict.json").read_text(encoding="utf-8"))
    assert document["outcome"] == "PASS"
    assert document["abilities"][0]["verdict"]["drop"] == 0
    assert len((folder / "items.jsonl").read_text(encoding="utf-8").splitlines()) == 60


def test_all_suites_pass_for_identity_whose_edit_is_not_judged(world: SmallWorld, tmp_path: Path) -> None:
    done = run(world, tmp_path, "suites/", "--editor", "identity", "--inconclusive", "skip", "-rs")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "suites/test_edit.py" in done.stdout
    assert done.stdout.count("identity is a control, which makes no edit") == 3
    (folder,) = (tmp_path / "reports").iterdir()
    document = json.loads((folder / "verdict.json").read_text(encoding="utf-8"))
    assert {score["measure"] for score in document["edit_scores"]} >= {"efficacy", "generalization", "locality"}


def test_a_failing_run_with_all_suites(world: SmallWorld, tmp_path: Path) -> None:
    done = run(world, tmp_path, "suites/", "--editor", "vandal", f"--junitxml={tmp_path / 'out.xml'}")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "AssertionError: assert open_qa: FAIL, wanted PASS" in done.stdout
    assert "open_qa: what changed" in done.stdout
    assert "truncated" not in done.stdout
    assert 'name="open_qa.drop"' in (tmp_path / "out.xml").read_text(encoding="utf-8")
    (folder,) = (tmp_path / "reports").iterdir()
    assert len(json.loads((folder / "verdict.json").read_text(encoding="utf-8"))["abilities"]) == 8


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ('{"subject": "Mara"', "is not JSON"),
        ('{"subject": "Mara", "prompt": "Who is {}?", "target_new": ""}', "'target_new'"),
    ],
)
def test_a_malformed_edits_file(world: SmallWorld, tmp_path: Path, line: str, sentence: str) -> None:
    file = tmp_path / "bad.jsonl"
    file.write_text(line + "\n", encoding="utf-8")
    done = run(world, tmp_path, "suites/", "--edits", str(file))
    assert done.returncode == 4
    (error,) = [text for text in done.stderr.splitlines() if text.strip()]
    assert error.startswith("ERROR: ")
    assert str(file) in error
    assert sentence in error
    assert "Traceback" not in done.stdout
    assert not (tmp_path / "reports").exists()


def test_collecting_the_suites_imports_nothing_heavy() -> None:
    script = (
        "import sys, pytest\n"
        "code = pytest.main(['suites', '--collect-only', '-q', '-p', 'no:cacheprovider'])\n"
        "print('LOADED', int(code), *(m for m in ('torch', 'transformers', 'numpy', 'rich') if m in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.stdout.splitlines()[-1] == "LOADED 0", done.stdout + done.stderr
    assert "suites/test_reasoning.py::" in done.stdout
