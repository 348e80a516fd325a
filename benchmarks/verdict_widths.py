"""How wide the limits of graded scores are, before and after they adapt to the size of the changes that are seen.

    python -m benchmarks.verdict_widths [--runs 400]

Mean of upper - lower over simulated runs, at 95 % each, of changes with mean 0 and a standard deviation of about 0.02.
"before": no limit nearer to the drop than the resolution, 1 - 0.05^(1/n), whatever the sizes of the changes; "after":
`judge`. "changed" is the mean number of items that changed (sources, where items share them). Written to
benchmarks/results/verdict-widths.
"""

import argparse
from collections.abc import Callable, Iterator
from itertools import product
from time import process_time

import numpy as np

from audit.verdicts.bootstrap import bounded_by_coins, contrast_of, studentized
from audit.verdicts.intervals import cluster_sums, resolution
from audit.verdicts.margins import Margin, Points, Retained
from audit.verdicts.verdict import judge
from benchmarks.verdict_tables import Row, write
from tests.verdicts import simulated_scores as simulated

NOTE = "\n".join((__doc__ or "").strip().splitlines()[4:])
ALPHA = 0.05


def scores_of(kind: str) -> Callable[[np.random.Generator, int], tuple[np.ndarray, np.ndarray]]:
    """Base and edited (n,) scores: ROUGE-like ones that change, or means over 10 edited models of 0/1 answers."""

    def rouge(generator: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
        base = np.clip(generator.beta(3, 6, n), 0.15, 0.85)
        return base, np.clip(base - simulated.small_drops(generator, n, kind), 0, 1)

    def means(generator: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
        base = (generator.random(n) < 0.7).astype(float)
        unsure = generator.random(n) < 0.2  # answers near a tie, of which one edited model in fifty turns each
        flips = generator.binomial(10, np.where(unsure, 0.02, 0.0)) / 10
        return base, np.abs(base - flips)

    return means if kind == "10 models" else rouge


def widths(runs: int) -> Iterator[Row]:
    """ROUGE-like scores (a mean of 1/3) and means over 10 edited models; sources of two items each; 90 % retained."""
    for n, kind, size in product((100, 200, 400), ("normal", "skewed", "heavy", "fifth", "10 models", "none"), (1, 2)):
        if size == 2 and kind not in ("normal", "fifth"):
            continue
        yield _row(runs, n, kind, size, Points(0.05))
    for n, kind in product((100, 200, 400), ("normal", "fifth", "none")):
        yield _row(runs, n, kind, 1, Retained(0.9))


def _row(runs: int, n: int, kind: str, size: int, margin: Margin) -> Row:
    generator, draw = np.random.default_rng([n, len(kind), size]), scores_of(kind)
    before, after, deviation, changed = [], [], [], []
    names = [str(k // size) for k in range(n)]
    for _ in range(runs):
        base, edited = draw(generator, n)
        found = judge(base, edited, margin=margin, floor=0.0, clusters=names)
        after.append(found.upper - found.lower)
        before.append(_width_before(base, edited, np.arange(n) // size, margin))
        deviation.append(float((base - edited).std()))
        changed.append(len(set((np.flatnonzero(base != edited) // size).tolist())))
    widths = float(np.mean(before)), float(np.mean(after))
    return {
        "n": n, "changes": kind, "items a source": size, "margin": str(margin), "sd": float(np.mean(deviation)),
        "changed": float(np.mean(changed)), "before": widths[0], "after": widths[1], "ratio": widths[0] / widths[1],
    }  # fmt: skip


def _width_before(base: np.ndarray, edited: np.ndarray, codes: np.ndarray, margin: Margin) -> float:
    ones = np.ones_like(base)
    first, second = (cluster_sums(np.stack([scores, ones], axis=1), codes) for scores in (base, edited))
    kept = margin.share if isinstance(margin, Retained) else 1.0
    (below, above), _ = studentized(contrast_of(first, second, kept), ALPHA)
    if kept != 1:
        below, above = below + 0.2 / len(first), above + 0.2 / len(first)
    else:
        coins = bounded_by_coins(first, second, ALPHA)
        below, above = min(below, coins.lower), min(above, coins.upper)
    least = resolution(len(first), ALPHA)
    return max(below, least) + max(above, least)


def main() -> None:
    """Write the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=400)
    given, start, rows = parser.parse_args(), process_time(), []
    for row in widths(given.runs):
        rows.append(row)
        print(*row.values(), flush=True)
        what, seconds = (widths.__doc__ or "").strip(), round(process_time() - start, 1)
        table = {"what": what, "runs": given.runs, "seconds": seconds, "rows": rows}
        write("verdict-widths", "Widths of the limits of graded scores", NOTE, "widths", table)


if __name__ == "__main__":
    main()
