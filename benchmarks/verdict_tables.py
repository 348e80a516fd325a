"""Tables of simulated verdicts, kept as benchmarks/results/NAME.json and, for readers, NAME.md.

write("verdict-power", "Power of the verdicts", note, "binary", {"what": ..., "runs": 4000, "rows": [{...}, ...]})
"""

import json
import tempfile
from pathlib import Path

from filelock import FileLock

RESULTS = Path(__file__).parent / "results"

Row = dict[str, float | str | None]


def write(name: str, title: str, note: str, part: str, table: dict) -> None:
    """Put the table of one part in the place of an earlier one."""
    path = RESULTS / f"{name}.json"
    with FileLock(Path(tempfile.gettempdir()) / f"{name}.lock"):  # parts may run side by side
        tables = json.loads(path.read_text()) if path.exists() else {}
        tables[part] = table
        path.write_text(json.dumps(tables, indent=1) + "\n")
        path.with_suffix(".md").write_text(_markdown(title, note, tables))


def _markdown(title: str, note: str, tables: dict) -> str:
    lines = [f"# {title}", "", *note.strip().splitlines(), ""]
    for name, table in tables.items():
        columns = list(dict.fromkeys(column for row in table["rows"] for column in row))
        lines += [f"## {name}", "", f"{table['what']} {table['runs']} runs a design.", ""]
        lines += ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
        lines += ["| " + " | ".join(_cell(row.get(column)) for column in columns) + " |" for row in table["rows"]]
        lines.append("")
    return "\n".join(lines)


def _cell(value: float | str | None) -> str:
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
