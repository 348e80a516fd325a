"""How long the main job takes, with a cold cache and again:  python benchmarks/main_job.py [--repeat 3]

Each round runs `pytest suites/ --editor memit --edit-count 10` twice in new processes on a store of its own: the first
asks the base model everything, the second finds its answers. Prints the median seconds of the whole processes.
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


def seconds(model: str, folder: str) -> float:
    """One run of the main job as a user types it; its exit code must be 0."""
    command = [sys.executable, "-m", "pytest", "suites/", "--editor", "memit", "--edit-count", "10", "--model", model]
    command += ["--store", f"{folder}/store", "--reports", f"{folder}/reports", "-q", "-p", "no:cacheprovider"]
    started = time.perf_counter()
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, env={**os.environ, "HF_HUB_OFFLINE": "1"})
    return time.perf_counter() - started


def main() -> None:
    """Print a table of medians."""
    parser = argparse.ArgumentParser(description="Time the main job.")
    parser.add_argument("--repeat", type=int, default=3)
    given = parser.parse_args()
    table = Table(title=f"main job, median of {given.repeat}, seconds")
    for column in ("model", "cold cache", "again"):
        table.add_column(column)
    for model in ("pocket-gpt2", "pocket-llama"):
        cold, warm = [], []
        for _ in range(given.repeat):
            with tempfile.TemporaryDirectory() as folder:
                cold.append(seconds(model, folder))
                warm.append(seconds(model, folder))
        table.add_row(model, f"{statistics.median(cold):.1f}", f"{statistics.median(warm):.1f}")
    Console().print(table)


if __name__ == "__main__":
    main()
