"""Several processes share the items of one audit, and find the answers that one process finds."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from audit import Audit
from audit.abilities import load_ability
from audit.abilities.contract import Answers, Item
from audit.answering.crew import Crew, answers_of_crew, current_crew
from audit.answering.paired_answers import read_raw
from audit.cli import app
from audit.errors import AuditError, CrewError
from audit.reports.folder import read_report
from audit.reports.rows import ItemRecord, RunReport
from tests.small_audit import require_equal_edit_scores

ROOT = Path(__file__).resolve().parents[2]
OPTIONS = {"editor": "vandal", "model": "pocket-gpt2", "edit_count": 3, "limit": 7, "device": "cpu"}
T = TypeVar("T")


def launched(place: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run `python -m WORDS` in two processes."""
    launcher = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST")}
    environment |= {"TMPDIR": str(place), "COLUMNS": "100", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [*launcher, "-m", *words], cwd=place, env=environment, capture_output=True, text=True, timeout=300
    )


def test_processes_share_work_agree_and_fail_together(tmp_path: Path) -> None:
    done = launched(tmp_path, "tests.crew_program", str(tmp_path))
    assert done.returncode == 0, done.stderr
    first, second = (json.loads((tmp_path / f"{rank}.json").read_text(encoding="utf-8")) for rank in (0, 1))
    assert (first["share"], second["share"]) == ("ace", "bd")
    assert (first["ahead"], second["ahead"]) == ("0", "01")
    assert first["refused"] == ["AuditError", "process 1 cannot"]  # only the first process reports to the user
    assert second["refused"] == ["CrewError", "process 1 cannot"]
    assert first["refused by the first"] == ["AuditError", "process 0 cannot"]
    assert second["refused by the first"] == ["CrewError", "process 0 cannot"]
    assert first["shared"] == second["shared"]
    for one in (first, second):
        assert (one["size"], one["device"], one["first"], one["gathered"]) == (2, "cpu", 0, [0, 10])
        assert "differ in their numbers" in one["disagreed"]
        assert one["still there"] == [1, 1]
        assert one["shared is gone"]


def test_two_processes_find_the_same_answers_as_one(tmp_path: Path) -> None:
    alone = Audit(**OPTIONS, ability=("nli", "open_qa"), use_store=False).run()  # ranked and written answers
    words = [word for key, value in OPTIONS.items() for word in (f"--{key.replace('_', '-')}", str(value))]
    done = launched(tmp_path, "audit.cli", "run", "nli", "open_qa", *words, "--no-store")
    assert done.returncode == 1, done.stderr
    assert done.stderr.count("audit: vandal edits pocket-gpt2") == 1
    assert done.stdout.count("FAIL: vandal on pocket-gpt2") == 1
    (folder,) = (tmp_path / "reports").iterdir()
    assert not list(tmp_path.glob("audit-run-*"))
    found = read_report(folder, with_items=True)
    assert [without_likelihoods(item) for item in found.items] == [without_likelihoods(item) for item in alone.items]
    assert likelihoods(found) == pytest.approx(
        likelihoods(alone), abs=1e-3
    )  # batches differ, so the last digits may too
    for name in ("abilities", "integrity", "fingerprints", "settings", "versions", "unasked", "skipped"):
        assert getattr(found, name) == getattr(alone, name)
    require_equal_edit_scores(found, alone)
    assert replace(found.header, started="") == replace(alone.header, started="")


def without_likelihoods(item: ItemRecord) -> ItemRecord:
    """The item without log-likelihoods."""
    edited = tuple(replace(answer, log_likelihoods=None) for answer in item.edited)
    return replace(item, base=replace(item.base, log_likelihoods=None), edited=edited)


def likelihoods(report: RunReport) -> list[float]:
    """All log-likelihoods, in the order of items and choices."""
    answers = [answer for item in report.items for answer in (item.base, *item.edited)]
    return [value for answer in answers for value in answer.log_likelihoods or ()]


@pytest.mark.parametrize(
    ("error", "place", "said"),
    [(AuditError, "0", "audit: no disk\n"), (CrewError, "0", ""), (AuditError, "1", "")],
    ids=["first on its machine", "another process reported it", "not the first on its machine"],
)
def test_an_error_is_reported_once(
    monkeypatch: pytest.MonkeyPatch, error: type[AuditError], place: str, said: str
) -> None:
    @contextmanager
    def refuse(*args: object) -> Iterator[None]:
        raise error("no disk")
        yield

    monkeypatch.setenv("LOCAL_RANK", place)
    monkeypatch.setattr(sys.modules["audit.cli.run"], "shared_audit", refuse)
    result = CliRunner().invoke(app, ["run"])
    assert (result.exit_code, result.output) == (2, said)


class TwoThreads(Crew):
    """A crew whose processes are threads."""

    size = 2

    def __init__(self, rank: int, table: list[object], barrier: threading.Barrier) -> None:
        self.rank, self._table, self._barrier = rank, table, barrier

    def gather(self, work: Callable[[], T]) -> list[T]:
        self._table[self.rank] = work()
        self._barrier.wait()
        gathered = list(self._table)
        self._barrier.wait()
        return gathered  # type: ignore[return-value]


@given(st.integers(0, 9), st.integers(0, 3))
def test_answers_come_back_in_the_order_of_the_items(count: int, from_store: int) -> None:
    ability = load_ability("open_qa")
    items = [ability.item({"question": f"where is {number}", "answer": ["x"]}, str(number)) for number in range(count)]
    asked_of: list[list[str]] = [[], []]

    def work(crew: Crew) -> None:
        def ask(some: Sequence[Item]) -> Answers:
            asked_of[crew.rank] += [item.key for item in some]
            return read_raw(ability, some, [{"text": f"at {item.key}", "ids": []} for item in some], from_store)

        found[crew.rank] = answers_of_crew(crew, ability, items, ask)

    found: list[Answers | None] = [None, None]
    table: list[object] = [None, None]
    barrier = threading.Barrier(2, timeout=10)
    threads = [threading.Thread(target=work, args=(TwoThreads(rank, table, barrier),)) for rank in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for one in found:
        assert one is not None
        assert [answer.text for answer in one.answers] == [f"at {number}" for number in range(count)]
        assert one.from_store == 2 * from_store
    assert asked_of == [[str(number) for number in range(count)][rank::2] for rank in (0, 1)]


def test_the_share_of_one_process_is_everything() -> None:
    crew = Crew()
    assert crew.first
    assert crew.share("abc") == "abc"
    assert crew.gather(lambda: 3) == [3]
    assert crew.run_in_first(lambda: None) is None
    assert crew.run_in_first_then_others(lambda: 4) == crew.agree("a number", 4) == 4


@pytest.mark.parametrize(
    ("device", "gpus", "sentence"),
    [
        ("map", 2, "--device map does not go with several processes"),
        ("cuda:1", 2, "--device cuda:1 does not go with several processes"),
        ("cuda", 1, "there are 2 processes and 1 GPUs here"),
    ],
)
def test_a_device_for_several_processes_is_an_error(
    monkeypatch: pytest.MonkeyPatch, device: str, gpus: int, sentence: str
) -> None:
    for name, value in {"WORLD_SIZE": 2, "RANK": 0, "LOCAL_RANK": 0, "LOCAL_WORLD_SIZE": 2}.items():
        monkeypatch.setenv(name, str(value))
    monkeypatch.setattr("torch.cuda.device_count", lambda: gpus)
    with pytest.raises(AuditError, match=sentence), current_crew(device):
        pass
