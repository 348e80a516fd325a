"""A run's folder, `reports/20261121-101500-memit-pocket-gpt2/`, written whole or not at all."""

import os
import re
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

from audit.errors import AuditError
from audit.reports.json_report import items_from_jsonl, items_jsonl, report_from_json, verdict_json
from audit.reports.markdown import markdown
from audit.reports.rows import RunReport


def run_name(report: RunReport) -> str:
    """The stamp (UTC), the editor and the model's last name, in letters that every file system takes."""
    stamp = re.sub(r"[^0-9T]", "", report.header.started[:19]).replace("T", "-")
    parts = (report.header.editor.rsplit(":", 1)[-1], report.header.model.rstrip("/").rsplit("/", 1)[-1])
    return "-".join([stamp, *(re.sub(r"[^A-Za-z0-9._-]+", "-", part).strip("-.")[:60] for part in parts)])


def write_report(report: RunReport, root: Path) -> Path:
    """Write the three files beside `root`'s other runs and return the new folder.

    The files are written and synced in a hidden folder that is then renamed, so a reader never sees half a report;
    a second run of the same second gets `-2`. Raises `AuditError` when `root` cannot be written.
    """
    name = run_name(report)
    try:
        root.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=".writing-", dir=root))
        try:
            draft.chmod(0o755)
            for number in range(1, 1000):
                folder = root / (name if number == 1 else f"{name}-{number}")
                if folder.exists():
                    continue
                _write_files(replace(report, folder=str(folder)), draft)
                try:
                    draft.rename(folder)
                except OSError:
                    if not folder.exists():  # another run took the name in between: take the next
                        raise
                else:
                    return folder
        finally:
            shutil.rmtree(draft, ignore_errors=True)
    except OSError as error:
        raise AuditError(f"--reports {root}: the report cannot be written there ({error.strerror}).") from None
    raise AuditError(f"--reports {root}: a thousand runs are called {name} already; give another folder.")


def read_report(folder: Path, *, with_items: bool = False) -> RunReport:
    """Read a run's folder back (or its `verdict.json`). Raises `AuditError` when there is none."""
    file = folder if folder.name == "verdict.json" else folder / "verdict.json"
    report = report_from_json(_text(file), origin=str(file), folder=str(file.parent))
    if with_items:
        items = file.parent / "items.jsonl"
        report = replace(report, items=items_from_jsonl(_text(items), origin=str(items)))
    return report


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        raise AuditError(f"{file} cannot be read: give the folder of a run, such as reports/<run>.") from None


def _write_files(report: RunReport, folder: Path) -> None:
    texts = {
        "verdict.json": verdict_json(report),
        "items.jsonl": items_jsonl(report.items),
        "report.md": markdown(report),
    }
    for name, text in texts.items():
        with (folder / name).open("w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
