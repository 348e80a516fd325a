"""`--reports DIR`: each run writes a folder with verdict.json, items.jsonl, report.md and report.html, or no folder."""

import json

import pytest

from tests.pytest_plugin.conftest import Suites

pytest_plugins = ("pytester",)


def test_a_run_writes_its_folder(suites: Suites) -> None:
    suites.run("sentiment reasoning")
    (folder,) = (suites.path / "reports").iterdir()
    assert folder.name == "20261121-101500-memit-pocket-llama"
    assert sorted(path.name for path in folder.iterdir()) == ["items.jsonl", "report.html", "report.md", "verdict.json"]
    document = json.loads((folder / "verdict.json").read_text(encoding="utf-8"))
    assert document["outcome"] == "FAIL"
    assert document["command"].startswith("pytest ")


def test_the_option_moves_the_folder_and_a_second_run_has_its_own(suites: Suites) -> None:
    for _ in range(2):
        result = suites.run("sentiment", "--reports", "out/deep")
        result.stdout.fnmatch_lines(["report: out/deep/20261121-101500-memit-pocket-llama*"])
    names = sorted(path.name for path in (suites.path / "out" / "deep").iterdir())
    assert names == ["20261121-101500-memit-pocket-llama", "20261121-101500-memit-pocket-llama-2"]


def test_an_unwritable_folder_is_one_sentence_after_the_verdicts(suites: Suites) -> None:
    suites.pytester.makepyfile(
        test_blocker="""
        from pathlib import Path
        def test_block(audit_run, degradation):
            degradation("sentiment", max_drop=0.05)
            Path("reports").write_text("in the way")
        """
    )
    result = suites.run("")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stdout.fnmatch_lines(["PASS: *", "ERROR: --reports reports: the report cannot be written there *"])
    assert "Traceback" not in result.stdout.str() + result.stderr.str()


def test_an_interrupted_run_writes_no_folder(suites: Suites) -> None:
    suites.pytester.makepyfile(test_z="def test_stop():\n    raise KeyboardInterrupt")
    result = suites.run_apart("sentiment")
    assert result.ret == pytest.ExitCode.INTERRUPTED
    assert not (suites.path / "reports").exists()
