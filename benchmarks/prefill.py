"""Measure the reading of prompts as a share of the peak matrix rate of the machine.

    python -m benchmarks.prefill [--shape gpt2-small] [--limit 64]

The peak is the rate of one large float32 product on the same threads, by the faster of the two libraries in torch (MKL
and oneDNN), measured before and after. Only operations on real tokens count, none on padding: two for each weight of
the blocks and token, attention to the earlier tokens, and the head once a prompt. The prompts are those of the eight
abilities; transformers reads them in sorted batches of 32.
"""

import argparse
import json
import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from audit.abilities import ABILITIES, load_ability
from audit.abilities.data.sources import PocketSource, items
from audit.engine.batching import TOKEN_BUDGET, pack, padded
from audit.engine.forward import CausalForward
from audit.engine.prefill import compute_prefix, prefill
from audit.models.language_model import LanguageModel
from audit.models.loading import pocket_names
from audit.models.tokens import encode
from benchmarks.asking import load, timed
from benchmarks.editing import machine
from benchmarks.plain_asking import BATCH
from benchmarks.random_models import SHAPES

RESULTS = Path(__file__).parent / "results"
BAR = 0.6


@dataclass(frozen=True)
class Prefill:
    """Rates in 10^9 useful floating-point operations a processor second; shares are of `limit`."""

    shape: str
    prompts: int
    tokens: int
    limit: float
    mkl: float
    ours: float
    ours_share: float
    plain: float
    plain_share: float


def product_rate(run: Callable[[torch.Tensor], object], size: int = 2048) -> float:
    """The best of five, in 10^9 operations a second."""
    left = torch.randn(size, size)
    return max(2 * size**3 / timed(lambda: run(left))[1].processor for _ in range(5)) / 1e9


def product_rates() -> tuple[float, float]:
    """MKL's rate and the faster library's."""
    mkl = product_rate(lambda left: left @ left)
    if not hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        return mkl, mkl
    product = torch.ops.mkldnn._linear_pointwise.default
    return mkl, max(mkl, product_rate(lambda left: product(left, left, None, "none", [], "")))


def useful_operations(lm: LanguageModel, rows: Sequence[Sequence[int]]) -> float:
    """Of reading these prompts, each on its own."""
    blocks = [lm.model.get_submodule(path) for path in lm.anatomy.blocks]
    weights = sum(p.numel() for block in blocks for p in block.parameters() if p.dim() == 2)
    head = lm.model.get_output_embeddings().weight.numel()
    attention = (
        2 * lm.anatomy.depth * lm.anatomy.hidden_size
    )  # for a pair of tokens: scores, and values (2 each), halved
    return float(sum(2 * weights * len(row) + attention * len(row) ** 2 + 2 * head for row in rows))


def read_ours(lm: LanguageModel, rows: Sequence[tuple[int, ...]]) -> None:
    """Read the prompts as `write_answers` does, up to the first token."""
    forward = CausalForward(lm)
    beginning = compute_prefix(forward, rows)
    for batch in pack([len(row) for row in rows], TOKEN_BUDGET):
        prefill(forward, [rows[i] for i in batch], beginning)


@torch.no_grad()
def read_plainly(lm: LanguageModel, rows: Sequence[tuple[int, ...]]) -> None:
    """Read the prompts as `generate` does."""
    ordered = sorted(rows, key=len)
    for start in range(0, len(ordered), BATCH):
        ids, mask = padded(ordered[start : start + BATCH], "left", lm.device)
        lm.model(input_ids=ids, attention_mask=mask, use_cache=True, logits_to_keep=1)


def measure(shape: str, limit: int, rounds: int) -> Prefill:
    """Median rates of both sides, run in turn."""
    lm = load(shape)
    rows = []
    for name in ABILITIES:
        ability = load_ability(name)
        rows += [tuple(encode(lm.tokenizer, ability.prompt(item))) for item in items(ability, PocketSource(), limit, 0)]
    before = product_rates()
    taken: tuple[list[float], list[float]] = ([], [])
    for _ in range(rounds):
        for side, read in enumerate((read_ours, read_plainly)):
            taken[side].append(timed(lambda read=read: read(lm, rows))[1].processor)  # type: ignore[misc]
    mkl, fastest = (max(pair) for pair in zip(before, product_rates(), strict=True))
    ours, plain = (useful_operations(lm, rows) / statistics.median(side) / 1e9 for side in taken)
    tokens = sum(map(len, rows))
    return Prefill(shape, len(rows), tokens, fastest, mkl, ours, ours / fastest, plain, plain / fastest)


def main() -> None:
    """Measure, print a table, and keep the numbers under benchmarks/results."""
    parser = argparse.ArgumentParser(description="Time the reading of prompts beside the machine's matrix limit.")
    parser.add_argument("--shape", nargs="+", choices=(*pocket_names(), *SHAPES), default=["gpt2-small"])
    parser.add_argument("--limit", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    table = Table(title=f"reading prompts, 10^9 operations a second (bar: {BAR:g} of the limit on gpt2-small)")
    for column in ("shape", "prompts", "tokens", "limit", "MKL", "ours", "share", "transformers", "share"):
        table.add_column(column, justify="left" if column == "shape" else "right")
    for shape in given.shape:
        one = measure(shape, given.limit, given.rounds)
        shares = f"{one.ours_share:.2f}", f"{one.plain_share:.2f}"
        table.add_row(
            shape, str(one.prompts), str(one.tokens), f"{one.limit:.0f}", f"{one.mkl:.0f}",
            f"{one.ours:.0f}", shares[0], f"{one.plain:.0f}", shares[1],
        )  # fmt: skip
        record = {"machine": machine(), "rounds": given.rounds, "result": asdict(one)}
        (RESULTS / f"prefill-{shape}.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    Console().print(table)


if __name__ == "__main__":
    main()
