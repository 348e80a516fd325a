"""How often verdicts are wrong: simulated answers whose true drop is exactly the margin, 10,000 runs a design.

    python -m benchmarks.verdict_error_rates [--runs 10000] [--parts choice binary clustered graded corpus share power]

For every design the share of runs that certify the drop (false PASS; at most 0.05 wanted, 0.055 allowed) and of those
that find it beyond the margin (false FAIL), with all items asked and with early stopping. A design whose margin
no run of its size can certify says "-". Parts are written as they are done, to benchmarks/results/verdict-error-rates.
The simulated bootstrap draws 999 or fewer resamples, new ones for every 500 runs, where the audit draws 9,999.
"""

import argparse
import json
import math
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from time import process_time

import numpy as np
from filelock import FileLock

from audit.verdicts.bootstrap import as_ratios, pivot_quantiles, standard_error
from audit.verdicts.distributions import normal_quantile, t_quantile
from audit.verdicts.intervals import resolution
from audit.verdicts.planning import (
    assumed_deviation,
    observed_deviation,
    plan_binary,
    plan_graded,
    power_binary,
    power_graded,
)
from tests.verdicts import simulated_scores as simulated

RESULTS = Path(__file__).parent / "results"
NAME = "verdict-error-rates"
BAR = 0.055
SIZES = (100, 277, 1000)
DISCORDANCES = (0.02, 0.05, 0.10, 0.20)
RESAMPLES = 999
FEWER = 499  # at the end of an early-stopped run; both new every 500 runs

Row = dict[str, float | str | None]


def binary(runs: int) -> Iterator[Row]:
    """0/1 scores: Tango's interval; betting."""
    for n in SIZES:
        for discordance in DISCORDANCES:
            for part in (1.0, 0.5, 0.25):
                margin = part * discordance
                drops = simulated.flips(_generator(n, discordance, part), runs, n, discordance, margin)
                lost, gained = (drops > 0).sum(axis=1), (drops < 0).sum(axis=1)
                early, _ = simulated.bets(drops, np.ones(n), margin, simulated.EARLY)
                late = simulated.score_limits(lost, gained, n, margin, simulated.LATE)
                fixed = simulated.score_limits(lost, gained, n, margin)
                yield _row({"n": n, "discordance": discordance}, margin, n, fixed, early | late)


def clustered(runs: int) -> Iterator[Row]:
    """0/1 scores of items that share sources, alike to half or wholly: Tango's interval with a design effect."""
    for n in SIZES:
        for sizes_name, pattern in (("2", (2,)), ("5", (5,)), ("1 to 5", (1, 2, 1, 3, 5, 1))):
            sizes = _sizes(pattern, n)
            for discordance, margin in ((0.02, 0.02), (0.05, 0.02), (0.05, 0.05), (0.1, 0.05), (0.2, 0.1)):
                for together in (0.5, 1.0):
                    generator = _generator(n, len(sizes), discordance, margin, together)
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
                if margin < resolution(n):
                    yield _row({"n": n, "discordance": discordance, "drops": shape}, margin, n)
                    continue
                generator = _generator(n, discordance, part, len(shape))
                drops = simulated.graded_drops(generator, runs, n, discordance, margin, shape)
                contrast = simulated.mean_contrast(drops)
                early, _ = simulated.bets(drops, np.ones(n), margin, simulated.EARLY)
                late = simulated.studentized_limits(contrast, margin, simulated.LATE, FEWER)
                fixed = simulated.studentized_limits(contrast, margin, resamples=RESAMPLES)
                yield _row({"n": n, "discordance": discordance, "drops": shape}, margin, n, fixed, early | late)


def corpus(runs: int) -> Iterator[Row]:
    """Corpus F1 over sentences: studentized bootstrap; three looks."""
    for n in SIZES:
        for discordance in DISCORDANCES:
            for part in (0.6, 0.2):
                margin = part * discordance
                if margin < resolution(n):
                    yield _row({"n": n, "discordance": discordance}, margin, n)
                    continue
                generator = _generator(n, discordance, part, 9)
                contrast = simulated.f1_contrast(*simulated.entity_counts(generator, runs, n, discordance, margin))
                early = simulated.looks(contrast, margin, simulated.EARLY, 599)
                late = simulated.studentized_limits(contrast, margin, simulated.LATE, FEWER)
                fixed = simulated.studentized_limits(contrast, margin, resamples=RESAMPLES)
                yield _row({"n": n, "discordance": discordance}, margin, n, fixed, early | late)


def share(runs: int) -> Iterator[Row]:
    """0/1 scores; 90 % of the base above the floor must be, and is exactly, retained: limits of 0.9 base - edited."""
    for n in SIZES:
        for right, floor in ((0.9, 0.5), (0.7, 0.25), (0.6, 0.0)):
            for mended in (0.0, 0.05, 0.2):
                margin = 0.1 * (right - floor)
                base, edited = simulated.shared_scores(
                    _generator(n, right, mended), runs, n, right=right, floor=floor, share=0.9, mended=mended
                )
                settings = {"floor": floor, "share": 0.9, "resamples": RESAMPLES}
                fixed = simulated.retained_limits(base, edited, **settings)
                early, _ = simulated.bets(
                    0.9 * base - edited + 0.1 * floor,
                    np.ones(n),
                    0.0,
                    simulated.EARLY,
                    (1 - 0.1 * floor, 0.9 + 0.1 * floor),
                )
                late = simulated.retained_limits(
                    base, edited, alpha=simulated.LATE, **(settings | {"resamples": FEWER})
                )
                yield _row({"n": n, "base": right, "floor": floor, "mended": mended}, margin, n, fixed, early | late)


def choice(runs: int) -> Iterator[Row]:
    """False PASS of four intervals for skewed drops with many zeros: why the bootstrap is studentized."""
    for n in (50, 100, 277, 1000):
        for shape in ("skewed", "broken"):
            margin, few = 0.08, runs
            drops = simulated.graded_drops(_generator(n, len(shape)), few, n, 0.15, margin, shape).T  # (n, runs)
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


def power(runs: int) -> Iterator[Row]:
    """Nothing got worse: how often the smallest margin of the plan, for 80 %, is certified; points that it is off.

    The second 0/1 rows are stopped early and otherwise judged at alpha 0.04. Where fewer than about ten items are
    expected to change, the plans of graded scores promise too much.
    """
    for n in SIZES:
        for discordance in DISCORDANCES:
            plans = (("0/1", 1.0), ("0/1, alpha 0.04", 1.0), ("ROUGE-like", 0.3), ("F1-like", 1.0))
            for kind, change in plans:
                generator, changing = _generator(n, discordance, len(kind)), discordance
                if kind.startswith("0/1"):
                    alpha = simulated.LATE if "," in kind else simulated.ALPHA
                    plan = plan_binary(n, discordance, alpha=alpha)
                    drops = simulated.flips(generator, runs, n, discordance, 0.0)
                    lost, gained = (drops > 0).sum(axis=1), (drops < 0).sum(axis=1)
                    planned = power_binary(n, discordance, plan.smallest_margin, alpha=alpha)
                    found = simulated.score_limits(lost, gained, n, plan.smallest_margin, alpha)
                    if "," in kind:
                        found = simulated.bets(drops, np.ones(n), plan.smallest_margin, simulated.EARLY)[0] | found
                elif kind == "ROUGE-like":
                    changed = generator.random((runs, n)) < discordance
                    contrast = simulated.mean_contrast(changed * generator.uniform(-change, change, (runs, n)))
                    deviation = assumed_deviation(discordance, change / math.sqrt(3))
                else:
                    contrast = simulated.f1_contrast(*simulated.entity_counts(generator, runs, n, discordance, 0.0))
                    many = simulated.entity_counts(generator, 1, 200_000, discordance, 0.0)
                    deviation = observed_deviation(*(as_ratios(table[0].astype(float)) for table in many))
                    changing = float((many[0][0] != many[1][0]).any(axis=1).mean())
                if not kind.startswith("0/1"):
                    plan = plan_graded(n, deviation, discordance=changing)
                    planned = power_graded(n, deviation, plan.smallest_margin, discordance=changing)
                    found = simulated.studentized_limits(contrast, plan.smallest_margin, resamples=RESAMPLES)
                off = 100 * (float(found.passed.mean()) - planned)
                yield {
                    "scores": kind, "n": n, "changes": round(n * changing, 1), "margin": round(plan.smallest_margin, 4),
                    "planned": planned, "simulated": float(found.passed.mean()), "points off": off,
                }  # fmt: skip


def _bca_places(drawn: np.ndarray, drops: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """Efron (1987): where among the sorted resamples the upper limit stands."""
    below = ((drawn < mean).sum(axis=0) + (drawn <= mean).sum(axis=0)) / 2
    centred = drops - mean
    speed = (centred**3).sum(axis=0) / (6 * np.maximum((centred**2).sum(axis=0), 1e-100) ** 1.5)
    places = []
    for share, a in zip(np.clip(below / len(drawn), 0.001, 0.999), speed, strict=True):
        bias = normal_quantile(float(share))
        z = bias + normal_quantile(0.95)
        level = 0.5 * (1 + np.vectorize(math.erf)((bias + z / (1 - a * z)) / np.sqrt(2)))
        places.append(min(len(drawn) - 1, int(level * (len(drawn) + 1))))
    return np.array(places)


PARTS: dict[str, Callable[[int], Iterator[Row]]] = {
    "choice": choice,
    "binary": binary,
    "clustered": clustered,
    "graded": graded,
    "corpus": corpus,
    "share": share,
    "power": power,
}


def _row(
    design: Row,
    margin: float,
    clusters: int,
    fixed: simulated.Decisions | None = None,
    early: simulated.Decisions | None = None,
) -> Row:
    possible = margin >= resolution(clusters)
    names = ("false PASS", "false PASS, early", "false FAIL", "false FAIL, early")
    rates: list[float | None] = [None] * 4
    if fixed is not None and early is not None and possible:
        rates = [float(kind.mean()) for kind in (fixed.passed, early.passed, fixed.beyond, early.beyond)]
    return design | {"margin": round(margin, 4)} | dict(zip(names, rates, strict=True))


def _sizes(pattern: tuple[int, ...], n: int) -> list[int]:
    sizes: list[int] = []
    while sum(sizes) + pattern[len(sizes) % len(pattern)] <= n:
        sizes.append(pattern[len(sizes) % len(pattern)])
    return sizes


def _generator(*design: float) -> np.random.Generator:
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
            _write(part, {"what": what, "runs": given.runs, "seconds": round(process_time() - start, 1), "rows": rows})


def _write(part: str, table: dict) -> None:
    path = RESULTS / f"{NAME}.json"
    with FileLock(Path(tempfile.gettempdir()) / f"{NAME}.lock"):  # parts may run side by side
        tables = json.loads(path.read_text()) if path.exists() else {}
        tables[part] = table
        path.write_text(json.dumps(tables, indent=1) + "\n")
        path.with_suffix(".md").write_text(_markdown(tables))


def _markdown(tables: dict) -> str:
    lines = ["# Error rates of the verdicts", "", *(__doc__ or "").strip().splitlines()[4:], ""]
    for name, table in tables.items():
        rows = table["rows"]
        lines += [f"## {name}", "", f"{table['what']} {table['runs']} runs a design.", ""]
        lines += ["| " + " | ".join(rows[0]) + " |", "|" + "---|" * len(rows[0])]
        lines += ["| " + " | ".join(_cell(value) for value in row.values()) + " |" for row in rows]
        lines.append("")
    return "\n".join(lines)


def _cell(value: float | str | None) -> str:
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    main()
