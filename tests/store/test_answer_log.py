"""The log of answers: complete answers are never lost, incomplete ones never read, and runs can share a file."""

import math
import multiprocessing
import os
import random
import signal
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit.errors import AuditError
from audit.store.answer_log import AnswerLog
from audit.store.content import Store

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
QUESTIONS = [f"question {number}" for number in range(60)]


@pytest.fixture
def log(tmp_path: Path) -> AnswerLog:
    return AnswerLog.of(Store(tmp_path), "state")


def again(log: AnswerLog) -> AnswerLog:
    """The same file, opened by another run."""
    return AnswerLog(log.path)


@given(batches=st.lists(st.dictionaries(st.text(), JSON, max_size=4), max_size=4))
def test_added_answers_are_known_to_this_run_and_the_next(
    batches: list[dict[str, Any]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    log = AnswerLog(tmp_path_factory.mktemp("log") / "answers.jsonl")
    expected: dict[str, Any] = {}
    for batch in batches:
        log.add(batch)
        expected |= batch
        assert log.known() == expected
    assert again(log).known() == expected


def test_nan_is_kept(log: AnswerLog) -> None:
    log.add({"a": [math.nan, -math.inf]})
    first, second = again(log).known()["a"]
    assert math.isnan(first)
    assert second == -math.inf


def test_the_file_is_created_by_the_first_answer(log: AnswerLog) -> None:
    assert log.known() == {}
    log.add({})
    assert not log.path.parent.exists()


def test_other_states_have_other_logs(tmp_path: Path) -> None:
    AnswerLog.of(Store(tmp_path), "edited").add({"a": "x"})
    assert AnswerLog.of(Store(tmp_path), "base").known() == {}


def test_a_run_reads_the_answers_that_another_run_adds(log: AnswerLog) -> None:
    log.add({"a": 1})
    assert log.known() == {"a": 1}
    again(log).add({"b": 2, "a": 3})
    assert log.known() == {"a": 3, "b": 2}


@pytest.mark.parametrize("cut", range(1, 40, 3))
def test_an_incomplete_batch_is_skipped_and_does_not_damage_the_next(cut: int, log: AnswerLog) -> None:
    log.add({"a": "whole"})
    whole = log.path.stat().st_size
    log.add({"b": "begun when the machine went down"})
    os.truncate(log.path, whole + cut)
    resumed = again(log)
    assert resumed.known() == {"a": "whole"}
    resumed.add({"c": "after"})
    assert resumed.known() == again(log).known() == {"a": "whole", "c": "after"}


@given(place=st.integers(0), bit=st.integers(0, 7))
def test_a_corrupt_line_counts_as_missing(place: int, bit: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    log = AnswerLog(tmp_path_factory.mktemp("log") / "answers.jsonl")
    answers = {"a": "one", "b": "two", "c": "three"}
    log.add(answers)
    content = bytearray(log.path.read_bytes())
    content[place % len(content)] ^= 1 << bit
    log.path.write_bytes(content)
    known = again(log).known()
    assert known.items() <= answers.items()
    assert len(known) >= 1  # at most two lines are lost, if the newline between them is hit


def test_an_unusable_folder_gives_an_error_of_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "answers").write_text("", encoding="utf-8")
    with pytest.raises(AuditError, match=r"the store at .* cannot be used"):
        AnswerLog.of(Store(tmp_path), "state").add({"a": 1})


def answer(question: str) -> str:
    return f"{question}: {'word ' * (len(question) % 7)}"


def answer_all(path: Path, batch_size: int = 4) -> Mapping[str, Any]:
    """Like a run: answer the prompts that are not in the log, batch by batch."""
    log = AnswerLog(path)
    missing = [question for question in QUESTIONS if question not in log.known()]
    for start in range(0, len(missing), batch_size):
        time.sleep(0.001)
        log.add({question: answer(question) for question in missing[start : start + batch_size]})
    return log.known()


def test_runs_killed_at_random_lose_at_most_one_batch_each(log: AnswerLog) -> None:
    chance = random.Random(0)
    context = multiprocessing.get_context("fork")
    kept = 0
    for _ in range(20):
        run = context.Process(target=answer_all, args=(log.path,))
        run.start()
        time.sleep(chance.uniform(0, 0.02))
        if run.pid is not None:
            os.kill(run.pid, signal.SIGKILL)
        run.join()
        known = again(log).known()
        assert len(known) >= kept
        assert all(known[question] == answer(question) for question in known)
        kept = len(known)
    assert dict(answer_all(log.path)) == {question: answer(question) for question in QUESTIONS}


def test_concurrent_runs_lose_no_answers(log: AnswerLog) -> None:
    context = multiprocessing.get_context("fork")
    runs = [context.Process(target=answer_all, args=(log.path, size)) for size in (1, 3, 7)]
    for run in runs:
        run.start()
    for run in runs:
        run.join(60)
    assert [run.exitcode for run in runs] == [0, 0, 0]
    assert dict(again(log).known()) == {question: answer(question) for question in QUESTIONS}
