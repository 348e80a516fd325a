"""Whether the power of a run is what the preflight says: simulated audits, and how often they pass.

    python -m benchmarks.verdict_power [--runs 4000] [--parts binary sources graded other_sizes corpus]

The power of each design is computed as `power_of` does it, and simulated item by item, at three true drops: none, and
those that are detected (a lower limit above 0) with 80 % and with 50 % power. "PASS" is the share of runs that certify
the smallest margin for that power at that drop. These cells are points of power, simulated less computed; 3 either way
are allowed, and their Monte Carlo error is 0.6 to 0.9. "margin" is the computed one for PASS with 80 % and no drop,
"simulated" the one that 80 % of the simulated runs certify. The simulated bootstrap draws 999 resamples, new ones for
every 100 runs, where the audit draws 9,999. Parts are written as they are done, to benchmarks/results/verdict-power.
"""

import argparse
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product
from time import process_time
from types import SimpleNamespace
from typing import Any, cast

import numpy as np

from audit.verdicts.bootstrap import Contrast, as_ratios
from audit.verdicts.intervals import f1_of
from audit.verdicts.margins import Points
from audit.verdicts.power import observed_change, smallest
from audit.verdicts.rehearsal import Design, rehearse
from audit.workflows.expectation import Expectation, Sample
from benchmarks.verdict_error_rates import DISCORDANCES, SIZES, generator_of, sizes_of
from benchmarks.verdict_tables import Row, write
from tests.verdicts import simulated_scores as simulated

NAME = "verdict-power"
NOTE = "\n".join((__doc__ or "").strip().splitlines()[4:])
RUNS = 4_000
PAST = 1_000  # sentences of the past run
Decide = Callable[[float], simulated.Decisions]  # of a margin
Simulate = Callable[[float], Decide]  # of a true drop


def binary(runs: int) -> Iterator[Row]:
    """0/1 scores. At an alpha below 0.05 the audit may also stop early, with what is left of it, and finds a little."""
    for n, discordance, alpha in product(SIZES, DISCORDANCES, (simulated.ALPHA, simulated.LATE)):

        def simulate(drop: float, n=n, discordance=discordance, alpha=alpha) -> Decide:
            generator = generator_of(n, discordance, drop)
            drops = simulated.flips(generator, runs, n, max(discordance, drop), drop)
            lost, gained = (drops > 0).sum(axis=1), (drops < 0).sum(axis=1)

            def decide(margin: float) -> simulated.Decisions:
                found = simulated.score_limits(lost, gained, n, margin, alpha)
                if alpha == simulated.ALPHA or not margin:
                    return found
                return simulated.bets(drops, np.ones(n), margin, simulated.EARLY)[0] | found

            return decide

        yield {"alpha": alpha} | _row(
            lambda drop, n=n, discordance=discordance: Design(n, discordance, binary=True), simulate, alpha
        )


def sources(runs: int) -> Iterator[Row]:
    """0/1 scores of items that share sources; two items of a source correlate by a quarter, or wholly."""
    for n, discordance, pattern in product(SIZES, DISCORDANCES, ((3,), (1, 2, 1, 3, 5, 1))):
        for alike in (0.25, 1.0) if len(pattern) == 1 else (0.25,):
            sizes = sizes_of(pattern, n)
            names = tuple(str(source) for source, size in enumerate(sizes) for _ in range(size))

            def simulate(drop: float, sizes=sizes, discordance=discordance, alike=alike) -> Decide:
                generator, changed = generator_of(len(sizes), discordance, drop, alike), max(discordance, drop)
                both = simulated.clustered_flips(generator, runs, sizes, changed, drop, math.sqrt(alike))
                return lambda margin: simulated.clustered_limits(*both, sizes, margin)

            design = Design(len(names), discordance, binary=True, clusters=names, alike=alike)
            kind: Row = {"items a source": "3" if len(pattern) == 1 else "1 to 5", "alike": alike}
            yield kind | _row(lambda drop, design=design: design, simulate)


def graded(runs: int) -> Iterator[Row]:
    """ROUGE-like scores whose changes are spread evenly up to 0.52 points, as is assumed."""
    yield from _graded(runs, {"even": lambda generator, shape: 0.3 * math.sqrt(3) * generator.random(shape)})


def other_sizes(runs: int) -> Iterator[Row]:
    """The same with changes of other sizes, with power from their sizes, or from their root mean square (0.3) alone."""
    yield from _graded(
        runs,
        {
            "all equal": lambda generator, shape: np.full(shape, 0.3),
            "half normal": lambda generator, shape: np.minimum(1.0, 0.3 * np.abs(generator.standard_normal(shape))),
            "a tenth of 0.9, all others 0.1": lambda generator, shape: np.where(
                generator.random(shape) < 0.1, 0.9, 0.1
            ),
        },
        ("sizes", "rms"),
    )


def _graded(runs: int, shapes: dict[str, Callable], planned_from: tuple[str, ...] = ("rms",)) -> Iterator[Row]:
    for n, discordance, name, known in product(SIZES, DISCORDANCES, shapes, planned_from):
        sizes = shapes[name]
        seen = sizes(generator_of(len(name)), 10_000)

        def simulate(drop: float, n=n, discordance=discordance, sizes=sizes) -> Decide:
            generator = generator_of(n, discordance, drop)
            contrast = simulated.mean_contrast(
                simulated.leaning_drops(generator, runs, n, discordance, drop, lambda shape: sizes(generator, shape))
            )
            return _decided(contrast)

        change = tuple(seen.tolist()) if known == "sizes" else math.sqrt(float(np.square(seen).mean()))
        design = Design(n, discordance, change)
        yield {"changes of": name, "power from": known} | _row(lambda drop, design=design: design, simulate)


def corpus(runs: int) -> Iterator[Row]:
    """F1 over sentences that are written anew. The power is the preflight's, from a past run of 1,000.

    "gold": entities a sentence, 1.7 on average; "uneven" ones have the variance of CoNLL-2003's (half have one or none,
    some ten). "past run": nothing got worse in it, and its changes are assumed at every drop; "sizes": those of 100,000
    other sentences, at the same drop.
    """
    for n, discordance, kind, known in product(SIZES, DISCORDANCES, ("even", "uneven"), ("past run", "sizes")):
        generator = generator_of(n)
        mean = simulated.ENTITIES if kind == "even" else simulated.ENTITIES * generator.gamma(1.2, 1 / 1.2, n)
        gold = generator.poisson(mean, n)  # known before any answer

        def counts(runs: int, gold: np.ndarray, drop: float, discordance=discordance, seed=0):
            changed = max(discordance, drop / 0.6)  # with no entity found any more, a sentence costs 0.7 of its share
            generator = generator_of(len(gold), discordance, drop, seed)
            return simulated.entity_counts(generator, runs, len(gold), changed, drop, gold)

        def design(drop: float, gold=gold, known=known, counts=counts) -> Design:
            if known == "sizes":
                base, edited = (table[0].astype(float) for table in counts(1, np.resize(gold, 100_000), drop))
                changes = observed_change(as_ratios(base), as_ratios(edited))
                return Design(len(gold), len(changes) / len(base), changes, weights=tuple(gold.tolist()))
            base, edited = (table[0].astype(float) for table in counts(1, np.resize(gold, PAST), 0.0, seed=1))
            return preflight_design(gold, base, edited)

        def simulate(drop: float, gold=gold, counts=counts) -> Decide:
            before, after = counts(runs, gold, drop)
            return _decided(simulated.f1_contrast(before, after), simulated.f1_height_of(before))

        yield {"gold": kind, "power from": known} | _row(design, simulate)


def preflight_design(gold: np.ndarray, base: np.ndarray, edited: np.ndarray) -> Design:
    """What the preflight expects of sentences with so many gold entities after a past run with these (n, 3) counts."""

    @dataclass(frozen=True)
    class Past:
        corpus_moves = observed_change(as_ratios(base), as_ratios(edited))
        changes = max(1, len(corpus_moves)) / len(base)
        row = SimpleNamespace(verdict=SimpleNamespace(n=len(base), base=float(f1_of(base.sum(axis=0)))))

    items = [SimpleNamespace(cluster=str(k)) for k in range(len(gold))]
    sample = Sample(cast(Any, None), cast(Any, items), tuple(gold.tolist()))
    return Expectation.of(sample, cast(Any, Past()), Points(0.05), simulated.ALPHA).design(len(gold))


def _decided(contrast: Contrast, height: np.ndarray | float = 1.0) -> Decide:
    reach = simulated.studentized_reach(contrast, together=100, height=height)
    return lambda margin: simulated.reached(contrast, reach, margin)


def _row(design: Callable[[float], Design], simulate: Simulate, alpha: float = simulated.ALPHA) -> Row:
    """`design` gives what is known of items whose true drop is so much."""
    first, row = design(0.0), {}
    row |= {"n": first.items, "changes": round(first.items * first.discordance, 1)}

    def sees(drop: float) -> float:
        return rehearse(design(drop), drop, alpha, runs=1_000).see()

    near = None if first.exact else smallest(rehearse(first, 0.0, alpha).certify, 0.8)
    for seen in (None, 0.8, 0.5):
        drop = 0.0 if seen is None else smallest(sees, seen, near)
        if drop is None:
            continue
        planned, decide = rehearse(design(drop), drop, alpha), simulate(drop)
        if seen is not None:
            row[f"drop, {seen:.0%}"] = round(drop, 4)
            row[f"seen, {seen:.0%}"] = 100 * (float(decide(0.0).beyond.mean()) - planned.see())
        for power in (0.8, 0.5) if seen != 0.5 else ():
            margin = smallest(planned.certify, power)
            if seen is None and power == 0.8:
                row["margin"] = None if margin is None else round(margin, 4)
                if not first.exact:
                    row["simulated"] = smallest(
                        lambda margin, decide=decide: float(decide(margin).passed.mean()), power
                    )
            if margin is not None:
                off = 100 * (float(decide(margin).passed.mean()) - planned.certify(margin))
                row[f"PASS, {power:.0%}{'' if seen is None else ', at that drop'}"] = off
    return row


PARTS: dict[str, Callable[[int], Iterator[Row]]] = {
    "binary": binary,
    "sources": sources,
    "graded": graded,
    "other_sizes": other_sizes,
    "corpus": corpus,
}


def main() -> None:
    """Run the parts that are asked for."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=RUNS)
    parser.add_argument("--parts", nargs="+", choices=list(PARTS), default=list(PARTS))
    given = parser.parse_args()
    for part in given.parts:
        start, rows = process_time(), []
        for row in PARTS[part](given.runs):
            rows.append(row)
            print(part, *row.values(), flush=True)
            what = (PARTS[part].__doc__ or "").strip()
            seconds = round(process_time() - start, 1)
            write(
                NAME,
                "Power of the verdicts",
                NOTE,
                part,
                {"what": what, "runs": given.runs, "seconds": seconds, "rows": rows},
            )


if __name__ == "__main__":
    main()
