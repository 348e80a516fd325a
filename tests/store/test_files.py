"""What is no regular file in the store is moved aside and replaced; links are not followed, pipes do not hang."""

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from audit.store.answer_log import AnswerLog
from audit.store.content import Store
from audit.store.files import SetAsideWarning, parse_json, read_bytes, read_json, read_text

OUTSIDE = "outside the store"


def make_loop(path: Path, elsewhere: Path) -> None:
    os.symlink(path.with_name("other"), path)
    os.symlink(path, path.with_name("other"))


IRREGULAR: dict[str, Callable[[Path, Path], object]] = {
    "folder": lambda path, elsewhere: (path / "inner").mkdir(parents=True),
    "link to a file": lambda path, elsewhere: os.symlink(elsewhere, path),
    "dangling link": lambda path, elsewhere: os.symlink(elsewhere.with_name("missing"), path),
    "looping link": make_loop,
    "link to a device": lambda path, elsewhere: os.symlink("/dev/zero", path),
    "named pipe": lambda path, elsewhere: os.mkfifo(path),
}
kinds = pytest.mark.parametrize("kind", IRREGULAR)


def replaced(path: Path, kind: str) -> Path:
    """A file outside of the store, after `path` in it was replaced by something else."""
    elsewhere = path.parents[2] / "elsewhere.txt"
    elsewhere.write_text(OUTSIDE)
    path.unlink()
    IRREGULAR[kind](path, elsewhere)
    return elsewhere


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def only_file(store: Store, suffix: str) -> Path:
    (path,) = store.root.rglob(f"*{suffix}")
    return path


@kinds
def test_an_entry_is_replaced_by_a_new_one(kind: str, store: Store) -> None:
    store.put("key", "value")
    elsewhere = replaced(only_file(store, ".json"), kind)
    with pytest.warns(SetAsideWarning, match="not a file; it was renamed to .*, and a new file takes its place"):
        assert store.get("key") is None
    store.put("key", "again")
    assert store.get("key") == "again" and elsewhere.read_text() == OUTSIDE


@kinds
def test_an_entry_is_written_where_something_else_was(kind: str, store: Store) -> None:
    store.put("key", "value")
    elsewhere = replaced(only_file(store, ".json"), kind)
    with pytest.warns(SetAsideWarning):
        store.put("key", "again")
    assert store.get("key") == "again" and elsewhere.read_text() == OUTSIDE


@kinds
def test_tensors_are_replaced_by_new_ones(kind: str, store: Store) -> None:
    store.put_tensors("key", {"a": torch.ones(2)})
    replaced(only_file(store, ".safetensors"), kind)
    with pytest.warns(SetAsideWarning):
        assert store.get_tensors("key") is None
    store.put_tensors("key", {"a": torch.zeros(2)})
    assert store.get_tensors("key")["a"].tolist() == [0, 0]


@kinds
@pytest.mark.parametrize("reads_first", [True, False])
def test_a_log_of_answers_is_begun_anew(kind: str, reads_first: bool, store: Store) -> None:
    AnswerLog.of(store, "state").add({"a": 1})
    elsewhere = replaced(only_file(store, ".jsonl"), kind)
    log = AnswerLog.of(store, "state")
    with pytest.warns(SetAsideWarning):
        if reads_first:
            assert log.known() == {}
        log.add({"b": 2})
    assert AnswerLog.of(store, "state").known() == {"b": 2} and elsewhere.read_text() == OUTSIDE
    assert stat.S_ISREG(os.lstat(log.path).st_mode)


@kinds
def test_a_lock_is_replaced_by_a_new_one(kind: str, store: Store) -> None:
    store.get_or_compute("key", lambda: 1)
    replaced(only_file(store, ".lock"), kind)
    only_file(store, ".json").unlink()
    with pytest.warns(SetAsideWarning):
        assert store.get_or_compute("key", lambda: 2) == 2


def test_a_folder_of_the_store_that_is_a_link_is_not_followed(store: Store, tmp_path: Path) -> None:
    store.put("key", "value")
    folder = only_file(store, ".json").parent
    os.rename(folder, tmp_path / "elsewhere")
    os.symlink(tmp_path / "elsewhere", folder)
    with pytest.warns(SetAsideWarning, match="a symbolic link, not a folder"):
        assert store.get("key") is None
    store.put("key", "again")
    assert store.get("key") == "again" and len(list((tmp_path / "elsewhere").iterdir())) == 1


def test_the_root_of_a_store_may_be_a_link(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    os.symlink(tmp_path / "disk", tmp_path / "store")
    Store(tmp_path / "store").put("key", "value")
    assert Store(tmp_path / "store").get("key") == "value"


def test_a_text_has_line_feeds_only(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes("é\r\nb\rc\u2028d\n".encode())
    assert read_text(tmp_path / "a.txt") == (tmp_path / "a.txt").read_text(encoding="utf-8") == "é\nb\nc\u2028d\n"


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 100_000, "[1,", "", "\ufeff{}"])
def test_json_of_any_depth_is_a_value_or_an_error(text: str, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(ValueError):
        parse_json(text)
    with pytest.raises(ValueError):
        read_json(tmp_path / "a.json")


@pytest.mark.parametrize("kind", [kind for kind in IRREGULAR if kind != "link to a file"])
def test_only_regular_files_are_read(kind: str, tmp_path: Path) -> None:
    IRREGULAR[kind](tmp_path / "a", tmp_path / "b")
    with pytest.raises(OSError):
        read_bytes(tmp_path / "a")


def test_a_link_to_a_file_of_the_user_is_read(tmp_path: Path) -> None:
    (tmp_path / "b").write_text("{}")
    os.symlink(tmp_path / "b", tmp_path / "a")
    assert read_json(tmp_path / "a") == {}


def test_old_leftovers_that_are_no_files_are_ignored(store: Store) -> None:
    store.put("key", "value")
    folder = only_file(store, ".json").parent
    (folder / "old.tmp").mkdir()
    os.symlink(folder / "loop.tmp", folder / "loop.tmp")
    for name in ("old.tmp", "loop.tmp"):
        os.utime(folder / name, (0, 0), follow_symlinks=False)
    store.put("key", "again")
    assert store.get("key") == "again"
