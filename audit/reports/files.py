"""Texts and pictures beside each other in a folder, in place of what an earlier run left there."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from audit.errors import AuditError


@contextmanager
def written_into(folder: Path, flag: str = "--reports") -> Iterator[None]:
    """While inside, what the system refuses about `folder` becomes one sentence; `flag` is the option that named it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise AuditError(f"{flag} {folder}: it cannot be written ({error.strerror}); give another folder.") from None


def write_texts(folder: Path, texts: Mapping[str, str], flag: str = "--reports") -> tuple[Path, ...]:
    """Write every text into the file of its name; the files written. `flag` as in `written_into`.

    Raises:
        AuditError: the folder cannot be written.
    """
    with written_into(folder, flag):
        for name, text in texts.items():
            (folder / name).write_text(text, encoding="utf-8")
    return tuple(folder / name for name in texts)


def write_findings(folder: Path, name: str, document: Mapping[str, Any], markdown: str) -> tuple[Path, ...]:
    """Write `<name>.json` and `<name>.md`, what was found as data and to read; raises as `write_texts` does."""
    data = json.dumps(document, indent=2, ensure_ascii=False) + "\n"
    return write_texts(folder, {f"{name}.json": data, f"{name}.md": markdown})
