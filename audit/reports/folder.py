"""Folders of results: that of a run, `reports/20261121-101500-memit-pocket-gpt2/`, and those of other commands."""

import csv
import io
import json
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from audit.errors import AuditError
from audit.reports.json_report import items_from_jsonl, items_jsonl, report_from_json, verdict_json
from audit.reports.markdown import markdown
from audit.reports.rows import RunReport
from audit.settings.values import file_name, short_name
from audit.store.content import flush_to_disk
from audit.store.files import read_bytes


def run_name(report: RunReport) -> str:
    """The time (UTC), the editor and the model's last name, in characters that every file system accepts."""
    stamp = re.sub(r"[^0-9T]", "", report.header.started[:19]).replace("T", "-")
    editor = report.header.editor.rsplit(":", 1)[-1]
    parts = (short_name(editor) if report.header.compared else editor, short_name(report.header.model))
    return "-".join([stamp, *(file_name(part).strip("-.")[:60] for part in parts)])


def write_report(report: RunReport, root: Path | str = "reports", items: Iterable[str] | None = None) -> Path:
    """Write the files of a run into a new folder under `root`, and return the folder.

    They are `verdict.json`, `items.jsonl`, `report.md` and `report.html`, written and synced in a hidden folder that is
    then renamed, so a reader never sees half a report. A second run of the same second gets `-2`. `items` are the lines
    of `items.jsonl`, by default those of the report's items; the page shows items of the report.

    Raises:
        AuditError: `root` cannot be written.
    """
    root, name = Path(root), run_name(report)
    lines = items_jsonl(report.items) if items is None else "".join(items)
    try:
        root.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=".writing-", dir=root))
        try:
            draft.chmod(0o755)
            for number in range(1, 1000):
                folder = root / (name if number == 1 else f"{name}-{number}")
                if folder.exists():
                    continue
                _write_files(replace(report, folder=str(folder)), draft, lines)
                try:
                    draft.rename(folder)
                except OSError:
                    if not folder.exists():  # another run took the name in the meantime
                        raise
                else:
                    return folder
        finally:
            shutil.rmtree(draft, ignore_errors=True)
    except OSError as error:
        raise AuditError(f"--reports {root}: the report cannot be written there ({error.strerror}).") from None
    raise AuditError(f"--reports {root}: it holds a thousand runs called {name}; give another folder.")


def read_report(folder: Path | str, *, with_items: bool = False) -> RunReport:
    """Read a run's folder (or its `verdict.json`).

    Raises:
        AuditError: there is no report, or one that cannot be read.
    """
    folder = Path(folder)
    file = folder if folder.name == "verdict.json" else folder / "verdict.json"
    report = report_from_json(_text(file), origin=str(file), folder=str(file.parent))
    if with_items:
        items = file.parent / "items.jsonl"
        report = replace(report, items=items_from_jsonl(_text(items), origin=str(items)))
    return report


def _text(file: Path) -> str:
    try:
        return read_bytes(file).decode("utf-8")
    except (OSError, UnicodeDecodeError):
        raise AuditError(f"{file} cannot be read: give the folder of a run, such as reports/<run>.") from None


def _write_files(report: RunReport, folder: Path, items: str) -> None:
    from audit.reports.html.run_page import run_html  # the template engine is slow to import

    texts = {
        "verdict.json": verdict_json(report),
        "items.jsonl": items,
        "report.md": markdown(report),
        "report.html": run_html(report),
    }
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8", errors="backslashreplace")  # lone surrogates
        flush_to_disk(folder / name)


@contextmanager
def written_into(folder: Path, flag: str = "--reports") -> Iterator[None]:
    """Makes `folder`, and turns an `OSError` inside the context into an `AuditError` that names it and its option."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise AuditError(f"{flag} {folder}: it cannot be written ({error.strerror}); give another folder.") from None


def write_texts(folder: Path, texts: Mapping[str, str], flag: str = "--reports") -> tuple[Path, ...]:
    """Write each text into the file of its name, and return the files; `flag` as in `written_into`.

    Raises:
        AuditError: the folder cannot be written.
    """
    with written_into(folder, flag):
        for name, text in texts.items():
            (folder / name).write_text(text, encoding="utf-8")
    return tuple(folder / name for name in texts)


def csv_text(fields: Sequence[str], rows: Iterable[Mapping[str, object]]) -> str:
    """The rows as CSV under a line with the names of the fields; missing values are empty."""
    stream = io.StringIO()
    writer = csv.DictWriter(stream, fields, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue()


def write_findings(
    folder: Path, name: str, document: Mapping[str, Any], markdown: str, html: str = ""
) -> tuple[Path, ...]:
    """Write `<name>.json`, `<name>.md` and, if there is one, `<name>.html`; raises as `write_texts` does."""
    data = json.dumps(document, indent=2, ensure_ascii=False) + "\n"
    page = {f"{name}.html": html} if html else {}
    return write_texts(folder, {f"{name}.json": data, f"{name}.md": markdown, **page})
