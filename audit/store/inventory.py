"""What a store holds: an entry for each answer log, edit plan, converted model and value, with its size and last use.

    for entry in entries(Path("cache")):
        print(entry.kind, entry.name, entry.bytes)

Only what has the names of a store's own files is an entry, so nothing else in the folder is counted or deleted.
"""

import re
import shutil
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from audit.store.content import ABANDONED_AFTER, key_in
from audit.store.files import ASIDE
from audit.store.places import ANSWERS, MODELS, PLANS, PROMPTS

# The kinds of entry.
LOG, PLAN, MODEL, PROMPT, COVARIANCE, LAYERS, DATA, OTHER, LEFTOVER = (
    "answers",
    "edit plans",
    "converted models",
    "disturbed prompts",
    "covariances",
    "located layers",
    "commits of data sets",
    "other values",
    "leftovers of killed runs",
)
PLAN_LOCK = ".lock"
_KINDS_OF_KEYS = {"covariance ": COVARIANCE, "located layers ": LAYERS, "commit of the hub's data set ": DATA}
_HASH, _PLAN = re.compile("[0-9a-f]{64}"), re.compile("[0-9a-f]{32}")
# Of the kinds with a folder of their own: where their entries are, and how they are named.
_PLACES = {
    LOG: (f"{ANSWERS}/??/*", re.compile(r"[0-9a-f]{64}\.jsonl")),
    PLAN: (f"{PLANS}/*/", _PLAN),
    MODEL: (f"{MODELS}/*/", re.compile(r"gguf-\d+-[0-9a-f]{64}")),
    PROMPT: (f"{PROMPTS}/*/", re.compile("[0-9a-f]{16}")),
}


@dataclass(frozen=True)
class Entry:
    """One entry of a store.

    name   its path below the root of the store, with slashes
    bytes  the size of its files
    used   the time of its last use, in seconds since 1970
    key    of a value: what it was stored under
    """

    kind: str
    name: str
    bytes: int
    used: float
    key: str = ""

    def unused_for(self, now: float | None = None) -> float:
        """Seconds since its last use."""
        return (time.time() if now is None else now) - self.used


def entries(root: Path) -> list[Entry]:
    """The entries of the store in the folder `root`, by kind and name; none if there is no such folder."""
    found = [*_placed(root), *_values(root), *_leftovers(root)]
    return sorted(found, key=lambda entry: (entry.kind, entry.name))


def remove(root: Path, entry: Entry, *, unused_for: float = 0.0) -> bool:
    """Delete an entry, under its lock; whether it was deleted.

    It stays if a run holds its lock, or has used it in the last `unused_for` seconds.

    Raises:
        OSError: a file cannot be deleted.
    """
    path, lock = root / entry.name, _lock_of(root, entry)
    if lock is None:
        return _remove_unused(path, unused_for)
    try:
        with FileLock(lock, timeout=0):
            gone = _remove_unused(path, unused_for)
    except Timeout:
        return False
    if gone:
        lock.unlink(missing_ok=True)
        if entry.kind == PLAN:
            shutil.rmtree(path, ignore_errors=True)
    return gone


def _remove_unused(path: Path, unused_for: float) -> bool:
    if time.time() - _last_use(path) < unused_for:
        return False
    if not path.is_dir():
        path.unlink(missing_ok=True)
        return True
    for part in path.iterdir():
        if part.is_dir() and not part.is_symlink():
            shutil.rmtree(part)
        elif part.name != PLAN_LOCK:  # it is held
            part.unlink()
    if not any(path.iterdir()):
        path.rmdir()
    return True


def _lock_of(root: Path, entry: Entry) -> Path | None:
    """The file that a run locks while it writes the entry."""
    path = root / entry.name
    if entry.kind == PLAN:
        return path / PLAN_LOCK
    if entry.kind in (PROMPT, LEFTOVER):
        return None
    return path.with_name(f"{path.name}.lock") if entry.kind == MODEL else path.with_suffix(".lock")


def _placed(root: Path) -> Iterator[Entry]:
    """The entries of `_PLACES`."""
    for kind, (place, name) in _PLACES.items():
        for path in root.glob(place):
            if name.fullmatch(path.name):
                yield _entry(root, kind, path)


def _values(root: Path) -> Iterator[Entry]:
    for path in root.glob("??/*"):
        if path.suffix in (".json", ".safetensors") and _HASH.fullmatch(path.stem):
            key = _key_of(path)
            kind = next((kind for start, kind in _KINDS_OF_KEYS.items() if key.startswith(start)), OTHER)
            yield _entry(root, kind, path, key)


def _leftovers(root: Path) -> Iterator[Entry]:
    """Files that a killed run was writing, and what was moved aside."""
    places = ("??/*", f"{ANSWERS}/??/*", f"{MODELS}/*", f"{PLANS}/*", f"{PLANS}/*/steps/.writing-*")
    for path in (path for place in places for path in root.glob(place)):
        owned = path.suffix in (".tmp", ASIDE) and (_PLAN.match(path.name) or path.name.startswith("gguf-"))
        if (owned or path.parent.name == "steps") and time.time() - _last_use(path) > ABANDONED_AFTER:
            yield _entry(root, LEFTOVER, path)


def _key_of(path: Path) -> str:
    """The key in the file of a value; "" if it is damaged."""
    with suppress(OSError):
        if path.suffix == ".json":
            with path.open("rb") as file:
                return key_in(file.readline().rstrip(b"\n")) or ""
        from safetensors import SafetensorError, safe_open

        with suppress(SafetensorError), safe_open(path, framework="np") as file:
            return str((file.metadata() or {}).get("key", ""))
    return ""


def _entry(root: Path, kind: str, path: Path, key: str = "") -> Entry:
    size = sum(_stat(file)[0] for file in _files(path))
    return Entry(kind, path.relative_to(root).as_posix(), size, _last_use(path), key)


def _files(path: Path) -> list[Path]:
    """The files of an entry; links are not followed."""
    return [path] if path.is_symlink() or not path.is_dir() else [file for file in path.rglob("*") if not file.is_dir()]


def _last_use(path: Path) -> float:
    """The latest time of its files besides the lock; of a folder without files, its own."""
    return max((_stat(file)[1] for file in _files(path) if file.name != PLAN_LOCK), default=0.0) or _stat(path)[1]


def _stat(path: Path) -> tuple[int, float]:
    """Size and time of a file; zeros if another run has deleted it."""
    try:
        found = path.lstat()
    except OSError:
        return 0, 0.0
    return found.st_size, found.st_mtime
