"""Answers of one model state, kept as they come: a run that is killed loses the batch under way and nothing else.

    log = AnswerLog.of(store, content_fingerprint(state))
    log.add({"3f2a": "Paris", "77b0": [-1.5, -2.25]})
    log.known()["3f2a"]

One file, one answer a line, each line with its own checksum. Whole batches are appended under a lock, in one write that
is flushed to the disk, so several runs may share a file; half a line that a killed run left behind is passed over.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from filelock import FileLock

from audit.store.content import Store, flush_to_disk, usable

LOG_FOLDER = "answers"
CHECKSUM = 12  # hexadecimal digits at the start of a line


class AnswerLog:
    """The answers in one file, by the fingerprint of their question; values are whatever JSON can hold, NaN included.

    The file is made when something is first added. `known` takes in what any run has added since it was last called.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._known: dict[str, Any] = {}
        self._read = 0  # bytes of the file that were read, up to the end of a line

    @classmethod
    def of(cls, store: Store, state: str) -> "AnswerLog":
        """The log in the store of a model state with this fingerprint."""
        name = hashlib.sha256(state.encode()).hexdigest()
        return cls(store.root / LOG_FOLDER / name[:2] / f"{name}.jsonl")

    def known(self) -> Mapping[str, Any]:
        """Every whole answer in the file; of two to one question the later."""
        with usable(self.path.parent):
            if not self.path.exists():
                return self._known
            with self.path.open("rb") as file:
                file.seek(self._read)
                fresh = file.read()
        whole, newline, _ = fresh.rpartition(b"\n")
        for line in whole.split(b"\n"):
            checksum, body = line[:CHECKSUM], line[CHECKSUM:]
            if checksum == _checksum(body):
                question, answer = json.loads(body)
                self._known[question] = answer
        self._read += len(whole) + len(newline)
        return self._known

    def add(self, answers: Mapping[str, Any]) -> None:
        """Keep a batch; once this returns, it survives whatever happens to this run.

        Raises:
            TypeError: JSON cannot hold an answer.
            AuditError: the store's folder cannot be used.
        """
        if not answers:
            return
        bodies = [json.dumps([question, answer]).encode() for question, answer in answers.items()]
        lines = b"".join(_checksum(body) + body + b"\n" for body in bodies)
        with usable(self.path.parent):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(self.path.with_suffix(".lock")), self.path.open("ab+") as file:
                if _ends_within_a_line(file):
                    lines = b"\n" + lines
                file.write(lines)
                file.flush()
                os.fsync(file.fileno())
            if self._read == 0:
                flush_to_disk(self.path.parent)


def _ends_within_a_line(file: Any) -> bool:
    """Whether a killed run left half a line at the end, which must not run into what comes next."""
    if file.seek(0, os.SEEK_END) == 0:
        return False
    file.seek(-1, os.SEEK_END)
    return bool(file.read(1) != b"\n")


def _checksum(body: bytes) -> bytes:
    return hashlib.sha256(body).hexdigest()[:CHECKSUM].encode()
