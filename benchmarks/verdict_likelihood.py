"""How often verdicts on likelihoods are wrong: recorded readings whose edited scores are moved exactly to the margin.

    python -m benchmarks.verdict_likelihood [--pairs FILE | --synthetic] [--runs 2000] [--sizes 100 200] [--rows NAME]

FILE has one JSON object a line: name, base, edited, floors or base_odds, edited_odds and positives, and clusters.

The recorded items are the population. Its edited scores are moved so that it keeps exactly 90 % of what lies above the
floor, clusters are drawn with replacement, and every sample is judged against "90%". By scores the recorded changes are
stretched or shrunk; where they lose less than a fifth of the margin, every item loses the same part of its height
instead. By odds the same, with lower odds for all positives. A PASS is wrong (at most 0.05 wanted, 0.055 allowed), and
so is a lower limit of the drop beyond the margin (FAIL, ground 1). Beside this, 1 % of the drawn clusters break in the
design "floor": they score as their floors do, or take the odds of any item; and in "zero": they score 0, or rank last.
"half width" and "coverage" (0.9 wanted) are of [kept_lower, kept_upper], among the samples whose base is assessable;
"kept_lower above" and "kept_upper below" (at most 0.05 wanted each) are shares of all samples. A row has no figures if
what breaks leaves less than 90 % by itself.
999 resamples, new ones every 100 runs, where the audit draws 9,999.
"""

import argparse
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from time import process_time

import numpy as np

from audit.verdicts import PASS, Verdict, bootstrap
from audit.verdicts.margins import Retained
from audit.verdicts.verdict import judge
from benchmarks.verdict_tables import RESULTS, Row, write

NAME = "verdict-likelihood"
NOTE = "\n".join((__doc__ or "").strip().splitlines()[6:])
SHARE = 0.9
BROKEN = 0.01  # of the clusters, in the designs "floor" and "zero"
DESIGNS = {
    "recorded": "The recorded changes.",
    "floor": f"The recorded changes, and {100 * BROKEN:g} % of the clusters fall to their floors.",
    "zero": f"The recorded changes, and {100 * BROKEN:g} % of the clusters fall to 0.",
}


@dataclass(frozen=True)
class Population:
    """(n,) scores of recorded items, with floors or odds. `edited` and `edited_odds` are those at the margin."""

    name: str
    base: np.ndarray
    edited: np.ndarray
    clusters: np.ndarray  # (n,) codes
    floors: np.ndarray | None = None
    base_odds: np.ndarray | None = None
    edited_odds: np.ndarray | None = None  # (n, models)
    positives: np.ndarray | None = None


def read_pairs(path: Path) -> Iterator[Population]:
    """The populations of a file of recorded readings."""
    for line in path.read_text().splitlines():
        row = json.loads(line)
        tables = {
            key: None if row.get(key) is None else np.array(row[key], dtype=float)
            for key in ("floors", "base_odds", "edited_odds")
        }
        if (odds := tables["edited_odds"]) is not None:
            tables["edited_odds"] = odds.reshape(len(odds), -1)
        positives = None if row.get("positives") is None else np.array(row["positives"], dtype=bool)
        codes = np.unique(np.array(row["clusters"], dtype=str), return_inverse=True)[1]
        yield Population(
            row["name"], np.array(row["base"]), np.array(row["edited"]), codes, positives=positives, **tables
        )


def synthetic() -> Iterator[Population]:
    """Readings of 200 items with changes of standard deviation 0.02, and of odds; by item, and in pairs of a source."""
    n, generator = 200, np.random.default_rng(0)
    apart, paired = np.arange(n), np.arange(n) // 2
    scores = {"high": (0.3, 0.02, apart), "low": (0.08, 0.01, apart), "no loss": (0.2, 0.0, apart)}
    for name, (height, loss, codes) in (scores | {"pairs": (0.2, 0.02, paired)}).items():
        floors = np.clip(0.4 + 0.15 * generator.standard_normal(n), 0, 1)
        base = np.clip(floors + height * generator.exponential(size=n) ** 0.5, 0, 1)
        edited = np.clip(base - loss + 0.02 * generator.standard_normal(n), 0, 1)
        yield Population(f"scores, {name}", base, edited, codes, floors)
    odds_of = {"0.76": (1.0, 0.15, 0.2, 0.5), "0.64": (0.5, 0.1, 0.2, 0.5), "0.76, noisy": (1.0, 0.1, 0.7, 0.5)}
    for name, (distance, loss, noise, share) in (odds_of | {"one in five": (1.0, 0.15, 0.2, 0.2)}).items():
        positives = np.arange(n) < share * n
        odds = distance * positives + generator.standard_normal(n)
        after = odds - loss * positives + noise * generator.standard_normal(n)
        chances = 1 / (1 + np.exp(-odds)), 1 / (1 + np.exp(-after))
        yield Population(f"odds, {name}", *chances, apart, None, odds, after[:, None], positives)


# The population at the margin ----------------------------------------------------------------------------------------


def at_margin(recorded: Population, design: str) -> tuple[Population, float] | None:
    """The population whose edited scores keep `SHARE` in a design, and the share that it keeps in fact.

    The two differ where an AUC has steps; then the share is the lower one. None if what breaks in the design leaves
    less than `SHARE` by itself.
    """
    moved = _moved_scores(recorded) if recorded.floors is not None else _moved_odds(recorded)
    for move, most in moved:
        # The first step on a grid at which too little is kept, then by bisection.
        grid = np.concatenate([[0.0], np.geomspace(most / 256, most, 33)])
        beyond = [k for k, c in enumerate(grid) if share_kept(move(c), recorded, design) < SHARE]
        if not beyond:
            continue
        if not beyond[0]:
            return None
        low, high = grid[beyond[0] - 1], grid[beyond[0]]
        for _ in range(60):
            middle = (low + high) / 2
            low, high = (low, middle) if share_kept(move(middle), recorded, design) < SHARE else (middle, high)
        return move(high), share_kept(move(high), recorded, design)
    raise SystemExit(f"{recorded.name}, {design}: no change of its scores keeps {SHARE:.0%}")


def _moved_scores(recorded: Population) -> Iterator[tuple[Callable[[float], Population], float]]:
    base, edited, floors = recorded.base, recorded.edited, recorded.floors
    yield lambda c: replace(recorded, edited=np.clip(base + c * (edited - base), 0, 1)), 5.0
    yield lambda c: replace(recorded, edited=np.clip(edited - c * (base - floors), 0, 1)), 1.0


def _moved_odds(recorded: Population) -> Iterator[tuple[Callable[[float], Population], float]]:
    assert recorded.base_odds is not None and recorded.edited_odds is not None and recorded.positives is not None
    base, edited, positives = recorded.base_odds[:, None], recorded.edited_odds, recorded.positives[:, None]
    yield lambda c: replace(recorded, edited_odds=base + c * (edited - base)), 5.0
    spread = float(np.std(base[np.isfinite(base)]))
    yield lambda c: replace(recorded, edited_odds=edited - c * spread * positives), 3.0


def share_kept(moved: Population, recorded: Population, design: str) -> float:
    """The share of (base - floor) that the whole population keeps, where `BROKEN` of it breaks."""
    p = 0.0 if design == "recorded" else BROKEN
    if moved.floors is not None:
        broken = moved.floors if design == "floor" else np.zeros_like(moved.floors)
        base, floor = recorded.base.mean(), moved.floors.mean()
        return float(((1 - p) * moved.edited.mean() + p * broken.mean() - floor) / (base - floor))
    assert moved.base_odds is not None and moved.edited_odds is not None and moved.positives is not None
    base = _area(moved.base_odds, moved.positives, 0.0, design)
    edited = np.mean([_area(model, moved.positives, p, design) for model in moved.edited_odds.T])
    return float((edited - 0.5) / (base - 0.5))


def _area(odds: np.ndarray, positives: np.ndarray, p: float, design: str) -> float:
    """The AUC of (n,) odds of which a share p takes the odds of any item, or ranks last."""
    ours, others = odds[positives], odds[~positives]

    def above(first: np.ndarray, second: np.ndarray) -> float:
        wins = (first[:, None] > second).mean() + (first[:, None] == second).mean() / 2
        return float(wins)

    if design != "floor":
        return (1 - p) ** 2 * above(ours, others)
    return (1 - p) ** 2 * above(ours, others) + p * (1 - p) * (above(odds, others) + above(ours, odds)) + p * p / 2


# Samples -------------------------------------------------------------------------------------------------------------


def judged(moved: Population, design: str, clusters: int, run: int) -> Verdict:
    """The verdict on so many clusters, drawn with replacement."""
    generator = np.random.default_rng([run, clusters, sorted(DESIGNS).index(design)])
    members = np.split(np.argsort(moved.clusters, kind="stable"), np.cumsum(np.bincount(moved.clusters))[:-1])
    drawn = [members[k] for k in generator.integers(0, len(members), clusters)]
    items, names = np.concatenate(drawn), [str(k) for k, some in enumerate(drawn) for _ in some]
    broken = np.repeat(generator.random(clusters) < (0.0 if design == "recorded" else BROKEN), list(map(len, drawn)))
    base, edited, shared = moved.base[items], moved.edited[items], {"margin": Retained(SHARE), "floor": 0.0}
    if moved.floors is not None:
        floors = moved.floors[items]
        edited = np.where(broken, floors if design == "floor" else 0.0, edited)
        return judge(base, edited, **shared, clusters=names, floors=floors, seed=run // 100)
    assert moved.base_odds is not None and moved.edited_odds is not None and moved.positives is not None
    others = moved.edited_odds[generator.integers(0, len(moved.base), len(items))] if design == "floor" else np.nan
    odds = np.where(broken[:, None], others, moved.edited_odds[items])
    before, positives = moved.base_odds[items], moved.positives[items]
    return judge(
        base, edited, **shared, clusters=names, base_odds=before, edited_odds=odds, positives=positives, seed=run // 100
    )


def row_of(recorded: Population, design: str, clusters: int, runs: int) -> Row:
    """One row of the table: the error rates, and what the limits of the share kept are like."""
    row: Row = {"reading": recorded.name, "clusters": clusters, "kept": None}
    if (found_at := at_margin(recorded, design)) is None:
        return row
    moved, share = found_at
    found = [judged(moved, design, clusters, run) for run in range(runs)]
    limits = np.array([(v.kept_lower, v.kept_upper) for v in found if v.kept is not None]).reshape(-1, 2)
    return row | {
        "kept": share,
        "assessable": len(limits) / runs,
        "false PASS": sum(v.outcome is PASS for v in found) / runs,
        "false FAIL, ground 1": sum(v.assessable and v.lower > v.margin for v in found) / runs,
        "half width": float(np.mean(limits[:, 1] - limits[:, 0]) / 2) if len(limits) else None,
        "coverage": float(np.mean((limits[:, 0] <= share) & (share <= limits[:, 1]))) if len(limits) else None,
        "kept_lower above": float((limits[:, 0] > share).sum() / runs),
        "kept_upper below": float((limits[:, 1] < share).sum() / runs),
    }


def main() -> None:
    """Judge samples of every recorded reading, in every design."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--pairs", type=Path, default=RESULTS / "likelihood-pairs.jsonl")
    parser.add_argument("--synthetic", action="store_true", help="made-up readings in place of recorded ones")
    parser.add_argument("--runs", type=int, default=2000)
    parser.add_argument("--sizes", type=int, nargs="+", default=[100, 200])
    parser.add_argument("--rows", nargs="+", help="names of readings; all if left out")
    given = parser.parse_args()
    bootstrap.RESAMPLES = 999
    populations = list(synthetic() if given.synthetic else read_pairs(given.pairs))
    for design, what in DESIGNS.items():
        start, rows = process_time(), []
        for recorded in populations:
            for clusters in given.sizes:
                if not given.rows or recorded.name in given.rows:
                    rows.append(row_of(recorded, design, clusters, given.runs))
                    print(design, *rows[-1].values(), flush=True)
                    seconds = round(process_time() - start, 1)
                    table = {"what": what, "runs": given.runs, "seconds": seconds, "rows": rows}
                    part = f"synthetic, {design}" if given.synthetic else design
                    write(NAME, "Verdicts on likelihoods", NOTE, part, table)


if __name__ == "__main__":
    main()
