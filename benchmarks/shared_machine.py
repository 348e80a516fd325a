"""Time the main job, ROME, MEMIT and the tests alone and beside busy processes, with and without passive waiting.

    python -m benchmarks.shared_machine [--jobs main rome memit tests] [--busy 0 1 2] [--rounds 3]

Each job is a process of its own, run in turn (A B A B): as the package is, whose OpenMP threads sleep while they wait,
and with `KMP_BLOCKTIME=200` in the environment, which makes the package leave waiting alone (libgomp ignores this
variable, and 200 is the default of the others). A busy process counts without end. Figures are median wall seconds of
whole processes; `--limit` stops a run that takes too long, which then counts as that long. The result is kept in
benchmarks/results/shared-machine.json.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.editing import machine

ROOT = Path(__file__).resolve().parents[1]
RESULT = Path(__file__).parent / "results" / "shared-machine.json"
SETTINGS = ("OMP_NUM_THREADS", "OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME", "KMP_LIBRARY")
ACTIVE = {"KMP_BLOCKTIME": "200"}
MAIN = ["suites/", "--editor", "memit", "--edit-count", "10"]
JOBS = {
    "main": MAIN,
    "rome": ["suites/test_edit.py", "--editor", "rome", "--edit-count", "10"],
    "memit": ["suites/test_edit.py", "--editor", "memit", "--edit-count", "100"],
    "tests": ["tests/", "-n", "2", "--maxprocesses", "8", "--dist", "worksteal"],
}


@contextmanager
def busy(count: int) -> Iterator[None]:
    """`count` processes that each keep a core busy."""
    with ExitStack() as stack:
        for _ in range(count):
            process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
            stack.callback(process.wait)
            stack.callback(process.kill)
        yield


def seconds(job: str, wish: dict[str, str], limit: float) -> float:
    """Wall seconds of one run with a cold store; it may end with failed tests."""
    environment = {name: value for name, value in os.environ.items() if name not in SETTINGS}
    environment |= {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", **wish}
    command = [sys.executable, "-m", "pytest", *JOBS[job], "-q", "-p", "no:cacheprovider"]
    with tempfile.TemporaryDirectory() as folder:
        if job != "tests":
            command += ["--store", f"{folder}/store", "--reports", f"{folder}/reports"]
        started = time.perf_counter()
        try:
            done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, timeout=limit)
        except subprocess.TimeoutExpired:
            return limit
        if done.returncode not in (0, 1):
            raise SystemExit(done.stdout.decode())
        return time.perf_counter() - started


def measure(job: str, count: int, rounds: int, limit: float) -> dict[str, object]:
    """The seconds of one job beside `count` busy processes, in both ways in turn."""
    passive, active = [], []
    with busy(count):
        for _ in range(rounds):
            passive.append(seconds(job, {}, limit))
            active.append(seconds(job, ACTIVE, limit))
    return {"job": job, "busy": count, "passive": passive, "active": active}


def table_of(rows: list[dict[str, object]]) -> Table:
    """Medians, and two ratios: passive over active, and passive over passive alone."""
    table = Table(title="seconds, median")
    for heading in ("job", "busy processes", "passive", "active", "passive / active", "passive / alone"):
        table.add_column(heading, justify="left" if heading == "job" else "right")
    alone: dict[object, float] = {}
    for row in rows:
        passive, active = (statistics.median(row[way]) for way in ("passive", "active"))
        if row["busy"] == 0:
            alone[row["job"]] = passive
        slower = f"{passive / alone[row['job']]:.2f}" if row["job"] in alone else "-"
        ratio = statistics.median(p / a for p, a in zip(row["passive"], row["active"], strict=True))
        table.add_row(str(row["job"]), str(row["busy"]), f"{passive:.1f}", f"{active:.1f}", f"{ratio:.2f}", slower)
    return table


def main() -> None:
    """Print a table and keep the seconds of every run."""
    parser = argparse.ArgumentParser(description="Time jobs beside busy processes.")
    parser.add_argument("--jobs", nargs="+", choices=JOBS, default=["main", "rome", "memit"])
    parser.add_argument("--busy", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--limit", type=float, default=600, help="seconds after which a run is stopped")
    given = parser.parse_args()
    rows = [measure(job, count, given.rounds, given.limit) for job in given.jobs for count in given.busy]
    RESULT.write_text(json.dumps({"machine": machine(), "limit": given.limit, "rows": rows}, indent=1) + "\n")
    Console().print(table_of(rows))


if __name__ == "__main__":
    main()
