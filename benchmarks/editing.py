"""Time ROME, MEMIT and the covariance beside a plain implementation of the published algorithms.

    python -m benchmarks.editing [--shape pocket-gpt2 gpt2-small] [--parts rome memit covariance memory] [--rounds 3]

Both sides run in one process on one thread, in turn (A B A B), with the same settings, contexts, tokens and second
moments, and must give the same update. Seconds are processor seconds, medians over the rounds. ROME and MEMIT include
keys, values and solves, but not the measurement of the covariance. On the large shape the plain MEMIT runs on a few
requests: the time of its values and keys is scaled to all requests, the time of its solves is not. Memory is measured
in a process of its own.

    python -m benchmarks.editing --shape gpt2-xl llama-7b --device cuda

measures speed and memory on an accelerator instead (see `editing_on_accelerator`).
"""

import argparse
import json
import platform
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from time import process_time
from typing import Any

import torch
import transformers
from rich.console import Console
from rich.table import Table
from safetensors.torch import save_file
from torch import Tensor

from audit.editors.methods.memit import Memit
from audit.editors.methods.rome import Rome
from audit.editors.stages.covariance import LONGEST_TEXT, measure_moments, open_corpus
from audit.edits.requests import EditRequest
from audit.edits.sources import load_requests
from audit.models.language_model import LanguageModel
from audit.models.loading import load_language_model, pocket_names
from audit.models.patches import LowRankDelta, Patch, WeightPatch
from benchmarks.editing_memory import MemoryUse
from benchmarks.editing_on_accelerator import measure_on
from benchmarks.plain_editing import Stopwatch, plain_memit, plain_moments, plain_rome
from benchmarks.random_models import RANDOM_SETTINGS, SHAPES, build, published_contexts

RESULTS = Path(__file__).parent / "results"
PARTS = ("rome", "rome-published", "memit", "covariance", "memory")
BARS = {"rome": 3.0, "memit": 10.0, "covariance": 4.0, "memory": 2.5}
SAME = 1e-3  # relative error of the updates


@dataclass(frozen=True)
class Result:
    """Seconds of ours and of the plain one, their ratio, and how far the updates are apart (relative error)."""

    shape: str
    part: str
    ours: float
    plain: float
    ratio: float
    error: float
    note: str


@dataclass(frozen=True, eq=False)
class Bench:
    """A model, whether it is random, and the second moments that both sides use."""

    lm: LanguageModel
    moments: Mapping[int, Tensor]
    config: dict[str, str]
    requests: tuple[EditRequest, ...]

    @property
    def is_random(self) -> bool:
        return bool(self.config)


def prepare(shape: str, steps: int | None) -> Bench:
    """The model and second moments of all layers that ROME or MEMIT write in it."""
    lm = load_language_model(shape, device="cpu") if shape in pocket_names() else build(shape, "cpu", torch.float32)
    config = {} if shape in pocket_names() else dict(RANDOM_SETTINGS)
    if steps is not None:
        config["steps"] = str(steps)
    layers = sorted({*Memit(config).settings(lm).layers, Rome(config).settings(lm).layer})
    tokens = 2 * lm.anatomy.inner_size
    moments = measure_moments(lm, open_corpus("pocket", tokens).texts(), layers, tokens).by_layer
    return Bench(lm, moments, config, load_requests("pocket").draw(100, 0).requests)


def in_turn(ours: Callable[[], Any], plain: Callable[[], Any], rounds: int) -> tuple[float, float, Any, Any]:
    """Median processor seconds of both sides, run in turn, and the results of the last round."""
    seconds: tuple[list[float], list[float]] = ([], [])
    given: list[Any] = [None, None]
    for _ in range(rounds):
        for side, run in enumerate((ours, plain)):
            started = process_time()
            given[side] = run()
            seconds[side].append(process_time() - started)
    return statistics.median(seconds[0]), statistics.median(seconds[1]), given[0], given[1]


def apart(patch: Patch, changes: Mapping[str, Tensor]) -> float:
    """The largest relative error of a weight's update."""
    assert isinstance(patch, WeightPatch) and patch.deltas.keys() == changes.keys()
    errors = []
    for name, delta in patch.deltas.items():
        assert isinstance(delta, LowRankDelta)
        errors.append(float((delta.change(False, delta.left.device) - changes[name]).norm() / changes[name].norm()))
    return max(errors)


def time_rome(shape: str, bench: Bench, rounds: int, published: bool) -> Result:
    """One edit of a fresh editor: key, value, factorization, update."""
    lm, request = bench.lm, bench.requests[0]
    contexts = published_contexts()[0] if bench.is_random or published else Rome(bench.config).contexts(lm)
    settings = Rome(bench.config).settings(lm)
    ours, plain, patch, changes = in_turn(
        lambda: Rome(bench.config, contexts=contexts, moments=bench.moments).edit(lm, [request]),
        lambda: plain_rome(lm, request, contexts, bench.moments[settings.layer], settings),
        rounds,
    )
    note = f"layer {settings.layer}, {patch.meta['updates']} updates, {len(contexts.prefixes)} contexts"
    return Result(
        shape, "rome-published" if published else "rome", ours, plain, plain / ours, apart(patch, changes), note
    )


def time_memit(shape: str, bench: Bench, rounds: int, plain_requests: int) -> Result:
    """One batch of all requests of a fresh editor: values, keys, factorizations, updates."""
    lm, requests = bench.lm, bench.requests
    contexts = published_contexts()[1] if bench.is_random else Memit(bench.config).contexts(lm)
    settings = Memit(bench.config).settings(lm)
    few = requests[:plain_requests]
    stopwatch = Stopwatch()
    ours, plain, patch, changes = in_turn(
        lambda: Memit(bench.config, contexts=contexts, moments=bench.moments).edit(lm, requests),
        lambda: plain_memit(lm, few, contexts, bench.moments, settings, stopwatch),
        rounds,
    )
    note = f"{len(requests)} requests, layers {settings.layers}, {len(contexts.prefixes)} contexts"
    if len(few) < len(requests):
        patch = Memit(bench.config, contexts=contexts, moments=bench.moments).edit(lm, few)
        solving = stopwatch.seconds["solve"] / rounds
        plain = solving + (plain - solving) * len(requests) / len(few)
        note += f"; plain on {len(few)}, scaled"
    return Result(shape, "memit", ours, plain, plain / ours, apart(patch, changes), note)


def time_covariance(shape: str, bench: Bench, rounds: int, tokens: int) -> Sequence[Result]:
    """Second moments of five layers over the same texts, beside whole passes and beside passes cut at the layer."""
    lm, layers = bench.lm, range(5)
    kept, seen = [], 0
    for text in open_corpus("pocket", tokens).texts():
        kept.append(text)
        seen += len(lm.tokenizer(text)["input_ids"])
        if seen >= tokens:
            break
    results = []
    for part, cut in (("covariance", False), ("covariance, plain cut at the layer", True)):
        ours, plain, moments, expected = in_turn(
            lambda: measure_moments(lm, kept, layers, seen).by_layer,
            lambda cut=cut: plain_moments(lm, kept, layers, LONGEST_TEXT, stop_early=cut),  # type: ignore[misc]
            rounds,
        )
        error = max(float((moments[at] - expected[at]).norm() / expected[at].norm()) for at in layers)
        results.append(Result(shape, part, ours, plain, plain / ours, error, f"5 layers, {seen} tokens"))
    return results


def measure_memory(shape: str, bench: Bench) -> Result:
    """Peak resident memory of MEMIT on all requests, as a multiple of the weights."""
    with tempfile.TemporaryDirectory() as folder:
        save_file({str(layer): C for layer, C in bench.moments.items()}, Path(folder) / "moments.safetensors")
        command = [sys.executable, "-m", "benchmarks.editing_memory", shape, folder]
        printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    use = MemoryUse(**json.loads(printed))
    note = f"peak over the {use.weights_mb:.0f} MB of the weights; {use.note}"
    return Result(shape, "memory", use.peak_mb, use.weights_mb, use.peak_mb / use.weights_mb, 0.0, note)


def machine() -> dict[str, str]:
    """The machine and the versions that were used."""
    model = next(
        (line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line),
        platform.processor(),
    )
    return {
        "processor": model,
        "threads": str(torch.get_num_threads()),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }


def show(results: Sequence[Result], console: Console) -> None:
    """Print one row for each result, with its bar."""
    table = Table(title="editing, processor seconds (MB for memory)")
    for column in ("shape", "part", "ours", "plain", "ratio", "bar", "error", "note"):
        table.add_column(column, justify="right" if column in ("ours", "plain", "ratio", "bar", "error") else "left")
    for result in results:
        bar = BARS.get(result.part)
        met = bar is None or (result.ratio < bar if result.part == "memory" else result.ratio >= bar)
        ratio = f"{result.ratio:.1f}" if met and result.error < SAME else f"[bold]{result.ratio:.1f}[/bold] missed"
        table.add_row(
            result.shape,
            result.part,
            f"{result.ours:.3g}",
            f"{result.plain:.3g}",
            ratio,
            "" if bar is None else f"{'<' if result.part == 'memory' else '≥'} {bar:g}",
            f"{result.error:.1e}",
            result.note,
        )
    console.print(table)


def main() -> None:
    """Measure, print a table, and keep the numbers under benchmarks/results."""
    parser = argparse.ArgumentParser(description="Time editing beside a plain implementation.")
    parser.add_argument("--shape", nargs="+", choices=(*pocket_names(), *SHAPES), default=["pocket-gpt2", "gpt2-small"])
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--plain-requests", type=int, default=8, help="requests of the plain MEMIT on random shapes")
    parser.add_argument("--steps", type=int, help="steps of the value optimization (default: those of the settings)")
    parser.add_argument("--device", default="cpu")
    given = parser.parse_args()
    console = Console()
    torch.set_num_threads(given.threads)
    if given.device != "cpu":
        measure_on(given.device, given.shape, console)
        return
    for shape in given.shape:
        bench = prepare(shape, given.steps)
        results: list[Result] = []
        for part in given.parts:
            if part.startswith("rome") and not (part == "rome-published" and bench.is_random):
                results.append(time_rome(shape, bench, given.rounds, part == "rome-published"))
            if part == "memit":
                few = given.plain_requests if bench.is_random else len(bench.requests)
                results.append(time_memit(shape, bench, given.rounds, few))
            if part == "covariance":
                tokens = 4096 if bench.is_random else 20 * bench.lm.anatomy.inner_size
                results += time_covariance(shape, bench, given.rounds, tokens)
            if part == "memory" and bench.is_random:  # beside a pocket model the interpreter itself is large
                results.append(measure_memory(shape, bench))
        show(results, console)
        path = RESULTS / f"editing-{shape}.json"
        kept = json.loads(path.read_text(encoding="utf-8"))["results"] if path.is_file() else {}
        kept |= {result.part: asdict(result) for result in results}
        text = json.dumps({"machine": machine(), "rounds": given.rounds, "results": kept}, indent=2)
        path.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
