"""Content-addressed storage, safe against crashes and concurrent runs.

    store = Store(Path("cache"))
    answers = store.get_or_compute(content_fingerprint(prompt), lambda: generate(prompt))

An entry is one file, named by the sha256 of its key. It is written to a temporary file, flushed to the disk and moved
into place, so a reader sees the old entry, the new one or none. Each entry has a checksum; a corrupt entry counts as
missing.
"""

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from audit.errors import AuditError
from audit.store.files import clear_way, mark_used, parse_json, read_bytes

if TYPE_CHECKING:
    from torch import Tensor

STORE_VARIABLE = "AUDIT_STORE"
ABANDONED_AFTER = 3600.0  # seconds after which a temporary file is a leftover of a killed run


def default_store() -> "Store":
    """The store in `$AUDIT_STORE`, or in the user's cache folder."""
    root = os.environ.get(STORE_VARIABLE)
    if root:
        return Store(Path(root).expanduser())
    import platformdirs

    return Store(Path(platformdirs.user_cache_dir("model-edit-audit")))


def store_at(folder: Path | None) -> "Store":
    """The store in `folder` (the value of `--store`), or the default store."""
    return default_store() if folder is None else Store(folder)


class Store:
    """Values by key in the folder `root`, which the first `put` creates.

    Keys are any text, usually fingerprints. Values are JSON values, including NaN; tuples are returned as lists. `None`
    means "missing" and cannot be stored. Methods raise `AuditError` if the folder cannot be used.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def get(self, key: str) -> Any | None:
        """The value of `key`, or None if it is missing. A corrupt file is deleted and counts as missing."""
        path = self._path(key, ".json")
        with self._usable():
            clear_way(self.root, path)
            try:
                header, _, body = read_bytes(path).partition(b"\n")
            except (FileNotFoundError, NotADirectoryError):
                return None
            if header == _header(key, body):
                with suppress(ValueError):
                    value = parse_json(body)
                    mark_used(path)
                    return value
            path.unlink(missing_ok=True)
        return None

    def put(self, key: str, value: Any) -> None:
        """Store `value` under `key`, replacing an earlier value. Raises `TypeError` if it is not a JSON value."""
        body = json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass")
        with self._replacing(self._path(key, ".json")) as path:
            path.write_bytes(_header(key, body) + b"\n" + body)

    def get_or_compute(self, key: str, compute: Callable[[], Any]) -> Any:
        """The value of `key`. A missing value is computed and stored, by only one of several concurrent runs."""
        value = self.get(key)
        if value is None:
            with self._locked(self._path(key, ".lock")):
                value = self.get(key)  # another run may have finished while this one waited
                if value is None:
                    value = compute()
                    self.put(key, value)
                    value = json.loads(json.dumps(value))  # the same value as in later runs
        return value

    def get_tensors(self, key: str) -> "dict[str, Tensor] | None":
        """The named tensors of `key` on the CPU, or None if they are missing. A corrupt file is deleted."""
        path = self._path(key, ".safetensors")
        with self._usable():
            clear_way(self.root, path)
            try:
                found, tensors = _tensors_in(path)
            except (FileNotFoundError, NotADirectoryError):
                return None
            if found == key:
                mark_used(path)
                return tensors
            path.unlink(missing_ok=True)
        return None

    def put_tensors(self, key: str, tensors: "Mapping[str, Tensor]") -> None:
        """Store named tensors under `key` as one safetensors file with a checksum in its metadata."""
        from safetensors.torch import save_file

        owned = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
        metadata = {"key": key, "sha256": hash_tensors(owned.items())}
        with self._replacing(self._path(key, ".safetensors")) as path:
            save_file(owned, path, metadata=metadata)

    def is_sound(self, path: Path) -> bool:
        """Whether the file of a value or of tensors is whole and has the name of its key; it is left as it is.

        Raises:
            OSError: the file cannot be read.
        """
        if path.suffix == ".safetensors":
            key = _tensors_in(path)[0]
        else:
            header, _, body = read_bytes(path).partition(b"\n")
            key = key_in(header)
            try:
                parse_json(body)
            except ValueError:
                return False
            if key is None or header != _header(key, body):
                return False
        return key is not None and path == self._path(key, path.suffix)

    def _path(self, key: str, suffix: str) -> Path:
        name = hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()
        return self.root / name[:2] / (name + suffix)

    @contextmanager
    def _locked(self, path: Path) -> Iterator[None]:
        """Hold a lock that excludes other runs; the system releases the lock of a killed run."""
        from filelock import FileLock

        with self._usable():
            clear_way(self.root, path)
            path.parent.mkdir(parents=True, exist_ok=True)
            lock = FileLock(path)
            lock.acquire()
        try:
            yield
        finally:
            lock.release()

    @contextmanager
    def _replacing(self, path: Path) -> Iterator[Path]:
        """Yield a temporary path, which is moved to `path` in one step once its content is on the disk."""
        with self._usable():
            clear_way(self.root, path)
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
    """Inside the context, an `OSError` becomes an `AuditError` about the store at `root`."""
    try:
        yield
    except OSError as error:
        raise AuditError(
            f"the store at {root} cannot be used ({error.strerror or error}); "
            f"free some space or set {STORE_VARIABLE} to a folder that is writable."
        ) from error


def content_fingerprint(content: Any) -> str:
    """sha256 over JSON content, independent of the order of a mapping's keys.

    Raises:
        TypeError: the content is not a JSON value.
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


def key_in(header: bytes) -> str | None:
    """The key in the first line of a value's file; None if the line is damaged."""
    try:
        key = parse_json(header)["key"]
    except (ValueError, KeyError, TypeError):
        return None
    return key if isinstance(key, str) else None


def _tensors_in(path: Path) -> "tuple[str | None, dict[str, Tensor]]":
    """The key and the tensors in a file; the key is None if the file is damaged. Raises `OSError`."""
    from safetensors import SafetensorError, safe_open

    path.open("rb").close()  # safetensors calls every file missing that it cannot open
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    except SafetensorError:
        return None, {}
    sound = metadata.get("sha256") == hash_tensors(tensors.items())
    return metadata.get("key") if sound else None, tensors


def _header(key: str, body: bytes) -> bytes:
    """The first line of an entry: its key and the checksum of the rest."""
    return json.dumps({"key": key, "sha256": hashlib.sha256(body).hexdigest()}).encode()


def flush_to_disk(path: Path) -> None:
    """Flush the content of a file, or the entries of a folder, to the disk."""
    if path.is_dir() and os.name == "nt":
        return  # Windows cannot open folders; its renames are durable
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove_abandoned(folder: Path) -> None:
    """Delete old temporary files of killed runs."""
    oldest = time.time() - ABANDONED_AFTER
    for leftover in folder.glob("*.tmp"):
        try:
            if leftover.lstat().st_mtime < oldest:
                leftover.unlink()
        except OSError:
            continue  # another run deleted it, or it is a folder
