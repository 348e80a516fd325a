"""Time the detection of a collapsed model, and show how far harmful edits are from collapse.

    OMP_NUM_THREADS=1 python -m benchmarks.triage [--model pocket-gpt2 pocket-llama] [--rounds 5] [--no-signs]

Times run from the end of the edit to the result of the triage. Each round uses an empty store of its own. The edits are
noise that ruins the model, and no edit at all; the latter is the cost of triage in an ordinary run (the integrity of
the weights, which every run measures). Seconds are wall and processor seconds. The signs are those of
`audit.measures.collapse`, with every ability asked that triage can ask.
"""

import argparse
import json
import statistics
import tempfile
from collections.abc import Mapping
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from audit import Audit
from audit.answering.answers import AnswerLogs
from audit.answering.items import drawn_items
from audit.answering.run_answers import AbilityRun
from audit.answering.triage import first_answers
from audit.measures.collapse import signs_of
from audit.models.loading import pocket_names
from benchmarks.editing import machine

RESULTS = Path(__file__).parent / "results"
BAR = 5.0  # seconds
TIMED: Mapping[str, dict[str, Any]] = {
    "vandal, scale 64": {"editor": "vandal", "editor_config": {"scale": "64"}},
    "vandal, scale 1000": {"editor": "vandal", "editor_config": {"scale": "1000"}},
    "identity": {"editor": "identity"},
}
# (editor, number of edits, sequential, scale of the noise)
LOOKED_AT: tuple[tuple[str, int, bool, str], ...] = (
    ("identity", 10, False, ""),
    ("memit", 10, False, ""),
    ("memit", 100, False, ""),
    ("rome", 20, True, ""),
    ("rome", 200, True, ""),
    *(("kn", count, False, "") for count in (10, 20, 40, 100, 200)),
    ("ft", 10, False, ""),
    ("ft", 100, False, ""),
    ("ft-l", 10, False, ""),
    ("ft-bf", 10, False, ""),
    ("mend", 10, False, ""),
    ("mend", 100, False, ""),
    *(("vandal", 10, False, scale) for scale in ("1", "4", "16", "32", "48", "64")),
)


def timed(model: str, options: Mapping[str, Any], rounds: int) -> dict[str, Any]:
    """Seconds from the end of the edit to the result of the triage, and the result."""
    wall: list[float] = []
    processor: list[float] = []
    verdicts: set[bool] = set()
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as folder:
            audit = Audit(model=model, store=Path(folder), device="cpu", **options)
            audit.prepare()
            audit.edited  # noqa: B018 - the end of the edit
            begun, worked = perf_counter(), process_time()
            verdicts.add(audit.collapse is not None)
            wall.append(perf_counter() - begun)
            processor.append(process_time() - worked)
    return {
        "median seconds": statistics.median(wall),
        "slowest seconds": max(wall),
        "median processor seconds": statistics.median(processor),
        "rounds": rounds,
        "collapsed": verdicts.pop() if len(verdicts) == 1 else "differs",
    }


def signs(model: str, store: Path, editor: str, count: int, sequential: bool, scale: str) -> dict[str, Any]:
    """The signs of collapse after one edit plan."""
    audit = Audit(
        model=model,
        store=store,
        device="cpu",
        editor=editor,
        edit_count=count,
        edit_mode="instance-sequential" if sequential else None,
        editor_config={"scale": scale} if scale else {},
        limit=4,
    )
    audit.prepare()
    (edited,) = audit.edited
    vocabulary = int(audit.lm.model.config.get_text_config().vocab_size)
    seen = signs_of(audit.integrity, vocabulary)

    def ability_run(name: str) -> AbilityRun:
        drawn = drawn_items(name, audit.source, audit.settings)
        ability, items = drawn.ability, drawn.items
        return AbilityRun(
            ability, items, audit.known, (edited.patch,), audit.stages, audit.crew, None, AnswerLogs(None)
        )

    seen = seen.after(pair for some in first_answers(edited.patch, ability_run) for pair in some)
    return {
        "edit": f"{editor} {count}" + (", sequential" if sequential else "") + (f", scale {scale}" if scale else ""),
        "largest update": seen.largest_update,
        "perplexity": seen.perplexity_edited,
        "perplexity of the base model": seen.perplexity_base,
        "perplexity of guessing": seen.guessing,
        "answers": seen.answers,
        "garbled": seen.garbled,
        "collapsed": seen.collapsed,
    }


def show(model: str, times: Mapping[str, dict[str, Any]], rows: list[dict[str, Any]], console: Console) -> None:
    """Two tables."""
    table = Table(title=f"{model}: seconds from the end of the edit to the triage (bar {BAR:g})")
    for column in ("edit", "median", "slowest", "median, processor", "collapsed"):
        table.add_column(column)
    for name, row in times.items():
        numbers = [f"{row[what]:.2f}" for what in ("median seconds", "slowest seconds", "median processor seconds")]
        table.add_row(name, *numbers, str(row["collapsed"]))
    console.print(table)
    table = Table(title=f"{model}: signs")
    for column in ("edit", "largest update", "perplexity", "garbled", "collapsed"):
        table.add_column(column)
    for row in rows:
        numbers = (f"{row['largest update']:.3g}", f"{row['perplexity']:.4g}")
        table.add_row(row["edit"], *numbers, f"{row['garbled']} of {row['answers']}", str(row["collapsed"]))
    if rows:
        console.print(table)


def main() -> None:
    """Measure, print the tables, and keep the numbers under benchmarks/results."""
    parser = argparse.ArgumentParser(description="Time the triage of a collapsed model.")
    parser.add_argument("--model", nargs="+", choices=pocket_names(), default=list(pocket_names()))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--no-signs", action="store_true", help="leave the table of signs out")
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    console = Console()
    for model in given.model:
        path = RESULTS / f"triage-{model}.json"
        kept = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        times = {name: timed(model, options, given.rounds) for name, options in TIMED.items()}
        rows: list[dict[str, Any]] = []
        if not given.no_signs:
            with tempfile.TemporaryDirectory() as folder:
                rows = [signs(model, Path(folder), *plan) for plan in LOOKED_AT]
        show(model, times, rows, console)
        record = {"machine": machine(), "bar": BAR, "times": times, "signs": rows or kept.get("signs", [])}
        path.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
