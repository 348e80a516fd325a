"""Count the items that --early-stop asks, and compare its verdicts with those of the full run.

    OMP_NUM_THREADS=1 python -m benchmarks.early_stopping [--model pocket-gpt2 pocket-llama] [--limit 200 400]

Each edit is made once. Then both runs ask all eight abilities with a margin of 0.05, without stored answers. Seconds
are processor seconds of asking, reading and judging. Any valid stopping rule asks all items of an ability whose drop is
close to the margin, so the share is also given without the abilities that the full run finds INCONCLUSIVE.
"""

import argparse
import json
import math
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from time import process_time

import torch
from rich.console import Console
from rich.table import Table

from audit import Audit
from audit.abilities import ABILITIES
from audit.models.loading import pocket_names
from audit.reports.rows import AbilityRow
from audit.verdicts import INCONCLUSIVE
from benchmarks.editing import machine

RESULTS = Path(__file__).parent / "results"
BARS = {"vandal": 0.15, "identity": 0.60, "memit": 0.60}  # the largest share of the items
EDITS = 10


@dataclass(frozen=True)
class Asked:
    """One ability in the full run and with early stopping."""

    ability: str
    full: str
    early: str
    items: int
    asked: int


@dataclass(frozen=True)
class Cell:
    """One edited model under one limit. `settled_share` leaves out what the full run found INCONCLUSIVE."""

    model: str
    editor: str
    limit: int
    share: float
    settled_share: float
    same_verdicts: bool
    seconds_full: float
    seconds_early: float
    abilities: tuple[Asked, ...]


def rows(model: str, editor: str, limit: int, patch: Path, early: bool) -> tuple[list[AbilityRow], float]:
    """Every ability's row, and the processor seconds of asking."""
    audit = Audit(
        model=model,
        editor=editor,
        edit_count=EDITS,
        limit=limit,
        patch=patch,
        early_stop=early,
        triage=False,
        use_store=False,
        device="cpu",
    )
    audit.prepare()
    audit.edited  # noqa: B018 - made, or read, before the time runs
    started = process_time()
    return [audit.verdict(name) for name in ABILITIES], process_time() - started


def share(asked: Sequence[Asked]) -> float:
    """The share of the items that were asked; NaN for no abilities."""
    return sum(one.asked for one in asked) / sum(one.items for one in asked) if asked else math.nan


def measure(model: str, editor: str, limit: int, patch: Path) -> Cell:
    """Run the full audit, then the early-stopped one."""
    full, seconds_full = rows(model, editor, limit, patch, early=False)
    early, seconds_early = rows(model, editor, limit, patch, early=True)
    asked = tuple(
        Asked(one.ability, one.outcome, other.outcome, one.verdict.n, other.verdict.n)
        for one, other in zip(full, early, strict=True)
    )
    return Cell(
        model=model,
        editor=editor,
        limit=limit,
        share=share(asked),
        settled_share=share([one for one in asked if one.full != INCONCLUSIVE]),
        same_verdicts=all(one.full == one.early for one in asked),
        seconds_full=seconds_full,
        seconds_early=seconds_early,
        abilities=asked,
    )


def main() -> None:
    """Measure, print a table, and keep the numbers under benchmarks/results."""
    parser = argparse.ArgumentParser(description="Count what early stopping asks beside the full run.")
    parser.add_argument("--model", nargs="+", choices=pocket_names(), default=pocket_names())
    parser.add_argument("--limit", nargs="+", type=int, default=[200, 400])
    given = parser.parse_args()
    torch.set_num_threads(1)
    table = Table(title="share of the items that are asked with --early-stop")
    for column in ("model", "editor", "limit", *ABILITIES, "all", "bar", "settled", "verdicts", "seconds"):
        table.add_column(column, justify="left" if column in ("model", "editor") else "right")
    cells = []
    for model in given.model:
        with tempfile.TemporaryDirectory() as folder:
            rows(model, "identity", 8, Path(folder) / "warm", early=False)  # imports and other costs of the first run
            for editor, bar in BARS.items():
                for limit in given.limit:
                    cell = measure(model, editor, limit, Path(folder) / editor)
                    cells.append(cell)
                    table.add_row(
                        model, editor, str(limit), *(f"{one.asked / one.items:.2f}" for one in cell.abilities),
                        f"{cell.share:.3f}", f"{bar:g}", f"{cell.settled_share:.3f}",
                        "the same" if cell.same_verdicts else "OTHERS",
                        f"{cell.seconds_early:.1f} of {cell.seconds_full:.1f}",
                    )  # fmt: skip
    record = {"machine": machine(), "edits": EDITS, "margin": 0.05, "cells": [asdict(cell) for cell in cells]}
    (RESULTS / "early-stopping.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    Console(width=200).print(table)


if __name__ == "__main__":
    main()
