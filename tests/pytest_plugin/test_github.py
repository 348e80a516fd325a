"""In a job of GitHub Actions a run leaves annotations, a summary and outputs; anywhere else it does not."""

from dataclasses import replace
from pathlib import Path

import pytest

from tests.pytest_plugin import fake_audit
from tests.pytest_plugin.conftest import Suites
from tests.reports.sample import FAILED, UNDECIDED, row_with
from tests.reports.test_github import HOSTILE, commands, file_values

pytest_plugins = ("pytester",)
ALL = "sentiment reasoning summarization"


@pytest.fixture
def job(suites: Suites, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder with the files of a step, which the runner has made."""
    folder = suites.path / "step"
    folder.mkdir()
    for name in ("GITHUB_STEP_SUMMARY", "GITHUB_OUTPUT"):
        (folder / name).touch()
        monkeypatch.setenv(name, str(folder / name))
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    return folder


def outputs(job: Path) -> dict[str, str]:
    return file_values((job / "GITHUB_OUTPUT").read_text(encoding="utf-8"))


def test_a_run_leaves_annotations_summary_and_outputs(suites: Suites, job: Path) -> None:
    result = suites.run(ALL)
    assert result.ret == 1
    (folder,) = (suites.path / "reports").iterdir()
    assert commands(result.stdout.str()) == [
        ("error", {"title": "reasoning: FAIL"}, FAILED.sentence),
        ("warning", {"title": "summarization: INCONCLUSIVE"}, UNDECIDED.sentence),
    ]
    summary = (job / "GITHUB_STEP_SUMMARY").read_text(encoding="utf-8")
    assert summary == (folder / "report.md").read_text(encoding="utf-8")
    assert summary.startswith("# FAIL: memit on `pocket-llama`\n\n1 PASS, 1 FAIL, 1 INCONCLUSIVE.\n")
    assert outputs(job) == {
        "verdict": "FAIL",
        "harmed": "",
        "report": str(folder),
        "html": str(folder / "report.html"),
    }


def test_a_quiet_run_has_them_too(suites: Suites, job: Path) -> None:
    assert [name for name, _, _ in commands(suites.run("reasoning", "-q").stdout.str())] == ["error"]
    assert outputs(job)["verdict"] == "FAIL"


def test_workers_leave_them_once(suites: Suites, job: Path) -> None:
    pytest.importorskip("xdist")
    result = suites.run_apart(ALL, "-p", "xdist", "--device", "cpu", "-n", "2")
    assert [name for name, _, _ in commands(result.stdout.str())] == ["error", "warning"]
    assert (job / "GITHUB_OUTPUT").read_text(encoding="utf-8").count("verdict<<") == 1
    assert (job / "GITHUB_STEP_SUMMARY").read_text(encoding="utf-8").count("\n## Abilities\n") == 1


def test_other_tests_and_preflights_leave_nothing(suites: Suites, job: Path) -> None:
    suites.pytester.makepyfile(test_other="def test_sum():\n    assert 1 + 1 == 3")
    assert commands(suites.run("").stdout.str()) == []
    assert [file.read_text(encoding="utf-8") for file in sorted(job.iterdir())] == ["", ""]


def test_outside_of_a_job_a_run_says_nothing(suites: Suites) -> None:
    assert commands(suites.run("reasoning").stdout.str()) == []


def test_files_that_cannot_be_written_do_not_lose_the_verdict(
    suites: Suites, job: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(job))
    monkeypatch.setenv("GITHUB_OUTPUT", str(job / "no" / "file"))
    result = suites.run("sentiment")
    assert result.ret == 0
    result.stdout.fnmatch_lines(["PASS: memit on pocket-llama*"])
    found = commands(result.stdout.str())
    assert [(name, properties) for name, properties, _ in found] == [("warning", {"title": "audit"})] * 2
    assert all(data.endswith("; the verdict is not affected.") for _, _, data in found)


def test_a_report_that_cannot_be_written_does_not_lose_the_outputs(suites: Suites, job: Path) -> None:
    suites.pytester.makepyfile(
        test_blocker="""
        from pathlib import Path
        def test_block(audit_run, degradation):
            degradation("sentiment", max_drop=0.05)
            Path("reports").write_text("in the way")
        """
    )
    assert suites.run("").ret == pytest.ExitCode.USAGE_ERROR
    assert outputs(job) == {"verdict": "PASS", "harmed": "", "report": "", "html": ""}


def test_what_a_model_wrote_is_no_command(suites: Suites, job: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    example = replace(FAILED.examples[0], prompt=HOSTILE, gold=HOSTILE, base=HOSTILE, edited=HOSTILE)
    monkeypatch.setitem(fake_audit.ROWS, "reasoning", row_with(FAILED, examples=(example,)))
    text = suites.run("reasoning", "-vv").stdout.str()
    assert ": :stop-commands::x" in text
    assert commands(text) == [("error", {"title": "reasoning: FAIL"}, FAILED.sentence)]
    summary = (job / "GITHUB_STEP_SUMMARY").read_bytes().decode("utf-8")
    assert f"```text\n{HOSTILE}\n```" in summary
    assert outputs(job)["verdict"] == "FAIL"
