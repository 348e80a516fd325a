"""Safe access to files from untrusted sources: only regular files are opened, and too deeply nested JSON is an error.

    config = read_json(folder / "config.json")  # raises OSError or ValueError, and nothing else
    clear_way(store.root, path)  # renames whatever is at `path` but is not a regular file

Links are followed when files are read, but not inside a store.
"""

import json
import os
import stat
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

_KINDS = (
    (stat.S_ISLNK, "a symbolic link"),
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


ASIDE = ".aside"  # suffix of what was moved aside


class SetAsideWarning(UserWarning):
    """Something that is not a regular file or folder was found at a path of the store, and was renamed."""


def read_bytes(path: Path) -> bytes:
    """The content of a regular file; a link to one is followed.

    Raises:
        OSError: there is no such file, or it is a folder, a pipe, a device or a socket, from which reading may not end.
    """
    require_file(path)
    with open(os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0)), "rb") as file:
        return file.read()


def require_file(path: Path) -> None:
    """Raise `OSError` if there is no regular file, nor a link to one, at `path`."""
    kind = kind_of(os.stat(path).st_mode)
    if kind:
        raise OSError(0, f"{path.name} is {kind}, not a file", str(path))


def read_text(path: Path) -> str:
    """The UTF-8 text in a regular file; every end of a line becomes a line feed, as in `Path.read_text`.

    Raises:
        OSError: as in `read_bytes`.
        UnicodeDecodeError: it is not UTF-8.
    """
    return read_bytes(path).decode("utf-8").replace("\r\n", "\n").replace("\r", "\n")


def read_json(path: Path) -> Any:
    """The JSON value in a regular file of UTF-8 text.

    Raises:
        OSError: as in `read_bytes`.
        ValueError: it is not UTF-8, not JSON, or nested too deeply to be read.
    """
    return parse_json(read_bytes(path).decode("utf-8"))


def parse_json(text: str | bytes) -> Any:
    """The value of a JSON text. Raises `ValueError` if it is not JSON, or nested too deeply to be read."""
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("its JSON is nested too deeply") from None


def kind_of(mode: int) -> str:
    """The kind of a file with this `st_mode`, such as "a folder"; empty for a regular file."""
    return next((name for is_kind, name in _KINDS if is_kind(mode)), "")


def mark_used(path: Path) -> None:
    """Set the time of a file to now: the last use of what it belongs to. A store that is read-only stays as it is."""
    with suppress(OSError):
        os.utime(path)


def clear_way(root: Path, path: Path) -> None:
    """Rename whatever blocks the file `path` of a store in the folder `root`, with a `SetAsideWarning`.

    Anything at `path` that is not a regular file is renamed, and links, pipes and devices between `root` and `path`.
    Links are not followed, since they could point outside the store.
    """
    for ancestor in reversed(path.parents):
        if root in ancestor.parents:
            set_aside(ancestor, wanted="folder")
    set_aside(path, wanted="file")


def set_aside(path: Path, *, wanted: str) -> None:
    """Rename what is at `path`, with a warning, unless it is a regular file or of the kind `wanted` (file, folder)."""
    try:
        mode = os.lstat(path).st_mode
    except (FileNotFoundError, NotADirectoryError):
        return
    if stat.S_ISREG(mode) or (wanted == "folder" and stat.S_ISDIR(mode)):
        return
    other = path.with_name(f"{path.name}.{uuid4().hex[:8]}{ASIDE}")
    os.rename(path, other)
    warnings.warn(
        f"{path} is {kind_of(mode)}, not a {wanted}; it was renamed to {other.name}, and a new {wanted} takes its "
        "place.",
        SetAsideWarning,
        stacklevel=3,
    )
