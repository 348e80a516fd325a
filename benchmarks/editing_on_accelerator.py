"""Measure speed and memory of editing on an accelerator, with random weights of published shapes.

For ROME (one edit) and MEMIT (100 and 1,000 requests), in bfloat16 and float32: seconds, tokens a second through the
blocks above the edit, the rate as a share of the rate of one large matrix product of the same type, and peak memory.
C is random and well conditioned. Every request runs all its optimization steps, because random weights never reach the
threshold that stops them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter

import torch
from rich.console import Console
from rich.table import Table
from torch.utils.flop_counter import FlopCounterMode

from audit.editors.methods.memit import Memit
from audit.editors.methods.rome import Rome
from audit.editors.stages.keys import Contexts
from audit.editors.stages.value_loss import ValueSettings, ValueTask
from audit.edits.requests import EditRequest
from audit.edits.sources import load_requests
from audit.models.language_model import LanguageModel
from benchmarks.random_models import RANDOM_SETTINGS, build, published_contexts, random_moments

TYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}


@dataclass(frozen=True)
class Speed:
    """`peak_share` is the floating-point rate of an edit over that of one large matrix product."""

    shape: str
    dtype: str
    edit: str
    seconds: float
    tokens_a_second: float
    peak_share: float
    memory_gb: float


def is_there(device: str) -> bool:
    """Whether torch can use `device`."""
    kind = torch.device(device).type
    if kind == "cpu":
        return True
    backend = getattr(torch, kind, None)
    return backend is not None and bool(backend.is_available())


def measure_on(device: str, shapes: Sequence[str], console: Console, batches: Sequence[int] = (100, 1000)) -> None:
    """Print a table, or one line where the device is missing."""
    if not is_there(device):
        console.print(f"not measured: no accelerator ({device} is not there)")
        return
    table = Table(title=f"editing on {device}")
    for column in ("shape", "type", "edit", "seconds", "tokens/s", "share of matrix peak", "memory, GB"):
        table.add_column(column, justify="left" if column in ("shape", "type", "edit") else "right")
    for shape in shapes:
        for name, dtype in TYPES.items():
            for speed in speeds(shape, device, name, dtype, batches):
                table.add_row(
                    speed.shape,
                    speed.dtype,
                    speed.edit,
                    f"{speed.seconds:.2f}",
                    f"{speed.tokens_a_second:.0f}",
                    f"{speed.peak_share:.1%}",
                    f"{speed.memory_gb:.1f}",
                )
    console.print(table)


def speeds(shape: str, device: str, name: str, dtype: torch.dtype, batches: Sequence[int]) -> list[Speed]:
    """Measure every edit of one model in one dtype."""
    lm = build(shape, device, dtype)
    peak = matrix_rate(device, dtype)
    drawn = load_requests("pocket").draw(240, 0).requests
    requests = [drawn[index % len(drawn)] for index in range(max(batches))]
    rome_contexts, memit_contexts = published_contexts()
    config = dict(RANDOM_SETTINGS)
    rome, memit = Rome(config).settings(lm), Memit(config).settings(lm)
    moments = random_moments(lm, tuple(sorted({rome.layer, *memit.layers})))
    editors = {"ROME": Rome(config, contexts=rome_contexts, moments=moments)}
    found = []
    for batch in (1, *batches):
        if batch == 1:
            editor: Rome | Memit = editors["ROME"]
            settings: ValueSettings = rome
            contexts, label = rome_contexts, "ROME"
        else:
            editor = Memit(config, contexts=memit_contexts, moments=moments)
            settings, contexts, label = memit, memit_contexts, f"MEMIT {batch}"
        chosen = requests[:batch]
        flops = counted_flops(lm, editor, chosen)  # also warms up
        _rest(device, reset=True)
        started = perf_counter()
        editor.edit(lm, chosen)
        _rest(device)
        seconds = perf_counter() - started
        tokens = run_tokens(lm, chosen, contexts, settings)
        found.append(Speed(shape, name, label, seconds, tokens / seconds, flops / seconds / peak, _peak_gb(device)))
    return found


def counted_flops(lm: LanguageModel, editor: Rome | Memit, requests: Sequence[EditRequest]) -> float:
    """Floating-point operations of an edit's matrix products: counted on at most ten requests, and scaled."""
    few = requests[:10]
    with FlopCounterMode(display=False) as counter:
        editor.edit(lm, few)
    return counter.get_total_flops() * len(requests) / len(few)


def run_tokens(lm: LanguageModel, requests: Sequence[EditRequest], contexts: Contexts, settings: ValueSettings) -> int:
    """Tokens from the lookup on, over all rows and steps: what the value optimization runs."""
    tasks = [ValueTask.of(lm, request, contexts, settings) for request in requests]
    return settings.steps * sum(len(row.ids) - row.lookup for task in tasks for row in task.rows)


def matrix_rate(device: str, dtype: torch.dtype, size: int = 8192) -> float:
    """Floating-point operations a second of a product of two large matrices, the best of three."""
    size = size if torch.device(device).type != "cpu" else 512
    left = torch.randn(size, size, device=device, dtype=dtype)
    best = float("inf")
    for _ in range(3):
        _rest(device)
        started = perf_counter()
        left @ left
        _rest(device)
        best = min(best, perf_counter() - started)
    return 2 * size**3 / best


def _rest(device: str, reset: bool = False) -> None:
    """Wait for the device; with `reset`, forget its memory's peak."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize()
        if reset:
            torch.cuda.reset_peak_memory_stats()


def _peak_gb(device: str) -> float:
    return torch.cuda.max_memory_allocated() / 1e9 if torch.device(device).type == "cuda" else float("nan")
