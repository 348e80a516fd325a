"""Simulated answers whose true drop is exactly the margin, and what the verdicts make of many runs of them at once.

Shared by the quick tests beside this file and by `benchmarks/verdict_error_rates.py`, which runs them 10,000 times.
Decisions are those of `judge` and `SequentialVerdict`, from the same functions, over a last or first axis of runs;
`test_the_fast_decisions_are_those_of_the_verdicts` holds them together.
"""

from functools import cache
from typing import NamedTuple

import numpy as np

from audit.verdicts.betting import Against, Counted
from audit.verdicts.bootstrap import Changes, Contrast, as_ratios, influences, pivot_quantiles, standard_error
from audit.verdicts.intervals import (
    corrected_statistic,
    design_effect,
    effective_clusters,
    normal_quantile,
    paired_limits,
    resolution,
    t_quantile,
)
from audit.verdicts.sequential import EARLY_SHARE, looks_of

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


SMALL = {  # changes with mean 0 and a standard deviation of 0.02, of every item or of a fifth of them
    "normal": lambda generator, shape: 0.02 * generator.standard_normal(shape),
    "skewed": lambda generator, shape: 0.02 * (generator.exponential(size=shape) - 1),
    "heavy": lambda generator, shape: np.clip(0.02 / 3**0.5 * generator.standard_t(3, size=shape), -1, 1),
    "fifth": lambda generator, shape: np.where(
        generator.random(shape) < 0.2, 0.02 * 5**0.5 * generator.standard_normal(shape), 0.0
    ),
    "none": lambda generator, shape: np.zeros(shape),
}


def small_drops(generator, shape, kind: str, drop: float = 0.0, rare: float = 0.0, loss=(0.0, 0.0)) -> np.ndarray:
    """Drops whose mean is `drop` + `rare` (mean loss - `drop`): small changes, and a share `rare` that loses a lot.

    What the rare items lose is spread evenly between the two numbers `loss` (negative: they gain).
    """
    small = SMALL[kind](generator, shape)
    small = np.where(small != 0, small + drop / (0.2 if kind == "fifth" else 1.0), 0.0)
    return np.where(generator.random(shape) < rare, generator.uniform(*loss, shape), small)


def clustered_small_drops(generator, runs: int, sizes, kind: str, together: float, drop=0.0, rare=0.0, loss=(0.0, 0.0)):
    """(runs, clusters) sums of `small_drops`: a small change is shared with chance `together`, a rare loss always."""
    shape, sums = (runs, len(sizes)), np.zeros((runs, len(sizes)))
    common, broken = small_drops(generator, shape, kind, drop), generator.random(shape) < rare
    for place in range(max(sizes)):
        own = small_drops(generator, shape, kind, drop)
        change = np.where(generator.random(shape) < together, common, own)
        change = np.where(broken, generator.uniform(*loss, shape), change)
        sums += change * (np.asarray(sizes) > place)
    return sums


def leaning_drops(generator, runs: int, n: int, discordance: float, drop: float, sizes) -> np.ndarray:
    """(runs, n) drops, of which a share `discordance` is of `sizes(shape)`, and as many of them losses as it takes."""
    points = sizes((runs, n))
    discordance = max(discordance, drop / points.mean())
    lost = generator.random((runs, n)) < (1 + drop / (discordance * points.mean())) / 2
    return np.where(generator.random((runs, n)) < discordance, np.where(lost, points, -points), 0.0)


RECALL, SPURIOUS, ENTITIES = 0.85, 0.2, 1.7  # of the base model, by entity and by sentence


def entity_counts(generator, runs: int, n: int, discordance: float, drop: float, gold=None):
    """Two (runs, n, 3) tables of (true positives, false positives, misses) whose corpus F1s differ by `drop`.

    A changed sentence is written anew, with a lower recall; half of what it misses it takes for something else. `gold`:
    (n,) entities of sentences that all runs share.
    """
    worse = _recall_lost(discordance, drop)
    gold = generator.poisson(ENTITIES, (runs, n)) if gold is None else np.tile(gold, (runs, 1))
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
    contrast: Contrast,
    margin: float,
    alpha: float = ALPHA,
    resamples: int = 999,
    together: int = CHUNK,
    height: np.ndarray | float = 1.0,
) -> Decisions:
    """The studentized bootstrap of (clusters, ratios, runs) tables, and its coins.

    So many runs `together` share their resamples. `height`: (runs,) as in `Changes`.
    """
    return reached(contrast, studentized_reach(contrast, alpha, resamples, together, height), margin, alpha)


class Reach(NamedTuple):
    """(runs,) drops, how far the bootstrap's limits lie from them, how near they may be, and how far they are moved."""

    drop: np.ndarray
    above: np.ndarray
    below: np.ndarray
    least_above: np.ndarray
    least_below: np.ndarray
    step: np.ndarray


def studentized_reach(
    contrast: Contrast,
    alpha: float = ALPHA,
    resamples: int = 999,
    together: int = CHUNK,
    height: np.ndarray | float = 1.0,
) -> Reach:
    """The bootstrap's part, which no margin changes; so many runs `together` share their resamples."""
    clusters, (changed, largest), parts = len(contrast.numerators), changes(contrast), []
    for start in range(0, contrast.numerators.shape[2], together):
        part = Contrast(*(table[..., start : start + together] for table in contrast[:2]), contrast.weights)
        low, high = pivot_quantiles(part, alpha, seed=start, resamples=resamples)
        error = standard_error(part)
        drop = np.einsum("k,kr->r", part.weights, part.numerators.sum(axis=0) / part.denominators.sum(axis=0))
        student = np.array([_student(alpha, int(count)) for count in changed[start : start + together]])
        with np.errstate(invalid="ignore"):  # 0 times an infinite quantile, where nothing changed
            above, below = error * np.maximum(-low, student), error * np.maximum(high, student)
        parts.append((drop, *(np.where(error > 0, reach, 0.0) for reach in (above, below))))
    seen = [Changes(*one) for one in zip(changed, largest, np.broadcast_to(height, changed.shape), strict=True)]
    nearest = np.array([one.unseen(clusters, alpha) for one in seen])[:, ::-1].T
    step = np.array([one.step for one in seen]) / clusters
    return Reach(*(np.concatenate(column) for column in zip(*parts, strict=True)), *nearest, step)


@cache
def _student(alpha: float, carriers: int) -> float:
    return t_quantile(1 - alpha, carriers - 1)


def changes(contrast: Contrast) -> tuple[np.ndarray, np.ndarray]:
    """(runs,) numbers of clusters that changed, and the largest change: `changes_of` for tables of runs."""
    u, v, _ = contrast
    changed = (u[:, 0] != 0) if u.shape[1] == 1 else (u[:, 0] != u[:, 1]) | (v[:, 0] != v[:, 1])  # (clusters, runs)
    shares = shares_of_drop(contrast)
    return changed.sum(axis=0), len(u) * np.where(changed, np.abs(shares), 0.0).max(axis=0)


def height_of(base: np.ndarray) -> np.ndarray:
    """(runs,) mean base scores, weighted by base score; of (runs, n) scores."""
    return np.asarray((base * base).sum(axis=1) / base.sum(axis=1))


def f1_height_of(counts: np.ndarray) -> np.ndarray:
    """The same of (runs, n, 3) counts of sentences."""
    above, below = np.moveaxis(as_ratios(counts.astype(float)), -1, 0)  # (runs, n) each
    return np.asarray((above * above / np.maximum(below, 1)).sum(axis=1) / above.sum(axis=1))


def shares_of_drop(contrast: Contrast) -> np.ndarray:
    """(clusters, runs) what each cluster contributes to the drop."""
    u, v, a = contrast
    drop, reach = np.einsum("k,kr->r", a, u.sum(axis=0) / v.sum(axis=0)), _reach_of_clusters(contrast)
    return influences(contrast) + drop * reach / reach.sum(axis=0)


def _reach_of_clusters(contrast: Contrast) -> np.ndarray:
    return contrast.denominators.max(axis=1) / contrast.denominators.sum(axis=0).min(axis=0)  # (clusters, runs)


def reached(contrast: Contrast, reach: Reach, margin: float, alpha: float = ALPHA, coins: bool = True) -> Decisions:
    """What the bootstrap, the coins and the unseen changes together say of a margin."""
    drop = reach.drop
    inside = drop + reach.above + reach.step <= margin
    outside = drop - reach.below - reach.step > margin
    if coins:
        bounded = coin_limits(contrast, drop, margin, alpha)
        inside, outside = inside | bounded.passed, outside | bounded.beyond
    return Decisions(inside & (drop + reach.least_above <= margin), outside & (drop - reach.least_below > margin))


def coin_limits(contrast: Contrast, drop: np.ndarray, margin: float, alpha: float) -> Decisions:
    """`bounded_by_coins` of a mean or of one F1, whose shares of the drop are counted as pairs lost and gained."""
    clusters, shares, unit = len(contrast.denominators), shares_of_drop(contrast), _reach_of_clusters(contrast).max(0)
    lost, gained = np.maximum(shares, 0).sum(axis=0) / unit, np.maximum(-shares, 0).sum(axis=0) / unit
    place, fits = margin / (clusters * unit), lost + gained <= clusters
    counted = score_limits(lost, gained, clusters, np.minimum(place, 0.999), alpha)
    return Decisions(fits & (counted.passed | (place >= 1)), fits & counted.beyond & (place < 1))


def mean_contrast(drops: np.ndarray) -> Contrast:
    """(runs, n) drops of items."""
    numbers = drops.T[:, None]
    return Contrast(numbers, np.ones_like(numbers), np.ones(1))


def clustered_contrast(sums: np.ndarray, sizes) -> Contrast:
    """(runs, clusters) sums of drops, and (clusters,) sizes."""
    numbers = sums.T[:, None]
    return Contrast(numbers, np.broadcast_to(np.asarray(sizes, float)[:, None, None], numbers.shape), np.ones(1))


def f1_contrast(base: np.ndarray, edited: np.ndarray) -> Contrast:
    """(runs, n, 3) counts."""
    first, second = as_ratios(base.astype(float)), as_ratios(edited.astype(float))  # (runs, n, 2)
    tables = (np.stack([first[..., k], second[..., k]], axis=2).transpose(1, 2, 0) for k in range(2))
    return Contrast(*tables, np.array([1.0, -1.0]))


def bets(sums: np.ndarray, sizes, margin: float, alpha: float, highest: float = 1.0) -> tuple[Decisions, np.ndarray]:
    """Bets on (runs, clusters) sums of drops of at most `highest`, in this order; and how many clusters each needed."""
    sizes = np.asarray(sizes, dtype=float)
    clusters = len(sizes)
    counted = Counted.of(np.bincount(sizes.astype(int))[1:].tolist(), margin, highest)
    passed, beyond, needed = [], [], []
    for start in range(0, len(sums), CHUNK):
        drops = sums[start : start + CHUNK]
        within, harm = Against(margin, highest, counted), Against(-margin, 1.0, counted)
        stop = np.full(len(drops), clusters)
        for place in range(0, clusters, 32):  # looks only say when; `highest` has every item
            for against, sign in ((within, 1), (harm, -1)):
                against.bet(sign * drops[:, place : place + 32], sizes[place : place + 32])
            done = np.maximum(within.wealth.highest, harm.wealth.highest) >= -np.log(alpha)
            stop = np.where(done, np.minimum(stop, place + 32), stop)
        passed.append(within.wealth.highest >= -np.log(alpha))
        beyond.append(harm.wealth.highest >= -np.log(alpha))
        needed.append(np.minimum(stop, clusters))
    return Decisions(np.concatenate(passed), np.concatenate(beyond)), np.concatenate(needed)


def looks(
    contrast: Contrast, margin: float, alpha: float, resamples: int = 999, height: np.ndarray | float = 1.0
) -> Decisions:
    """The fixed looks at a corpus metric before its last item, for (clusters, ratios, runs) tables."""
    clusters = len(contrast.numerators)
    found = Decisions(*np.zeros((2, contrast.numerators.shape[2]), dtype=bool))
    for look, share in looks_of(clusters):
        seen = int(np.ceil(look))
        part = Contrast(contrast.numerators[:seen], contrast.denominators[:seen], contrast.weights)
        found = found | studentized_limits(part, margin, alpha * share, resamples, height=height)
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
    """The decisions of `judge` for a retained share, of (runs, n) scores that are 0 or 1."""
    n, theta = base.shape[1], (share * base - edited).mean(axis=1) + (1 - share) * floor  # (runs,)
    kept = mean_contrast(share * base - edited + (1 - share) * floor)
    least, step = np.full(len(theta), resolution(n, alpha)), np.full(len(theta), 0.2 / n)  # those of 0/1 scores
    reach = studentized_reach(kept, alpha, resamples)._replace(least_above=least, least_below=least, step=step)
    drawn = reached(kept, reach, 0.0, alpha, coins=False)
    counts = [(base > edited).sum(axis=1), (base < edited).sum(axis=1), base.sum(axis=1)]
    coins = np.array([_coins(*map(int, one), n, share, alpha) for one in zip(*counts, strict=True)])  # (runs, 2)
    below, above = np.maximum(coins, resolution(n, alpha)).T
    return drawn | Decisions(theta + above <= 0, theta - below > 0)


def retained_graded_limits(base, edited, *, floor: float, share: float, alpha: float = ALPHA, resamples: int = 999):
    """The same of (runs, n) graded scores, most of which change: no coins are nearer than the bootstrap."""
    kept, clusters = mean_contrast(share * base - edited + (1 - share) * floor), base.shape[1]
    seen = [Changes(*one) for one in zip(*changes(mean_contrast(base - edited)), height_of(base), strict=True)]
    below, above = np.array([one.unseen(clusters, alpha) for one in seen]).T
    reach = studentized_reach(kept, alpha, resamples)._replace(
        least_above=above, least_below=below, step=np.array([one.step for one in seen]) / clusters
    )
    return reached(kept, reach, 0.0, alpha, coins=False)


@cache
def _coins(lost: int, gained: int, right: int, n: int, share: float, alpha: float) -> tuple[float, float]:
    """How far below and above (base - edited) - (1 - share) base its two score intervals reach, at half of alpha."""
    drop, score = paired_limits(lost, gained, n, alpha / 2), paired_limits(right, 0, n, alpha / 2)
    middle, mean, rest = (lost - gained) / n, right / n, 1 - share
    return middle - drop.lower + rest * (score.upper - mean), drop.upper - middle + rest * (mean - score.lower)
