"""Content-addressed storage that survives crashes and several runs at once.

    store = Store(Path("cache"))
    answers = store.get_or_compute(content_fingerprint(question), lambda: ask(question))

An entry is one file, named by the sha256 of its key. It is written aside, flushed to the disk and moved into place,
so a reader sees the old entry, the new one or none; a checksum catches what the disk itself spoils, and a spoilt
entry counts as missing.
"""

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from audit.errors import AuditError

if TYPE_CHECKING:
    from torch import Tensor

STORE_VARIABLE = "AUDIT_STORE"
ABANDONED_AFTER = 3600.0  # seconds until a half-written file is taken for the remains of a killed run


def default_store() -> "Store":
    """The store in `$AUDIT_STORE`, or else in the user's cache folder."""
    root = os.environ.get(STORE_VARIABLE)
    if root:
        return Store(Path(root).expanduser())
    import platformdirs

    return Store(Path(platformdirs.user_cache_dir("model-edit-audit")))


def store_at(folder: Path | None) -> "Store":
    """The store in `folder`, as `--store` names it; the default one where it names none."""
    return default_store() if folder is None else Store(folder)


class Store:
    """Values kept by key under `root`, which is made when something is first put there.

    Keys are any text (fingerprints, as a rule). Values are whatever JSON can hold, NaN included, and come back as JSON
    gives them: a tuple becomes a list. `None` means "not there" and cannot be kept.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def get(self, key: str) -> Any | None:
        """The value of `key`; None when it was never put, or its file is spoilt (which deletes the file)."""
        path = self._path(key, ".json")
        with self._usable():
            try:
                header, _, body = path.read_bytes().partition(b"\n")
            except (FileNotFoundError, NotADirectoryError):
                return None
        if header == _header(key, body):
            return json.loads(body)
        path.unlink(missing_ok=True)
        return None

    def put(self, key: str, value: Any) -> None:
        """Keep `value` under `key`, in place of what was there.

        Raises:
            TypeError: JSON cannot hold the value.
            AuditError: the store's folder cannot be used.
        """
        body = json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass")
        with self._replacing(self._path(key, ".json")) as path:
            path.write_bytes(_header(key, body) + b"\n" + body)

    def get_or_compute(self, key: str, compute: Callable[[], Any]) -> Any:
        """The value of `key`; computed and kept if missing, by one run only however many ask at the same time."""
        value = self.get(key)
        if value is None:
            with self._locked(self._path(key, ".lock")):
                value = self.get(key)  # another run may have finished while this one waited
                if value is None:
                    value = compute()
                    self.put(key, value)
                    value = json.loads(json.dumps(value))  # the first run sees what later runs will see
        return value

    def get_tensors(self, key: str) -> "dict[str, Tensor] | None":
        """The named tensors of `key` on the CPU; None when they were never put, or the file is spoilt (and deleted)."""
        from safetensors import SafetensorError, safe_open

        path = self._path(key, ".safetensors")
        if not path.exists():
            return None
        try:
            with safe_open(path, framework="pt") as file:
                metadata = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
        except FileNotFoundError:
            return None
        except SafetensorError:
            metadata, tensors = {}, {}
        if metadata.get("key") == key and metadata.get("sha256") == hash_tensors(tensors.items()):
            return tensors
        path.unlink(missing_ok=True)
        return None

    def put_tensors(self, key: str, tensors: "Mapping[str, Tensor]") -> None:
        """Keep named tensors under `key` as one safetensors file, its checksum in the file's metadata.

        Raises:
            AuditError: the store's folder cannot be used.
        """
        from safetensors.torch import save_file

        owned = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
        metadata = {"key": key, "sha256": hash_tensors(owned.items())}
        with self._replacing(self._path(key, ".safetensors")) as path:
            save_file(owned, path, metadata=metadata)

    def _path(self, key: str, suffix: str) -> Path:
        name = hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()
        return self.root / name[:2] / (name + suffix)

    @contextmanager
    def _locked(self, path: Path) -> Iterator[None]:
        """Alone among all runs; the system lets go of the lock of a run that was killed."""
        from filelock import FileLock

        with self._usable():
            path.parent.mkdir(parents=True, exist_ok=True)
            lock = FileLock(path)
            lock.acquire()
        try:
            yield
        finally:
            lock.release()

    @contextmanager
    def _replacing(self, path: Path) -> Iterator[Path]:
        """A path to write beside `path`, moved to `path` in one step once the disk has it."""
        with self._usable():
            path.parent.mkdir(parents=True, exist_ok=True)
            _remove_abandoned(path.parent)
            aside = path.with_name(f"{path.name}.{uuid4().hex}.tmp")
            try:
                yield aside
                flush_to_disk(aside)
                os.replace(aside, path)
                flush_to_disk(path.parent)
            finally:
                aside.unlink(missing_ok=True)

    def _usable(self) -> AbstractContextManager[None]:
        return usable(self.root)


@contextmanager
def usable(root: Path) -> Iterator[None]:
    """While inside, what the system refuses about files under `root` becomes one sentence."""
    try:
        yield
    except OSError as error:
        raise AuditError(
            f"the store at {root} cannot be used ({error.strerror or error}); "
            f"free some space or set {STORE_VARIABLE} to a folder that you may write."
        ) from error


def content_fingerprint(content: Any) -> str:
    """sha256 over JSON content; the order of a mapping's keys does not count, that of a list does.

    Raises:
        TypeError: JSON cannot hold the content.
    """
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def hash_tensors(named: "Iterable[tuple[str, Tensor]]") -> str:
    """sha256 over name, dtype, shape and bytes of each tensor, in the order of the names."""
    import torch

    digest = hashlib.sha256()
    for name, tensor in sorted(named, key=lambda pair: pair[0]):
        digest.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
        flat = tensor.detach().cpu().contiguous().reshape(-1)
        digest.update(flat.view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _header(key: str, body: bytes) -> bytes:
    """The first line of an entry: its key and the checksum of everything that follows the line."""
    return json.dumps({"key": key, "sha256": hashlib.sha256(body).hexdigest()}).encode()


def flush_to_disk(path: Path) -> None:
    """Wait until the disk holds a file's bytes, or a folder's names."""
    if path.is_dir() and os.name == "nt":
        return  # Windows opens no folders; its renames are durable by themselves
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove_abandoned(folder: Path) -> None:
    """Delete what runs that were killed while writing left behind."""
    oldest = time.time() - ABANDONED_AFTER
    for leftover in folder.glob("*.tmp"):
        try:
            if leftover.stat().st_mtime < oldest:
                leftover.unlink()
        except FileNotFoundError:
            continue  # another run was quicker
