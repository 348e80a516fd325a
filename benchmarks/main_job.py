"""Time the main job with a cold cache and again.

    python benchmarks/main_job.py [--repeat 3]

Each round runs `pytest suites/ --editor memit --edit-count 10` three times in new processes on a store of its own. The
first run edits, and asks both models everything. The second run uses another number of edits and finds the answers of
the base model in the store. The third run repeats the first, finds everything and runs no model. The figures are median
seconds of the whole processes.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parents[1]


BARS = {"cold cache": 60, "base answers there": 35, "everything there": 8}  # seconds
OTHERWISE = ("--editor-config", "clamp_norm_factor=1.2")


def seconds(model: str, folder: str, *more: str) -> float:
    """Seconds of one run of the main job; the run may end in FAIL, but must end with verdicts."""
    command = [sys.executable, "-m", "pytest", "suites/", "--editor", "memit", "--edit-count", "10", "--model", model]
    command += more
    command += ["--store", f"{folder}/store", "--reports", f"{folder}/reports", "-q", "-p", "no:cacheprovider"]
    started = time.perf_counter()
    done = subprocess.run(command, cwd=ROOT, capture_output=True, env={**os.environ, "HF_HUB_OFFLINE": "1"})
    if done.returncode not in (0, 1):
        raise SystemExit(done.stdout.decode())
    return time.perf_counter() - started


def main() -> None:
    """Print a table of medians."""
    parser = argparse.ArgumentParser(description="Time the main job.")
    parser.add_argument("--repeat", type=int, default=3)
    given = parser.parse_args()
    table = Table(title=f"main job, median of {given.repeat}, seconds")
    table.add_column("model")
    for what, bar in BARS.items():
        table.add_column(f"{what} (bar {bar})")
    for model in ("pocket-gpt2", "pocket-llama"):
        rounds = []
        for _ in range(given.repeat):
            with tempfile.TemporaryDirectory() as folder:
                rounds.append((seconds(model, folder), seconds(model, folder, *OTHERWISE), seconds(model, folder)))
        table.add_row(model, *(f"{statistics.median(one):.1f}" for one in zip(*rounds, strict=True)))
    Console().print(table)


if __name__ == "__main__":
    main()
