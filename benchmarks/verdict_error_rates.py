"""How often verdicts are wrong: simulated answers whose true drop is exactly the margin, 10,000 runs a design.

    python -m benchmarks.verdict_error_rates [--runs 10000] [--parts choice binary clustered graded rare ...]

For every design the share of runs that certify the drop (false PASS; at most 0.05 wanted, 0.055 allowed) and of those
that find it beyond the margin (false FAIL), with all items asked and with early stopping. A design whose margin
no run of its size can certify says "-". Parts are written as they are done, to benchmarks/results/verdict-error-rates.
The simulated bootstrap draws 999 or fewer resamples, new ones for every 500 runs, where the audit draws 9,999.
"""

import argparse
import math
from collections.abc import Callable, Iterator
from itertools import product
from time import process_time

import numpy as np

from audit.verdicts.bootstrap import pivot_quantiles, standard_error
from audit.verdicts.intervals import normal_quantile, resolution, t_quantile
from benchmarks.verdict_tables import Row, write
from tests.verdicts import simulated_scores as simulated

NAME = "verdict-error-rates"
NOTE = "\n".join((__doc__ or "").strip().splitlines()[4:])
BAR = 0.055
SIZES = (100, 277, 1000)
DISCORDANCES = (0.02, 0.05, 0.10, 0.20)
RESAMPLES = 999
FEWER = 499  # at the end of an early-stopped run; both new every 500 runs


def binary(runs: int) -> Iterator[Row]:
    """0/1 scores: Tango's interval; betting."""
    for n in SIZES:
        for discordance in DISCORDANCES:
            for part in (1.0, 0.5, 0.25):
                margin = part * discordance
                drops = simulated.flips(generator_of(n, discordance, part), runs, n, discordance, margin)
                lost, gained = (drops > 0).sum(axis=1), (drops < 0).sum(axis=1)
                early, _ = simulated.bets(drops, np.ones(n), margin, simulated.EARLY)
                late = simulated.score_limits(lost, gained, n, margin, simulated.LATE)
                fixed = simulated.score_limits(lost, gained, n, margin)
                yield _row({"n": n, "discordance": discordance}, margin, n, fixed, early | late)


def clustered(runs: int) -> Iterator[Row]:
    """0/1 scores of items that share sources, alike to half or wholly: Tango's interval with a design effect."""
    for n in SIZES:
        for sizes_name, pattern in (
            ("2", (2,)),
            ("5", (5,)),
            ("1 to 5", (1, 2, 1, 3, 5, 1)),
            ("a few 2", (1,) * 19 + (2,)),
        ):
            sizes = sizes_of(pattern, n)
            for discordance, margin in ((0.02, 0.02), (0.05, 0.02), (0.05, 0.05), (0.1, 0.05), (0.2, 0.1)):
                for together in (0.5, 1.0):
                    generator = generator_of(n, len(sizes), discordance, margin, together)
                    lost, gained = simulated.clustered_flips(generator, runs, sizes, discordance, margin, together)
                    early, _ = simulated.bets(lost - gained, sizes, margin, simulated.EARLY)
                    late = simulated.clustered_limits(lost, gained, sizes, margin, simulated.LATE)
                    fixed = simulated.clustered_limits(lost, gained, sizes, margin)
                    design = {"n": n, "cluster sizes": sizes_name, "alike": together, "discordance": discordance}
                    yield _row(design, margin, len(sizes), fixed, early | late)


def graded(runs: int) -> Iterator[Row]:
    """ROUGE-like scores: studentized bootstrap; betting."""
    for n in SIZES:
        for discordance in DISCORDANCES:
            for part, shape in ((0.5, "skewed"), (0.5, "broken"), (0.25, "broken"), (0.3, "even")):
                margin = part * discordance
                generator = generator_of(n, discordance, part, len(shape))
                drops = simulated.graded_drops(generator, runs, n, discordance, margin, shape)
                yield _graded_row({"n": n, "discordance": discordance, "drops": shape}, margin, drops)


EVENLY = (0.3, 1.0)  # what a rare item loses


def small(runs: int) -> Iterator[Row]:
    """Graded scores with small changes, of standard deviation 0.02, around a mean that is the margin."""
    for n, kind, margin in product((100, 200, 277, 1000), ("normal", "skewed", "heavy", "fifth"), (0.005, 0.01, 0.02)):
        generator = generator_of(n, margin, len(kind))
        drops = simulated.small_drops(generator, (runs, n), kind, margin)
        yield _graded_row({"n": n, "changes": kind}, margin, drops)


def rare(runs: int) -> Iterator[Row]:
    """Base scores of 1 with small changes, and a share of items that loses 0.3, 1, or evenly in between."""
    for n, kind, p in product((100, 200, 277, 1000), ("normal", "fifth", "none"), (0.005, 0.01, 0.02, 0.03, 0.05)):
        for loss in ((0.3, 0.3), EVENLY, (1.0, 1.0)):
            drops = simulated.small_drops(generator_of(n, p, *loss, len(kind)), (runs, n), kind, 0.0, p, loss)
            lost = f"{loss[0]:g}" if loss[0] == loss[1] else f"{loss[0]:g} to {loss[1]:g}"
            design: Row = {"n": n, "changes": kind, "share that loses": p, "loses": lost}
            yield _graded_row(design, p * sum(loss) / 2, drops)


def broken(runs: int) -> Iterator[Row]:
    """ROUGE-like scores that all lose a little, and a share of items, often too small to be seen, that loses all."""
    for n, mean, p, drop in product((100, 200, 400), (1 / 3, 0.6), (0.005, 0.01, 0.02), (0.0, 0.02, 0.04)):
        generator = generator_of(n, mean, p, drop)
        base = generator.beta(9 * mean, 9 * (1 - mean), (runs, n))
        small = simulated.small_drops(generator, (runs, n), "normal", drop)
        drops = np.where(generator.random((runs, n)) < p, base, small)
        design: Row = {"n": n, "base": round(mean, 2), "others lose": drop, "share that loses all": p}
        height = simulated.height_of(base)
        yield _graded_row(design, drop * (1 - p) + p * mean, drops, height=height) | {"none seen": (1 - p) ** n}


def gains(runs: int) -> Iterator[Row]:
    """Graded scores that all lose 0.05 or 0.1, but for a share that gains a lot."""
    for n, p, gain, loss in product((100, 200, 277, 1000), (0.03, 0.05), ((0.3, 0.3), EVENLY, (1.0, 1.0)), (0.05, 0.1)):
        margin = (1 - p) * loss - p * sum(gain) / 2
        if margin > 0 and p > resolution(n):
            generator = generator_of(n, p, *gain, loss)
            drops = simulated.small_drops(generator, (runs, n), "normal", loss, p, (-gain[1], -gain[0]))
            gained = f"{gain[0]:g}" if gain[0] == gain[1] else f"{gain[0]:g} to {gain[1]:g}"
            yield _graded_row({"n": n, "all lose": loss, "share that gains": p, "gains": gained}, margin, drops)


def graded_clusters(runs: int) -> Iterator[Row]:
    """Graded scores of items that share sources, alike by half or wholly; small changes, sources that lose a lot."""
    for n, (name, pattern) in product((277, 1000), (("2", (2,)), ("5", (5,)), ("1 to 5", (1, 2, 1, 3, 5, 1)))):
        sizes = sizes_of(pattern, n)
        for kind, together, p, drop in product(("normal", "fifth"), (0.5, 1.0), (0.0, 0.06), (0.01,)):
            margin = drop * (1 - p) + p * sum(EVENLY) / 2
            generator = generator_of(n, len(sizes), len(kind), together, p)
            sums = simulated.clustered_small_drops(generator, runs, sizes, kind, together, drop, p, EVENLY)
            design = {"n": n, "cluster sizes": name, "changes": kind, "alike": together, "share that loses": p}
            yield _graded_row(design, margin, sums, sizes)


def graded_share(runs: int) -> Iterator[Row]:
    """Graded scores; 90 % of the base above a floor of 0.05 is retained, with small changes and a share that breaks."""
    for n, kind, p in product((100, 200, 277, 1000), ("normal", "fifth"), (0.0, 0.03, 0.05)):
        generator, shape, floor = generator_of(n, len(kind), p), (runs, n), 0.05
        base = generator.beta(3, 6, shape)  # mean 1/3; a broken item loses all it has
        drop = 0.1 * (1 / 3 - floor)
        rest = (drop - p / 3) / (1 - p)
        small = simulated.small_drops(generator, shape, kind, rest)
        edited = np.where(generator.random(shape) < p, 0.0, base - small)
        settings = {"floor": floor, "share": 0.9}
        fixed = simulated.retained_graded_limits(base, edited, **settings, resamples=RESAMPLES)
        late = simulated.retained_graded_limits(base, edited, **settings, alpha=simulated.LATE, resamples=FEWER)
        early, _ = simulated.bets(0.9 * base - edited, np.ones(n), -0.1 * floor, simulated.EARLY, 0.9)
        yield _row({"n": n, "changes": kind, "share that breaks": p}, drop, n, fixed, early | late, 0.4)


def _graded_row(design: Row, margin: float, sums: np.ndarray, sizes=None, height: np.ndarray | float = 1.0) -> Row:
    sizes = np.ones(sums.shape[1]) if sizes is None else np.asarray(sizes)
    contrast = simulated.clustered_contrast(sums, sizes)
    nearest = min(0.5, float(np.mean(height)))
    if margin < nearest * resolution(len(sizes)):
        return _row(design, margin, len(sizes))
    early, _ = simulated.bets(sums, sizes, margin, simulated.EARLY)
    late = simulated.studentized_limits(contrast, margin, simulated.LATE, FEWER, height=height)
    fixed = simulated.studentized_limits(contrast, margin, resamples=RESAMPLES, height=height)
    return _row(design, margin, len(sizes), fixed, early | late, nearest)


def corpus(runs: int) -> Iterator[Row]:
    """Corpus F1 over sentences: studentized bootstrap; three looks."""
    for n in SIZES:
        for discordance in DISCORDANCES:
            for part in (0.6, 0.2):
                margin = part * discordance
                if margin < 0.5 * resolution(n):
                    yield _row({"n": n, "discordance": discordance}, margin, n)
                    continue
                generator = generator_of(n, discordance, part, 9)
                before, after = simulated.entity_counts(generator, runs, n, discordance, margin)
                contrast, height = simulated.f1_contrast(before, after), simulated.f1_height_of(before)
                early = simulated.looks(contrast, margin, simulated.EARLY, 799, height)
                late = simulated.studentized_limits(contrast, margin, simulated.LATE, FEWER, height=height)
                fixed = simulated.studentized_limits(contrast, margin, resamples=RESAMPLES, height=height)
                yield _row({"n": n, "discordance": discordance}, margin, n, fixed, early | late, 0.5)


def share(runs: int) -> Iterator[Row]:
    """0/1 scores; 90 % of the base above the floor must be, and is exactly, retained: limits of 0.9 base - edited."""
    for n in SIZES:
        for right, floor in ((0.98, 0.0), (0.9, 0.5), (0.7, 0.25), (0.6, 0.0)):
            for mended in (0.0, 0.05, 0.2):
                margin = 0.1 * (right - floor)
                base, edited = simulated.shared_scores(
                    generator_of(n, right, mended), runs, n, right=right, floor=floor, share=0.9, mended=mended
                )
                settings = {"floor": floor, "share": 0.9, "resamples": RESAMPLES}
                fixed = simulated.retained_limits(base, edited, **settings)
                early, _ = simulated.bets(0.9 * base - edited, np.ones(n), -0.1 * floor, simulated.EARLY, 0.9)
                late = simulated.retained_limits(
                    base, edited, alpha=simulated.LATE, **(settings | {"resamples": FEWER})
                )
                yield _row({"n": n, "base": right, "floor": floor, "mended": mended}, margin, n, fixed, early | late)


def choice(runs: int) -> Iterator[Row]:
    """False PASS of four intervals for skewed drops with many zeros: why the bootstrap is studentized."""
    for n in (50, 100, 277, 1000):
        for shape in ("skewed", "broken"):
            margin, few = 0.08, runs
            drops = simulated.graded_drops(generator_of(n, len(shape)), few, n, 0.15, margin, shape).T  # (n, runs)
            mean, error = drops.mean(axis=0), standard_error(simulated.mean_contrast(drops.T))
            times = np.random.default_rng(n).multinomial(n, np.full(n, 1 / n), size=999) / n
            drawn = np.sort(times @ drops, axis=0)  # (resamples, runs)
            certain = mean + resolution(n) <= margin
            low, _ = pivot_quantiles(simulated.mean_contrast(drops.T), simulated.ALPHA, resamples=999)
            uppers = {
                "student": mean + t_quantile(0.95, n - 1) * error,
                "percentile": drawn[949],
                "BCa": drawn[_bca_places(drawn, drops, mean), np.arange(few)],
                "studentized": mean - low * error,
            }
            yield {"n": n, "drops": shape} | {
                name: float(((upper <= margin) & certain).mean()) for name, upper in uppers.items()
            }


def _bca_places(drawn: np.ndarray, drops: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """Efron (1987): the place of the upper limit among the sorted resamples."""
    below = ((drawn < mean).sum(axis=0) + (drawn <= mean).sum(axis=0)) / 2
    centered = drops - mean
    speed = (centered**3).sum(axis=0) / (6 * np.maximum((centered**2).sum(axis=0), 1e-100) ** 1.5)
    places = []
    for share, a in zip(np.clip(below / len(drawn), 0.001, 0.999), speed, strict=True):
        bias = normal_quantile(float(share))
        z = bias + normal_quantile(0.95)
        level = 0.5 * (1 + np.vectorize(math.erf)((bias + z / (1 - a * z)) / np.sqrt(2)))
        places.append(min(len(drawn) - 1, int(level * (len(drawn) + 1))))
    return np.array(places)


def cost(runs: int) -> Iterator[Row]:
    """0/1 scores, drops away from a margin of 0.05: the items that early stopping saves, the verdicts that it costs."""
    for n in (200, 400):
        for discordance, drop in (
            (0.02, 0.0),
            (0.05, 0.0),
            (0.1, 0.0),
            (0.05, 0.02),
            (0.1, 0.02),
            (0.12, 0.1),
            (0.2, 0.15),
        ):
            drops = simulated.flips(generator_of(n, discordance, drop), runs, n, discordance, drop)
            lost, gained = (drops > 0).sum(axis=1), (drops < 0).sum(axis=1)
            early, needed = simulated.bets(drops, np.ones(n), 0.05, simulated.EARLY)
            stopped = early | simulated.score_limits(lost, gained, n, 0.05, simulated.LATE)
            fixed = simulated.score_limits(lost, gained, n, 0.05)
            yield {
                "n": n, "discordance": discordance, "drop": drop, "PASS": float(fixed.passed.mean()),
                "PASS, early": float(stopped.passed.mean()), "beyond": float(fixed.beyond.mean()),
                "beyond, early": float(stopped.beyond.mean()), "share of the items": float(needed.mean() / n),
            }  # fmt: skip


PARTS: dict[str, Callable[[int], Iterator[Row]]] = {
    "choice": choice,
    "binary": binary,
    "clustered": clustered,
    "graded": graded,
    "small": small,
    "rare": rare,
    "broken": broken,
    "gains": gains,
    "graded_clusters": graded_clusters,
    "graded_share": graded_share,
    "corpus": corpus,
    "share": share,
    "cost": cost,
}


def _row(
    design: Row,
    margin: float,
    clusters: int,
    fixed: simulated.Decisions | None = None,
    early: simulated.Decisions | None = None,
    nearest: float = 1.0,
) -> Row:
    """`nearest`: how near the limits may be, in resolutions."""
    possible = margin >= nearest * resolution(clusters)
    names = ("false PASS", "false PASS, early", "false FAIL", "false FAIL, early")
    rates: list[float | None] = [None] * 4
    if fixed is not None and early is not None and possible:
        rates = [float(kind.mean()) for kind in (fixed.passed, early.passed, fixed.beyond, early.beyond)]
    return design | {"margin": round(margin, 4)} | dict(zip(names, rates, strict=True))


def sizes_of(pattern: tuple[int, ...], n: int) -> list[int]:
    """The pattern again and again, up to `n` items."""
    sizes: list[int] = []
    while sum(sizes) + pattern[len(sizes) % len(pattern)] <= n:
        sizes.append(pattern[len(sizes) % len(pattern)])
    return sizes


def generator_of(*design: float) -> np.random.Generator:
    """A generator of a design's own."""
    return np.random.default_rng([round(1000 * part) for part in design])


def main() -> None:
    """Run the parts that are asked for."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--parts", nargs="+", choices=list(PARTS), default=list(PARTS))
    given = parser.parse_args()
    for part in given.parts:
        start = process_time()
        rows = []
        for row in PARTS[part](given.runs):
            rows.append(row)
            print(part, *row.values(), flush=True)
            what = (PARTS[part].__doc__ or "").strip()
            seconds = round(process_time() - start, 1)
            table = {"what": what, "runs": given.runs, "seconds": seconds, "rows": rows}
            write(NAME, "Error rates of the verdicts", NOTE, part, table)


if __name__ == "__main__":
    main()
