"""Simulated answers whose true drop is exactly the margin, and what the verdicts make of many runs of them at once.

Shared by the quick tests beside this file and by `benchmarks/verdict_error_rates.py`, which runs them 10,000 times.
Decisions are those of `judge` and `SequentialVerdict`, from the same functions, over a last or first axis of runs;
`test_the_fast_decisions_are_those_of_the_verdicts` holds them together.
"""

from typing import NamedTuple

import numpy as np

from audit.verdicts.betting import Wealth, units
from audit.verdicts.bootstrap import Contrast, as_ratios, pivot_quantiles, standard_error
from audit.verdicts.distributions import normal_quantile, t_quantile
from audit.verdicts.intervals import corrected_statistic, design_effect, effective_clusters, resolution
from audit.verdicts.sequential import EARLY_SHARE, LOOKS

ALPHA = 0.05
CHUNK = 500  # runs that share their resamples


class Decisions(NamedTuple):
    """(runs,) truth values: certified within the margin, found beyond it."""

    passed: np.ndarray
    beyond: np.ndarray

    def __or__(self, other: "Decisions") -> "Decisions":
        return Decisions(self.passed | other.passed, self.beyond | (other.beyond & ~self.passed))


# What is simulated ---------------------------------------------------------------------------------------------------


def flips(generator, runs: int, n: int, discordance: float, drop: float) -> np.ndarray:
    """(runs, n) drops of 0/1 scores: 1 lost, -1 gained."""
    shares = [(discordance + drop) / 2, (discordance - drop) / 2, 1 - discordance]
    return generator.choice(np.array([1.0, -1.0, 0.0]), p=shares, size=(runs, n))


def clustered_flips(generator, runs: int, sizes, discordance: float, drop: float, together: float):
    """(runs, clusters) numbers lost and gained: an item shares its cluster's fate with probability `together`."""
    lost, gained = np.zeros((runs, len(sizes))), np.zeros((runs, len(sizes)))
    common = flips(generator, runs, len(sizes), discordance, drop)
    for place in range(max(sizes)):
        there = np.asarray(sizes) > place
        own = flips(generator, runs, len(sizes), discordance, drop)
        fate = np.where(generator.random(own.shape) < together, common, own) * there
        lost, gained = lost + (fate > 0), gained + (fate < 0)
    return lost, gained


def graded_drops(generator, runs: int, n: int, discordance: float, drop: float, shape: str) -> np.ndarray:
    """(runs, n) drops of ROUGE-like scores, exactly 0 where the greedy answer did not change.

    "skewed": a change costs a Beta-distributed share, mostly little, sometimes all. "broken": most changes are small
    and go either way, a few answers lose 0.7. "even": spread evenly around the mean.
    """
    mean = drop / discordance
    if shape == "skewed":
        change = generator.beta(0.5, 0.5 * (1 - mean) / mean, (runs, n))
    elif shape == "broken":
        small = 0.05 * generator.standard_normal((runs, n))
        change = np.where(generator.random((runs, n)) < mean / 0.7, 0.7, small)
    else:
        change = mean + min(0.5, 1 - mean) * (2 * generator.random((runs, n)) - 1)
    return np.where(generator.random((runs, n)) < discordance, change, 0.0)


RECALL, SPURIOUS, ENTITIES = 0.85, 0.2, 1.7  # of the base model, by entity and by sentence


def entity_counts(generator, runs: int, n: int, discordance: float, drop: float):
    """Two (runs, n, 3) tables of (true positives, false positives, misses) whose corpus F1s differ by `drop`.

    A changed sentence is written anew, with a lower recall; half of what it misses it takes for something else.
    """
    worse = _recall_lost(discordance, drop)
    gold = generator.poisson(ENTITIES, (runs, n))
    found, wrong = generator.binomial(gold, RECALL), generator.poisson(SPURIOUS, (runs, n))
    refound = generator.binomial(gold, RECALL * (1 - worse))
    rewrong = generator.poisson(SPURIOUS + 0.5 * worse * RECALL * gold)
    changed = generator.random((runs, n)) < discordance
    after, amiss = np.where(changed, refound, found), np.where(changed, rewrong, wrong)
    return np.stack([found, wrong, gold - found], 2), np.stack([after, amiss, gold - after], 2)


def _recall_lost(discordance: float, drop: float) -> float:
    def f1(lost: float) -> float:
        found = ENTITIES * RECALL * (1 - lost)
        return 2 * found / (found + ENTITIES + SPURIOUS + 0.5 * lost * RECALL * ENTITIES)

    low, high = 0.0, discordance
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if f1(0) - f1(middle) < drop else (low, middle)
    return low / discordance


# What the verdicts say -----------------------------------------------------------------------------------------------


def score_limits(lost, gained, n: int, margin: float, alpha: float = ALPHA) -> Decisions:
    """Tango's interval of (runs,) counts."""
    statistic, z = corrected_statistic(lost, gained, n, margin), normal_quantile(1 - alpha)
    drop, least = (lost - gained) / n, resolution(n, alpha)
    return Decisions((statistic <= -z) & (drop + least <= margin), (statistic > z) & (drop - least > margin))


def clustered_limits(lost, gained, sizes, margin: float, alpha: float = ALPHA) -> Decisions:
    """Tango's interval with a design effect, of (runs, clusters) counts."""
    n, clusters = np.sum(sizes), effective_clusters(sizes)
    effect = design_effect(lost - gained, sizes, (lost + gained).sum(axis=1))
    lost, gained = lost.sum(axis=1), gained.sum(axis=1)
    statistic = corrected_statistic(lost / effect, gained / effect, n / effect, margin)
    drop, least, t = (lost - gained) / n, resolution(clusters, alpha), t_quantile(1 - alpha, clusters - 1)
    return Decisions((statistic <= -t) & (drop + least <= margin), (statistic > t) & (drop - least > margin))


def studentized_limits(
    contrast: Contrast, margin: float, alpha: float = ALPHA, resamples: int = 999, step: float | None = None
) -> Decisions:
    """The studentized bootstrap of (clusters, ratios, runs) tables; a mean of single items also has its coins.

    `step` is the correction for a retained share, which has no coins.
    """
    runs, clusters = contrast.numerators.shape[2], len(contrast.numerators)
    passed, beyond = [], []
    least, student = resolution(clusters, alpha), t_quantile(1 - alpha, clusters - 1)
    for start in range(0, runs, CHUNK):
        part = Contrast(*(table[..., start : start + CHUNK] for table in contrast[:2]), contrast.weights)
        low, high = pivot_quantiles(part, alpha, seed=start, resamples=resamples)
        error = standard_error(part)
        ratio = part.numerators.sum(axis=0) / part.denominators.sum(axis=0)
        drop = np.einsum("k,kr->r", part.weights, ratio)
        above, below = error * np.maximum(-low, student), error * np.maximum(high, student)
        above, below = (np.where(error > 0, reach, 0.0) + (step or 0.0) for reach in (above, below))
        inside, outside = drop + above <= margin, drop - below > margin
        if step is None and part.numerators.shape[1] == 1:
            d = part.numerators[:, 0]
            bounded = score_limits(np.maximum(d, 0).sum(0), np.maximum(-d, 0).sum(0), clusters, margin, alpha)
            inside, outside = inside | bounded.passed, outside | bounded.beyond
        passed.append(inside & (drop + least <= margin))
        beyond.append(outside & (drop - least > margin))
    return Decisions(np.concatenate(passed), np.concatenate(beyond))


def mean_contrast(drops: np.ndarray) -> Contrast:
    """(runs, n) drops of items."""
    numbers = drops.T[:, None]
    return Contrast(numbers, np.ones_like(numbers), np.ones(1))


def f1_contrast(base: np.ndarray, edited: np.ndarray) -> Contrast:
    """(runs, n, 3) counts."""
    first, second = as_ratios(base.astype(float)), as_ratios(edited.astype(float))  # (runs, n, 2)
    tables = (np.stack([first[..., k], second[..., k]], axis=2).transpose(1, 2, 0) for k in range(2))
    return Contrast(*tables, np.array([1.0, -1.0]))


def bets(sums: np.ndarray, sizes, margin: float, alpha: float, reach=(1.0, 1.0)) -> tuple[Decisions, np.ndarray]:
    """Bets on (runs, clusters) sums of drops, in this order; and how many clusters each run needed.

    `reach` is how far below and above 0 a drop may be.
    """
    sizes = np.asarray(sizes, dtype=float)
    largest, clusters = int(sizes.max()), len(sizes)
    passed, beyond, needed = [], [], []
    for start in range(0, len(sums), CHUNK):
        numbers = units(sums[start : start + CHUNK], sizes, margin, largest)
        within, harm = Wealth(reach[1] - margin), Wealth(reach[0] + margin)
        stop = np.full(len(numbers), clusters)
        for place in range(0, clusters, 32):  # looks only say when; `highest` has every item
            for wealth, sign in ((within, -1), (harm, 1)):
                wealth.bet(sign * numbers[:, place : place + 32])
            done = np.maximum(within.highest, harm.highest) >= -np.log(alpha)
            stop = np.where(done, np.minimum(stop, place + 32), stop)
        passed.append(within.highest >= -np.log(alpha))
        beyond.append(harm.highest >= -np.log(alpha))
        needed.append(np.minimum(stop, clusters))
    return Decisions(np.concatenate(passed), np.concatenate(beyond)), np.concatenate(needed)


def looks(contrast: Contrast, margin: float, alpha: float, resamples: int = 999) -> Decisions:
    """The fixed looks at a corpus metric before its last item, for (clusters, ratios, runs) tables."""
    clusters = len(contrast.numerators)
    found = Decisions(*np.zeros((2, contrast.numerators.shape[2]), dtype=bool))
    for look in LOOKS:
        seen = int(np.ceil(look * clusters))
        if seen >= 50:
            part = Contrast(contrast.numerators[:seen], contrast.denominators[:seen], contrast.weights)
            found = found | studentized_limits(part, margin, alpha / len(LOOKS), resamples)
    return found


EARLY, LATE = ALPHA * EARLY_SHARE, ALPHA * (1 - EARLY_SHARE)


def shared_scores(generator, runs: int, n: int, *, right: float, floor: float, share: float, mended: float):
    """Two (runs, n) tables of 0/1 scores: the edited model retains exactly `share` of what is above the floor.

    A share `right` of the base answers is right; of the wrong ones, `mended` are right after the edit.
    """
    lost = (right - (floor + share * (right - floor)) + mended * (1 - right)) / right
    base = generator.random((runs, n)) < right
    chance = generator.random((runs, n))
    edited = np.where(base, chance >= lost, chance < mended)
    return base.astype(float), edited.astype(float)


def retained_limits(base, edited, *, floor: float, share: float, alpha: float = ALPHA, resamples: int = 999):
    """The decisions of `judge` for a retained share, of (runs, n) scores."""
    kept = mean_contrast(share * base - edited + (1 - share) * floor)
    return studentized_limits(kept, 0.0, alpha, resamples, step=0.2 / base.shape[1])
