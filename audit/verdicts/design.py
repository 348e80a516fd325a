"""The expected changes of an ability's items, before the run, and a sample of changed clusters.

    Design(277, discordance=0.1, binary=True)
    Design(200, 0.05, change=0.3, weights=gold_entities)
    drawn_changes(design, drop=0.02, generator)

A changed item moves by `change` points (root mean square), evenly spread: the mean size is 0.87 of the root mean
square. (For changed summaries and entities of the pocket models it was 0.8 to 1.) In a corpus metric entities change
one by one, so a changed sentence moves the score by the root of its weight. Without a drop half of the changes are
losses. With a drop more of them are; if all are losses and the drop is larger still, more items change.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from audit.errors import AuditError
from audit.verdicts.intervals import Codes, Floats, cluster_sums

_DRAWN = 10_000  # changed clusters
_CELLS = 2_000_000  # items drawn for them at most


@dataclass(frozen=True)
class Design:
    """Raises `AuditError` for values out of range.

    items        how many
    discordance  the share of them that is expected to change, either way
    change       the size of a change in points: the root mean square, or what `power.observed_change` returns
    binary       0/1 scores, which change by 1
    clusters     (items,) each item's source, as `judge` takes it
    alike        the correlation of two items of one source (ICC)
    weights      (items,) for a corpus metric: what each adds to its denominator, such as its gold entities
    """

    items: int
    discordance: float
    change: float | tuple[float, ...] = 0.3
    binary: bool = False
    clusters: tuple[str, ...] | None = None
    alike: float = 0.25
    weights: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        if self.items < 1:
            raise AuditError(f"{self.items} items; give at least one")
        for what, given in (("cluster keys", self.clusters), ("weights", self.weights)):
            if given is not None and len(given) != self.items:
                raise AuditError(f"{len(given)} {what} for {self.items} items; give one for every item")
        for what, share in (("discordance", self.discordance), ("likeness", self.alike)):
            if not 0 <= share <= 1:
                raise AuditError(f"a {what} of {share}; give a share from 0 to 1")
        if self.weights is not None and not (min(self.weights) >= 0 and sum(self.weights) > 0):
            raise AuditError("no weights above 0 for a corpus metric; give the gold entities of each sentence")
        changes = np.abs(np.atleast_1d(self.change))
        # Observed changes may be above 1: a large item can move a corpus metric by more than 1 / n.
        highest = math.inf if isinstance(self.change, tuple) else 1.0
        if not (changes.size and np.isfinite(changes).all() and 0 < changes.max() <= highest):
            raise AuditError(f"a change of {self.change} points; give one above 0, at most 1")
        if self.binary and self.weights is not None:
            raise AuditError("0/1 scores of a corpus metric; give either binary or the weights")

    @property
    def exact(self) -> bool:
        """Whether all outcomes can be counted: independent 0/1 scores."""
        return self.binary and (self.clusters is None or len(set(self.clusters)) == self.items)


class ChangedClusters(NamedTuple):
    """A sample of changed clusters, and the sizes of all clusters."""

    share: float  # of the clusters that changes
    chance: Floats  # (drawn,) of each to be drawn
    lost: Floats  # (drawn,) points that the items of a changed cluster lose
    gained: Floats
    sizes: Floats  # (drawn,) its items, or their weights
    every: Floats  # (clusters,) the same of all clusters


def drawn_changes(design: Design, drop: float, generator: np.random.Generator) -> ChangedClusters:
    """Clusters of a design that changed, where the true drop is `drop` >= 0."""
    weights = np.ones(design.items) if design.weights is None else np.asarray(design.weights, dtype=np.float64)
    weights = weights / weights.mean()
    scale = np.ones(design.items) if isinstance(design.change, tuple) else np.sqrt(weights)
    points = np.ones(1) if design.binary else _sizes(design.change)
    discordance, mean = design.discordance, float(points.mean() * scale.mean())
    if drop > discordance * mean:  # more items change, and if all do, by more
        discordance, points = min(1.0, drop / mean), points * max(1.0, drop / mean)
    lean = drop / (discordance * float(points.mean() * scale.mean())) if drop > 0 else 0.0

    def moves(shape: tuple[int, int]) -> Floats:
        signs = np.where(generator.random(shape) < (1 + lean) / 2, 1.0, -1.0)
        return np.asarray(signs * generator.choice(points, shape))

    if design.clusters is None:
        chosen = _evenly(generator, design.items, _DRAWN)
        return _changes(discordance, drop, moves((_DRAWN, 1)) * scale[chosen, None], weights[chosen], weights)

    codes: Codes = np.unique(np.asarray(design.clusters, dtype=str), return_inverse=True)[1]
    sizes, every = np.bincount(codes), cluster_sums(weights, codes)
    largest = int(sizes.max())
    there = np.arange(largest) < sizes[:, None]  # (clusters, items of the largest)
    table = np.zeros((len(sizes), largest))
    table[there] = scale[np.argsort(codes, kind="stable")]

    # An item changes as its source does with probability `bound`; two items both do with its square, `alike`.
    bound = math.sqrt(design.alike)
    alone = (1 - bound) * (1 - discordance)  # an item that does not follow its source, and stays
    stays = (1 - discordance) * (bound + alone) ** sizes + discordance * alone**sizes  # (clusters,)
    share = 1 - float(stays.mean())
    number = 1 + int(min(_DRAWN / max(share, 1e-9), _CELLS / largest))
    chosen, shape = _evenly(generator, len(sizes), number), (number, largest)
    common = moves((number, 1)) * (generator.random((number, 1)) < discordance)
    own = moves(shape) * (generator.random(shape) < discordance)
    moved = np.where(generator.random(shape) < bound, common, own) * table[chosen]
    changed = (moved != 0).any(axis=1)
    return _changes(share, drop, moved[changed], every[chosen[changed]], every)


def _changes(share: float, drop: float, moved: Floats, sizes: Floats, every: Floats) -> ChangedClusters:
    """`moved`: (drawn, items) points. The chances are tilted so that the mean is exactly the drop."""
    if not (share > 0 and len(moved)):  # none changed: one that stays
        return ChangedClusters(0.0, np.ones(1), np.zeros(1), np.zeros(1), every[:1], every)
    sums = moved.sum(axis=1)
    spread = max(float(np.square(sums - sums.mean()).sum()), 1e-300)
    chance = 1 / len(sums) + (drop * every.mean() / share - sums.mean()) * (sums - sums.mean()) / spread
    chance = np.maximum(0.0, chance)
    lost, gained = np.maximum(moved, 0).sum(axis=1), np.maximum(-moved, 0).sum(axis=1)
    return ChangedClusters(share, chance / chance.sum(), lost, gained, sizes, every)


def _evenly(generator: np.random.Generator, clusters: int, number: int) -> Codes:
    """`number` places below `clusters`, each about as often."""
    return generator.permutation(np.resize(np.arange(clusters), -(-number // clusters) * clusters))[:number]


def _sizes(change: float | tuple[float, ...]) -> Floats:
    """The sizes of changes: evenly spread from 0, or up to 1 where that is not enough for `change`."""
    if isinstance(change, tuple):
        return np.abs(np.asarray(change, dtype=np.float64))
    low, high = 0.0, math.sqrt(3) * change
    if high > 1:  # (1 + low + low^2) / 3 = change^2
        low, high = (math.sqrt(12 * change * change - 3) - 1) / 2, 1.0
    return low + (high - low) * (np.arange(1_000) + 0.5) / 1_000
