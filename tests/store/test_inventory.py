"""The inventory counts a store's own entries, and deletes none that a run locks or has used lately."""

import multiprocessing
import os
import time
from multiprocessing.synchronize import Event
from pathlib import Path

import pytest
import torch
from filelock import FileLock

from audit.store.answer_log import AnswerLog, damaged_lines
from audit.store.content import Store
from audit.store.inventory import COVARIANCE, DATA, LAYERS, LEFTOVER, LOG, MODEL, OTHER, PLAN, PROMPT, entries, remove

OLD = time.time() - 40 * 86400


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A store with an entry of every kind."""
    store = Store(tmp_path / "store")
    store.put("located layers 0f0f", {"rome": 1, "memit": [1]})
    store.put("commit of the hub's data set a/b", "c0ffee")
    store.put("another key", [1, 2])
    store.put_tensors("covariance 77", {"layer.0": torch.eye(3)})
    AnswerLog.of(store, "a state").add({"3f2a": "Paris", "77b0": [-1.5]})
    for place in ("plans/" + "a" * 32, f"models/gguf-1-{'b' * 64}", "hypothesis/" + "c" * 16):
        (store.root / place).mkdir(parents=True)
        (store.root / place / ("plan.json" if place.startswith("plans") else "f" * 16)).write_text("{}")
    return store.root


def aged(root: Path) -> None:
    for path in root.rglob("*"):
        os.utime(path, (OLD, OLD))


def test_every_kind_is_found_with_its_size(root: Path) -> None:
    found = entries(root)
    assert sorted(entry.kind for entry in found) == sorted([LAYERS, DATA, OTHER, COVARIANCE, LOG, PLAN, MODEL, PROMPT])
    files = [path for path in root.rglob("*") if path.is_file() and path.suffix != ".lock"]
    assert sum(entry.bytes for entry in found) == sum(path.stat().st_size for path in files) > 0
    assert {entry.key for entry in found if entry.kind in (LAYERS, COVARIANCE)} == {
        "located layers 0f0f",
        "covariance 77",
    }


def test_files_that_are_not_the_stores_are_no_entries(root: Path) -> None:
    before = entries(root)
    for name in (
        "ab/notes.json",
        "plans/mine/plan.json",
        "models/llama/config.json",
        "answers/ab/x.jsonl",
        "README.md",
    ):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("{}")
    aged(root)
    assert [entry.name for entry in entries(root)] == [entry.name for entry in before]
    assert entries(root / "missing") == []


def test_reading_an_entry_is_its_use(root: Path) -> None:
    aged(root)
    store = Store(root)
    store.get("another key")
    store.get_tensors("covariance 77")
    AnswerLog.of(store, "a state").known()
    used = {entry.kind for entry in entries(root) if entry.unused_for() < 60}
    assert used == {OTHER, COVARIANCE, LOG}


def test_an_old_leftover_of_a_killed_run_is_an_entry_and_a_new_one_is_not(root: Path) -> None:
    (file,) = (path for path in root.glob("??/*.safetensors"))
    aside = file.with_name(f"{file.name}.{'0' * 32}.tmp")
    aside.write_text("half")
    assert LEFTOVER not in {entry.kind for entry in entries(root)}
    os.utime(aside, (OLD, OLD))
    (leftover,) = (entry for entry in entries(root) if entry.kind == LEFTOVER)
    assert remove(root, leftover)
    assert not aside.exists()


def test_every_entry_can_be_deleted_and_nothing_of_it_stays(root: Path) -> None:
    for entry in entries(root):
        assert remove(root, entry), entry
    assert [path for path in root.rglob("*") if path.is_file()] == []


def test_an_entry_that_was_used_lately_stays(root: Path) -> None:
    assert not any(remove(root, entry, unused_for=3600.0) for entry in entries(root))
    aged(root)
    assert all(remove(root, entry, unused_for=3600.0) for entry in entries(root))


def hold(lock: Path, held: Event, done: Event) -> None:
    with FileLock(lock):
        held.set()
        done.wait(60)


def test_an_entry_that_another_process_locks_stays(root: Path) -> None:
    aged(root)
    context = multiprocessing.get_context("spawn")
    held, done = context.Event(), context.Event()
    holder = context.Process(target=hold, args=(root / "plans" / ("a" * 32) / ".lock", held, done))
    holder.start()
    try:
        assert held.wait(60)
        (plan,) = (entry for entry in entries(root) if entry.kind == PLAN)
        assert not remove(root, plan, unused_for=3600.0)
        assert (root / plan.name / "plan.json").exists()
    finally:
        done.set()
        holder.join(60)
    assert remove(root, plan, unused_for=3600.0)
    assert not (root / plan.name).exists()


def test_a_damaged_value_is_found_and_left_as_it_is(root: Path) -> None:
    store = Store(root)
    for path in (*root.glob("??/*.json"), *root.glob("??/*.safetensors")):
        whole = path.read_bytes()
        assert store.is_sound(path)
        path.write_bytes(whole[:-3] + bytes([whole[-3] ^ 1]) + whole[-2:])
        assert not store.is_sound(path)
        path.write_bytes(whole[: len(whole) // 2])
        assert not store.is_sound(path)
        path.write_bytes(whole)
    moved = path.with_name("0" * 64 + path.suffix)
    path.rename(moved)
    assert not store.is_sound(moved)


def test_only_the_damaged_lines_of_a_log_are_dropped(root: Path) -> None:
    log = AnswerLog.of(Store(root), "a state")
    log.add({"0000": "Rome"})
    lines = log.path.read_bytes().split(b"\n")
    log.path.write_bytes(b"\n".join([lines[0], lines[1][:-2] + b"x]", *lines[2:]]) + b"incomplete")
    assert damaged_lines(log.path) == 1
    assert damaged_lines(log.path, drop=True) == 1
    assert damaged_lines(log.path) == 0
    assert AnswerLog.of(Store(root), "a state").known() == {"3f2a": "Paris", "0000": "Rome"}
