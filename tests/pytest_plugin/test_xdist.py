"""`-n`: workers audit their share of the tests, one of them edits, and there is one report and one summary."""

import json
import re
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

# A run inside this process forgets whatever it imports itself, and torch cannot be imported twice.
import audit.audit  # noqa: F401
from audit.errors import AuditError
from audit.pytest_plugin.xdist import Worker
from tests.pytest_plugin.conftest import RealSuites, Suites
from tests.small_audit import build

pytest_plugins = ("pytester",)
pytest.importorskip("xdist")

ALL = "sentiment reasoning summarization"
CPU = ("-p", "xdist", "--device", "cpu")
WORKERS = (*CPU, "-n", "2")


def said(result: pytest.RunResult) -> str:
    return result.stdout.str() + result.stderr.str()


def only_report(suites: Suites) -> dict[str, Any]:
    (folder,) = (suites.path / "reports").iterdir()
    assert {file.name for file in folder.iterdir()} == {"verdict.json", "items.jsonl", "report.md", "report.html"}
    document: dict[str, Any] = json.loads((folder / "verdict.json").read_text(encoding="utf-8"))
    return document


def test_workers_give_one_report_and_one_summary(suites: Suites) -> None:
    suites.pytester.makepyfile(test_more="def test_edit(edit_scores):\n    assert False")
    result = suites.run_apart(ALL, *WORKERS)
    result.assert_outcomes(passed=1, failed=3)
    text = said(result)
    assert text.count("audit: memit edits pocket-llama") == 1
    assert len(re.findall(r"^=+ side-effect audit =+$", text, re.MULTILINE)) == 1
    assert len(re.findall(r"^FAIL: memit on pocket-llama.*1 PASS, 1 FAIL, 1 INCONCLUSIVE", text, re.MULTILINE)) == 1
    assert "AssertionError: assert reasoning: FAIL, wanted PASS" in text
    document = only_report(suites)
    assert [row["ability"] for row in document["abilities"]] == ["reasoning", "summarization", "sentiment"]
    assert document["failed_tests"] == ["test_more.py::test_edit"]
    assert document["command"].endswith("-n 2")
    assert document["settings"]["editor"] == "memit"


def test_a_quiet_run_shows_the_verdict_line_only(suites: Suites) -> None:
    text = said(suites.run_apart("sentiment", *WORKERS, "-q"))
    assert "PASS: memit on pocket-llama" in text
    assert "side-effect audit" not in text
    assert "audit: " not in text


@pytest.mark.parametrize(
    ("editor", "sentence"),
    [("nobody", "there is no editor 'nobody'"), ("broken", "the subject 'Mara' is not in the prompt")],
)
def test_an_error_in_the_workers_is_printed_once(suites: Suites, editor: str, sentence: str) -> None:
    result = suites.run_apart(ALL, *WORKERS, "--editor", editor)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    text = said(result)
    assert text.count(sentence) == 1
    assert "Traceback" not in text
    assert "INTERNALERROR" not in text
    assert not (suites.path / "reports").exists()


def test_the_results_of_a_dead_worker_are_reported_and_the_run_fails(suites: Suites) -> None:
    suites.pytester.makepyfile(
        test_sentiment="""
        import os

        def test_first(degradation):
            assert degradation("sentiment", max_drop=0.05).value == "PASS"

        def test_second(degradation):
            os._exit(1)
        """
    )
    text = said(suites.run_apart("", *CPU, "-n", "1"))
    document = only_report(suites)
    assert [row["verdict"]["outcome"] for row in document["abilities"]] == ["PASS"]
    assert document["outcome"] == "FAIL"
    assert document["failed_tests"] == ["worker gw0", "test_sentiment.py::test_second"]
    assert "FAIL: memit on pocket-llama" in text


def test_the_option_x_ends_the_run_with_a_report(suites: Suites) -> None:
    result = suites.run_apart("reasoning", *CPU, "-n", "1", "-x")
    assert "FAIL: memit on pocket-llama" in said(result)
    assert [row["verdict"]["outcome"] for row in only_report(suites)["abilities"]] == ["FAIL"]


def test_other_tests_run_with_workers_as_usual(suites: Suites) -> None:
    suites.pytester.makepyfile(test_other="def test_sum():\n    assert 1 + 1 == 2")
    result = suites.run_apart("", *WORKERS)
    result.assert_outcomes(passed=1)
    assert "audit: " not in said(result)
    assert "side-effect audit" not in said(result)


@pytest.mark.parametrize(
    "options",
    [
        ("--edit-mode", "instance-sequential", "--edit-count", "3"),
        ("--model", "pocket-gpt2", "--edits", "pocket", "--edit-count", "2", "--limit", "10", "--no-store"),
    ],
    ids=["tiny model and store", "pocket model and no store"],
)
def test_workers_have_the_results_of_one_process(
    real_suites: RealSuites,
    tmp_path: Path,
    pytester: pytest.Pytester,
    monkeypatch: pytest.MonkeyPatch,
    options: tuple[str, ...],
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))  # where a folder of the run's own would lie
    world = build(tmp_path)
    for name in ("nli", "open_qa"):
        suite = f"def test_it(degradation):\n    degradation({name!r}, max_drop=0.05)\n"
        pytester.makepyfile(**{f"test_{name}": suite})

    def found() -> tuple[dict[str, Any], list[str]]:
        (folder,) = (pytester.path / "reports").iterdir()
        document = json.loads((folder / "verdict.json").read_text(encoding="utf-8"))
        items = (folder / "items.jsonl").read_text(encoding="utf-8").splitlines()
        del document["seconds"], document["command"], document["reuse"], document["header"]["started"]
        shutil.rmtree(pytester.path / "reports")
        shutil.rmtree(pytester.path / "store", ignore_errors=True)
        return document, sorted(items)

    real_suites.run(world, "--editor", "vandal", *options).assert_outcomes(passed=2, skipped=1)
    alone = found()
    workers = real_suites.run_apart(world, "--editor", "vandal", *options, *WORKERS)
    workers.assert_outcomes(passed=2, skipped=1)
    assert found() == alone
    assert not list(tmp_path.glob("audit-run-*"))


@pytest.mark.parametrize(
    ("device", "gpus", "count", "taken"),
    [
        ("cpu", 1, 2, None),
        ("auto", 0, 2, None),
        ("auto", 1, 1, None),
        ("auto", 2, 2, 1),
        ("cuda", 2, 4, 1),
        ("auto", 1, 2, "refused"),
        ("cuda:1", 2, 2, "refused"),
        ("map", 2, 2, "refused"),
        ("mps", 0, 2, "refused"),
    ],
)
def test_each_worker_has_its_own_gpu(
    monkeypatch: pytest.MonkeyPatch, device: str, gpus: int, count: int, taken: object
) -> None:
    seen: list[object] = []
    monkeypatch.setattr("torch.cuda.is_available", lambda: gpus > 0)
    monkeypatch.setattr("torch.cuda.device_count", lambda: gpus)
    monkeypatch.setattr("torch.cuda.set_device", seen.append)
    worker = Worker(worker_config(number=count - 1, count=count))
    if taken == "refused":
        with pytest.raises(AuditError, match=f"-n 2 with --device {device}: the workers would share one device"):
            worker.limit_to_share(device)
    else:
        worker.limit_to_share(device)
    assert seen == ([taken] if isinstance(taken, int) else [])


def test_workers_divide_the_cores_unless_omp_num_threads_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    monkeypatch.setattr("torch.set_num_threads", seen.append)
    monkeypatch.setattr("os.sched_getaffinity", lambda process: range(5), raising=False)
    Worker(worker_config(count=2)).limit_to_share("cpu")
    assert seen == []  # tests run with OMP_NUM_THREADS
    monkeypatch.delenv("OMP_NUM_THREADS")
    for count in (2, 8):
        Worker(worker_config(count=count)).limit_to_share("cpu")
    assert seen == [2, 1]


def worker_config(number: int = 0, count: int = 2) -> pytest.Config:
    """What a worker reads and writes of its configuration."""
    given = {"workerid": f"gw{number}", "workercount": count}
    return cast(pytest.Config, SimpleNamespace(workerinput=given, workeroutput={}))
