"""The store returns exactly what was stored or nothing: after crashes, corruption, and with concurrent runs."""

import errno
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audit.errors import AuditError
from audit.store.content import ABANDONED_AFTER, Store, default_store

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 120  # seconds for a busy machine to start a process

json_values = st.recursive(
    st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner | st.none(), max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@given(st.dictionaries(st.text(), json_values, max_size=3))
@settings(max_examples=40)
def test_a_stored_value_comes_back(content: dict[str, Any]) -> None:
    with TemporaryDirectory() as folder:
        for key, value in content.items():
            Store(Path(folder)).put(key, value)
        for key, value in content.items():
            assert Store(Path(folder)).get(key) == value


def test_a_missing_value_is_none(store: Store) -> None:
    assert store.get("absent") is None
    assert store.get_tensors("absent") is None
    assert not store.root.exists()


def test_a_later_value_replaces_an_earlier_one(store: Store) -> None:
    store.put("key", [1])
    store.put("key", [2])
    assert store.get("key") == [2]


def test_nan_and_infinity_are_kept(store: Store) -> None:
    store.put("key", [float("nan"), float("inf"), float("-inf")])
    value = store.get("key")
    assert value is not None
    assert [str(number) for number in value] == ["nan", "inf", "-inf"]


def test_a_value_is_computed_once_and_is_the_same_for_later_runs(store: Store) -> None:
    calls = []

    def compute() -> dict[str, tuple[int, int]]:
        calls.append(1)
        return {"answer": (1, 2)}

    assert store.get_or_compute("key", compute) == {"answer": [1, 2]}
    assert store.get_or_compute("key", compute) == {"answer": [1, 2]}
    assert len(calls) == 1


def test_a_failed_computation_leaves_no_entry_and_no_lock(store: Store) -> None:
    with pytest.raises(ZeroDivisionError):
        store.get_or_compute("key", lambda: 1 / 0)
    assert store.get("key") is None
    assert store.get_or_compute("key", lambda: "second") == "second"


def test_a_value_that_is_not_json_is_refused_and_the_old_one_stays(store: Store) -> None:
    store.put("key", "old")
    with pytest.raises(TypeError):
        store.put("key", {1, 2})
    assert store.get("key") == "old"


def test_an_entry_with_a_flipped_byte_counts_as_missing_and_is_computed_again(store: Store) -> None:
    store.put("key", {"answers": ["yes", "no"]})
    [file] = files(store)
    content = file.read_bytes()
    for position in range(len(content)):
        file.write_bytes(content[:position] + bytes([content[position] ^ 1]) + content[position + 1 :])
        assert store.get("key") is None, f"the flip at byte {position} went unnoticed"
        assert not file.exists()
    assert store.get_or_compute("key", lambda: "again") == "again"
    assert store.get("key") == "again"


@pytest.mark.parametrize("spoil", [lambda old: old[:-1], lambda old: b"", lambda old: old + b" ", lambda old: b"\n"])
def test_a_file_of_the_wrong_length_counts_as_missing(store: Store, spoil: Callable[[bytes], bytes]) -> None:
    store.put("key", "value")
    [file] = files(store)
    file.write_bytes(spoil(file.read_bytes()))
    assert store.get("key") is None


def test_an_entry_under_the_name_of_another_counts_as_missing(store: Store) -> None:
    store.put("one", 1)
    [file] = files(store)
    store.put("two", 2)
    [other] = set(files(store)) - {file}
    other.write_bytes(file.read_bytes())
    assert store.get("two") is None
    assert store.get("one") == 1


def test_tensors_come_back_bit_for_bit(store: Store) -> None:
    import torch

    shared = torch.randn(4, 6)
    tensors = {
        "half": torch.randn(3, 2).to(torch.bfloat16),
        "special": torch.tensor([float("nan"), -0.0, float("inf")]),
        "scalar": torch.tensor(5),
        "empty": torch.empty(0, 3),
        "view": shared[1:, ::2],
        "whole": shared,
    }
    store.put_tensors("key", tensors)
    got = store.get_tensors("key")
    assert got is not None
    assert got.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert (got[name].dtype, got[name].shape) == (tensor.dtype, tensor.shape)
        as_bytes = [part.contiguous().reshape(-1).view(torch.uint8) for part in (got[name], tensor)]
        assert torch.equal(*as_bytes)
    assert store.get("key") is None  # values and tensors are separate


def test_corrupt_tensors_count_as_missing(store: Store) -> None:
    import torch

    store.put_tensors("key", {"a": torch.arange(16.0)})
    [file] = files(store)
    content = file.read_bytes()
    for position in (0, 9, len(content) // 2, len(content) - 1):
        file.write_bytes(content[:position] + bytes([content[position] ^ 1]) + content[position + 1 :])
        assert store.get_tensors("key") is None, f"the flip at byte {position} went unnoticed"
        assert not file.exists()
    for spoilt in (b"", content[:-1], content[:5]):
        file.write_bytes(spoilt)
        assert store.get_tensors("key") is None


def test_a_store_that_cannot_be_written_gives_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    store = Store(tmp_path / "file")
    with pytest.raises(AuditError, match=r"the store at .* cannot be used .* set AUDIT_STORE to a folder"):
        store.get_or_compute("key", lambda: 1)
    with pytest.raises(AuditError, match="cannot be used"):
        store.put("key", 1)


def refuse(*_: object, **__: object) -> None:
    raise PermissionError(errno.EACCES, "Permission denied")


@pytest.mark.parametrize("name", ["open", "unlink"])
@pytest.mark.parametrize("kind", ["values", "tensors"])
def test_a_damaged_entry_of_a_store_that_can_only_be_read_gives_an_error(
    kind: str, name: str, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    store.put("key", "value")
    store.put_tensors("key", {"a": torch.ones(2)})
    for file in files(store):
        file.write_bytes(b"spoilt")
    if name == "open":
        monkeypatch.setattr(os, "open", refuse)  # used for values
    monkeypatch.setattr(Path, name, refuse)
    with pytest.raises(AuditError, match=r"the store at .* cannot be used \(Permission denied\); free some space or"):
        store.get("key") if kind == "values" else store.get_tensors("key")


def test_the_variable_sets_the_default_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUDIT_STORE", str(tmp_path / "here"))
    assert default_store().root == tmp_path / "here"
    monkeypatch.delenv("AUDIT_STORE")
    assert "model-edit-audit" in str(default_store().root)


def test_old_temporary_files_are_deleted_and_new_ones_are_not(store: Store) -> None:
    store.put("key", 1)
    [file] = files(store)
    old, new = file.with_name("old.tmp"), file.with_name("new.tmp")
    old.touch()
    new.touch()
    past = time.time() - 2 * ABANDONED_AFTER
    os.utime(old, (past, past))
    store.put("key", 2)
    assert not old.exists()
    assert new.exists()


# --- several processes -------------------------------------------------------------------------------------------

COMPUTE_SLOWLY = """
import sys, time
from pathlib import Path
from audit.store.content import Store

root, log, ready, go = map(Path, sys.argv[1:])

def compute():
    with log.open("a") as file:
        file.write("computed\\n")
    time.sleep(0.3)
    return {"answer": list(range(1000))}

ready.touch()
while not go.exists():
    time.sleep(0.005)
sys.stdout.write(str(sum(Store(root).get_or_compute("key", compute)["answer"])))
"""

PUT_FOR_EVER = """
import sys
from pathlib import Path
from audit.store.content import Store

store, round = Store(Path(sys.argv[1])), int(sys.argv[2])
for count in range(1_000_000):
    store.put("key", [f"{round} {count}"] * 20_000)
"""

HOLD_THE_LOCK = """
import sys, time
from pathlib import Path
from audit.store.content import Store

root, ready = map(Path, sys.argv[1:])

def compute():
    ready.touch()
    time.sleep(600)

Store(root).get_or_compute("key", compute)
"""


def test_concurrent_runs_compute_a_value_once(store: Store, tmp_path: Path) -> None:
    log, go = tmp_path / "log", tmp_path / "go"
    ready = [tmp_path / f"ready-{index}" for index in range(2)]
    runs = [start(COMPUTE_SLOWLY, store.root, log, path, go) for path in ready]
    for path in ready:
        wait_until(path.exists)
    go.touch()
    outputs = [run.communicate(timeout=PATIENCE)[0] for run in runs]
    assert [run.returncode for run in runs] == [0, 0]
    assert outputs == [str(sum(range(1000)))] * 2
    assert log.read_text() == "computed\n"


def test_killing_a_run_while_it_writes_leaves_a_complete_entry(store: Store) -> None:
    """Many entries are written under one key, and the writer is killed at some moment."""
    for round_ in range(10):
        writer = start(PUT_FOR_EVER, store.root, round_)
        wait_until(partial(first_line_starts, store, f"{round_} "))
        time.sleep(0.0031 * round_)
        writer.send_signal(signal.SIGKILL)
        writer.communicate(timeout=PATIENCE)

        value = store.get("key")
        assert value is not None, "a killed writer damaged the entry"
        assert len(value) == 20_000
        assert len(set(value)) == 1


def test_the_lock_of_a_killed_run_is_released(store: Store, tmp_path: Path) -> None:
    holder = start(HOLD_THE_LOCK, store.root, tmp_path / "ready")
    wait_until((tmp_path / "ready").exists)
    holder.send_signal(signal.SIGKILL)
    holder.communicate(timeout=PATIENCE)
    assert store.get_or_compute("key", lambda: "mine") == "mine"


def start(program: str, *arguments: object) -> subprocess.Popen[str]:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", program, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)


def first_line_starts(store: Store, start: str) -> bool:
    value = store.get("key")
    return value is not None and value[0].startswith(start)


def wait_until(happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not happened():
        assert time.monotonic() < deadline, f"nothing happened for {PATIENCE} seconds"
        time.sleep(0.01)


def files(store: Store) -> list[Path]:
    """The entries, without lock files."""
    return [path for path in store.root.rglob("*") if path.suffix in (".json", ".safetensors")]


def test_an_entry_is_readable_text(store: Store) -> None:
    store.put("key", {"answer": "東"})
    [file] = files(store)
    header, body = file.read_text(encoding="utf-8").split("\n")
    assert json.loads(header)["key"] == "key"
    assert body == '{"answer": "東"}'
