"""How long `audit compare` takes for results of 100,000 items, from the files to the report.

    python -m benchmarks.compare [--items 100000] [--rounds 3]

Every design is a pair of files of invented scores. The command runs in a process of its own, so its seconds contain the
start of Python, reading, pairing, the verdict, the alarm, and writing the report with all items. Medians of processor
seconds and of wall seconds; the latter depend on what else runs. "graded" scores have three decimals and need the
bootstrap; with a share to keep, or with floors of the items, they need several. Written to
benchmarks/results/compare.json.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from pyarrow import csv, parquet
from rich.console import Console
from rich.table import Table

from benchmarks.editing import machine

RESULT = Path(__file__).parent / "results" / "compare.json"
Scores = np.ndarray
Write = Callable[[Path, Scores, Scores], Path]


def right_or_wrong(items: int) -> tuple[Scores, Scores]:
    """Base and edited (n,) scores of 0 and 1, of which 3 % change."""
    generator = np.random.default_rng(0)
    base = (generator.random(items) < 0.7).astype(float)
    return base, np.where(generator.random(items) < 0.03, 1 - base, base)


def graded(items: int) -> tuple[Scores, Scores]:
    """Base and edited (n,) scores like ROUGE, of which all change."""
    generator = np.random.default_rng(0)
    base = generator.beta(3, 6, items)
    return tuple(np.round(x, 3) for x in (base, np.clip(base + 0.05 * generator.standard_normal(items), 0, 1)))


def table(path: Path, scores: Scores, floors: Scores | None = None) -> Path:
    """The scores as JSONL, CSV or Parquet, by the suffix."""
    columns = {"id": [f"item-{k}" for k in range(len(scores))], "score": scores}
    found = pa.table(columns if floors is None else {**columns, "floor": floors})
    if path.suffix == ".csv":
        csv.write_csv(found, path)
    elif path.suffix == ".parquet":
        parquet.write_table(found, path)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in found.to_pylist()))
    return path


def samples(path: Path, scores: Scores, floors: None = None) -> Path:
    """The scores as samples of lm-evaluation-harness, with a document and a prompt of usual size."""
    with path.open("w") as file:
        for k, score in enumerate(scores):
            text = f"A question of usual length about item {k}? " * 6
            row = {
                "doc_id": k, "doc": {"question": text, "gold": k % 4}, "target": str(k % 4),
                "arguments": {f"gen_args_{c}": {"arg_0": text, "arg_1": f" {c}"} for c in range(4)},
                "resps": [[["-1.5", "False"]]] * 4, "filtered_resps": [["-1.5", "False"]] * 4, "filter": "none",
                "metrics": ["acc"], "doc_hash": f"{k:064x}", "prompt_hash": f"{k:064x}", "target_hash": f"{k % 4:064x}",
                "acc": score,
            }  # fmt: skip
            file.write(json.dumps(row) + "\n")
    return path


def log(path: Path, scores: Scores, floors: None = None) -> Path:
    """The scores as a log of inspect_ai, with its summary alone."""
    rows = [
        {"id": k, "epoch": 1, "input": f"A question about item {k}? " * 6, "target": "ABCD"[k % 4],
         "scores": {"choice": {"value": "C" if score else "I", "answer": "A"}}}
        for k, score in enumerate(scores)
    ]  # fmt: skip
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("header.json", json.dumps({"status": "success", "eval": {"task": "t"}}))
        archive.writestr("summaries.json", json.dumps(rows))
    return path


DESIGNS: dict[str, tuple[str, Callable[[int], tuple[Scores, Scores]], Write, bool, Sequence[str]]] = {
    "0/1, JSONL": ("t.jsonl", right_or_wrong, table, False, ()),
    "0/1, CSV": ("t.csv", right_or_wrong, table, False, ()),
    "0/1, Parquet": ("t.parquet", right_or_wrong, table, False, ()),
    "0/1, samples of lm-eval": ("samples_t.jsonl", right_or_wrong, samples, False, ()),
    "0/1, log of inspect_ai": ("t.eval", right_or_wrong, log, False, ()),
    "graded, Parquet": ("t.parquet", graded, table, False, ()),
    "graded, 90% kept": ("t.parquet", graded, table, False, ("--margin", "90%")),
    "graded, floors, 90% kept": ("t.parquet", graded, table, True, ()),
}


def measure(name: str, items: int, rounds: int) -> dict[str, object]:
    """Processor and wall seconds of every round, and the size of the files in MB."""
    file, scores_of, write, floored, options = DESIGNS[name]
    used, wall = [], []
    with tempfile.TemporaryDirectory() as folder:
        pair = scores_of(items)
        floors = np.round(0.5 * pair[0], 3) if floored else None
        paths = []
        for side, scores in zip(("base", "edited"), pair, strict=True):
            (Path(folder) / side).mkdir()
            paths.append(str(write(Path(folder) / side / file, scores, floors)))
        command = [sys.executable, "-m", "audit.cli", "compare", *paths, "--reports", f"{folder}/reports", *options]
        for _ in range(rounds):
            before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
            done = subprocess.run(command, capture_output=True, text=True)
            wall.append(time.perf_counter() - started)
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            used.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
            if done.returncode not in (0, 1, 3):
                raise SystemExit(done.stderr)
        size = sum(Path(path).stat().st_size for path in paths) / 1e6
    return {"design": name, "items": items, "megabytes": size, "processor seconds": used, "wall seconds": wall}


def main() -> None:
    """Print a table and keep the seconds of every round."""
    parser = argparse.ArgumentParser(description="Time comparisons of results.")
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    rows = [measure(name, given.items, given.rounds) for name in DESIGNS]
    RESULT.write_text(json.dumps({"machine": machine(), "rows": rows}, indent=1) + "\n")
    shown = Table(title=f"{given.items} items, median of {given.rounds}")
    for heading in ("design", "MB", "processor s", "wall s"):
        shown.add_column(heading, justify="left" if heading == "design" else "right")
    for row in rows:
        used, wall = (statistics.median(row[part]) for part in ("processor seconds", "wall seconds"))
        shown.add_row(str(row["design"]), f"{row['megabytes']:.1f}", f"{used:.2f}", f"{wall:.2f}")
    Console().print(shown)


if __name__ == "__main__":
    main()
