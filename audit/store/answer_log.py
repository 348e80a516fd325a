"""A log of the answers of one model state. A run that is killed loses only the current batch.

    log = AnswerLog.of(store, content_fingerprint(state))
    log.add({"3f2a": "Paris", "77b0": [-1.5, -2.25]})
    log.known()["3f2a"]

The log is one file with an answer and a checksum on each line. A batch is appended under a lock in one write, which is
flushed to the disk, so several runs can share a file. An incomplete line of a killed run is skipped.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

from filelock import FileLock

from audit.store.content import Store, flush_to_disk, usable
from audit.store.files import clear_way, mark_used, parse_json
from audit.store.places import ANSWERS

CHECKSUM = 12  # hexadecimal digits at the start of a line


class AnswerLog:
    """The answers in one file by key, usually the fingerprint of a prompt; values are JSON values, including NaN.

    The first `add` creates the file. `known` also reads the answers that other runs have added since its last call.
    """

    def __init__(self, path: Path, root: Path | None = None) -> None:
        self.path = path
        self._root = root or path.parent  # links between it and the file are moved aside
        self._known: dict[str, Any] = {}
        self._read = 0  # bytes of the file read so far, up to the end of a line

    @classmethod
    def of(cls, store: Store, state: str) -> "AnswerLog":
        """The log in `store` of the model state with the fingerprint `state`."""
        name = hashlib.sha256(state.encode()).hexdigest()
        return cls(store.root / ANSWERS / name[:2] / f"{name}.jsonl", store.root)

    def known(self) -> Mapping[str, Any]:
        """All complete answers in the file, by fingerprint; a later answer replaces an earlier one.

        Raises:
            AuditError: the folder of the store cannot be used.
        """
        with usable(self.path.parent):
            clear_way(self._root, self.path)
            if not self.path.exists():
                return self._known
            mark_used(self.path)
            with self.path.open("rb") as file:
                file.seek(self._read)
                fresh = file.read()
        whole, newline, _ = fresh.rpartition(b"\n")
        for line in whole.split(b"\n"):
            checksum, body = line[:CHECKSUM], line[CHECKSUM:]
            if checksum == _checksum(body):
                with suppress(ValueError, TypeError):  # not written by this package
                    fingerprint, answer = parse_json(body)
                    self._known[fingerprint] = answer
        self._read += len(whole) + len(newline)
        return self._known

    def add(self, answers: Mapping[str, Any]) -> None:
        """Append a batch. Once this returns, the batch is on the disk.

        Raises:
            TypeError: an answer is not a JSON value.
            AuditError: the folder of the store cannot be used.
        """
        if not answers:
            return
        bodies = [json.dumps([fingerprint, answer]).encode() for fingerprint, answer in answers.items()]
        lines = b"".join(_checksum(body) + body + b"\n" for body in bodies)
        with usable(self.path.parent):
            for path in (self.path, self.path.with_suffix(".lock")):
                clear_way(self._root, path)
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(self.path.with_suffix(".lock")), self.path.open("ab+") as file:
                if _ends_within_a_line(file):
                    lines = b"\n" + lines
                file.write(lines)
                file.flush()
                os.fsync(file.fileno())
            if self._read == 0:
                flush_to_disk(self.path.parent)


def damaged_lines(path: Path, *, drop: bool = False) -> int:
    """The number of complete lines of a log that are no answer; with `drop` they are deleted, under the log's lock.

    An incomplete last line may be one that is being written, and does not count.

    Raises:
        OSError: the file cannot be read or replaced.
    """
    with FileLock(path.with_suffix(".lock"), timeout=0) if drop else nullcontext():
        whole, newline, _ = path.read_bytes().rpartition(b"\n")
        lines = [line for line in whole.split(b"\n") if line]
        sound = [line for line in lines if line[:CHECKSUM] == _checksum(line[CHECKSUM:])]
        if drop and len(sound) < len(lines):
            aside = path.with_name(f"{path.name}.{uuid4().hex}.tmp")
            aside.write_bytes(b"".join(line + newline for line in sound))
            flush_to_disk(aside)
            os.replace(aside, path)
    return len(lines) - len(sound)


def _ends_within_a_line(file: Any) -> bool:
    """Whether the file ends with an incomplete line of a killed run; the next line must not continue it."""
    if file.seek(0, os.SEEK_END) == 0:
        return False
    file.seek(-1, os.SEEK_END)
    return bool(file.read(1) != b"\n")


def _checksum(body: bytes) -> bytes:
    return hashlib.sha256(body).hexdigest()[:CHECKSUM].encode()
