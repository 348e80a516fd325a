"""What is expected of the answers of a run before it asks any: how many change, and by how much."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from audit.abilities.contract import Ability, Item, is_graded
from audit.reports.workflows.preflight import POWER
from audit.verdicts.intervals import Floats
from audit.verdicts.margins import Margin, Retained
from audit.verdicts.power import Power, power_of
from audit.verdicts.rehearsal import Design, rehearse
from audit.workflows.past_runs import PastVerdict

ASSUMED_CHANGES = 0.10  # share of answers that change, without a past run
ASSUMED_CHANGE = 0.3  # score points by which a changed graded score moves (root mean square)
ASSUMED_CHANGE_OF_ENTITIES = 0.5  # the same for the F1 of a sentence
ASSUMED_CHANGE_OF_LIKELIHOOD = 0.02  # the same for a likelihood, which moves at every item
REHEARSED = 1_000  # simulated runs for each number of items
SMALLEST_LOSS = 0.05  # score points that a broken answer is assumed to lose at least, where the base score is near 0
ENOUGH_MOVES = 10  # changed scores in a past run that are enough to estimate their size


@dataclass(frozen=True)
class Sample:
    """The items of an ability that a run would ask, with their weights in a corpus metric.

    `weights` (n,) are what the items add to the denominator of a corpus metric; None where the score is a mean.
    """

    ability: Ability
    items: Sequence[Item]
    weights: tuple[float, ...] | None

    @classmethod
    def of(cls, ability: Ability, drawn: Sequence[Item]) -> "Sample":
        """The sample of the drawn items; the weights come from the counts of their right answers."""
        if ability.decoding is None or is_graded(ability):
            return cls(ability, drawn, None)
        counts = np.array(
            [ability.score(one, ability.parse(ability.gold_answer(one))).counts for one in drawn], dtype=float
        )
        return cls(ability, drawn, _weights(counts) if counts.shape[1] else None)

    @property
    def whole(self) -> bool:
        """Whether each item is right or wrong and the score is their mean."""
        if self.weights is not None:
            return False
        return self.ability.reading != "likelihood" and not (is_graded(self.ability) and self.ability.scorer is None)

    @property
    def likelihood(self) -> bool:
        """Whether the items are read by likelihood."""
        return self.weights is None and self.ability.reading == "likelihood"

    def repeated(self, n: int) -> tuple[tuple[str, ...] | None, tuple[float, ...] | None]:
        """Clusters and weights of `n` items like these; the pattern repeats beyond the items of the sample."""
        rounds = math.ceil(n / len(self.items))
        clusters = tuple(f"{item.cluster} {again}" for again in range(rounds) for item in self.items)[:n]
        weights = None if self.weights is None or not any(self.weights) else (self.weights * rounds)[:n]
        return (clusters if len(set(clusters)) < n else None), weights


@dataclass(frozen=True)
class Expectation:
    """What is expected of the answers: the share of scores that change, and by how much (as `Design` takes it).

    `whole`: the verdict is decided by the numbers of right answers lost and gained. `loss` is what an item loses that a
    true drop breaks: the base score, all that it has, since a run without a drop does not show how large losses are.
    `alpha` is the level of the verdict on all items. For a margin that is a share to retain, the paired value is
    share * base - edited: in simulations with 200 items, the smallest margins found for it pass in 80 to 87 % of runs.
    """

    sample: Sample
    changes: float
    change: float | tuple[float, ...]
    whole: bool
    alpha: float
    loss: float | None = None

    @classmethod
    def of(cls, sample: Sample, past: PastVerdict | None, margin: Margin, alpha: float) -> "Expectation":
        """The expectation from a past verdict, or from assumed values if `past` is None or changed too little."""
        changes = ASSUMED_CHANGES if past is None else past.changes
        if sample.likelihood:  # every likelihood moves a little
            moves = () if past is None else past.moves
            sizes = moves if len(moves) >= ENOUGH_MOVES else ASSUMED_CHANGE_OF_LIKELIHOOD
            return cls(sample, 1.0 if past is None else changes, sizes, False, alpha, SMALLEST_LOSS)
        if sample.whole and isinstance(margin, Retained):
            # share * base - edited varies with the base answers as well, by (1 - share)^2 base (1 - base).
            varies = 0.25 if past is None else past.row.verdict.base * (1 - past.row.verdict.base)
            return cls(sample, min(1.0, changes + (1 - margin.share) ** 2 * varies), 1.0, False, alpha)
        if sample.whole:
            return cls(sample, changes, 1.0, True, alpha)
        if sample.weights is None:
            moves, assumed = () if past is None else past.moves, ASSUMED_CHANGE
        else:  # the score of one sentence does not say by how much it moves the score of all
            moves, assumed = () if past is None else past.corpus_moves, ASSUMED_CHANGE_OF_ENTITIES
            if past is not None and moves:  # an item can change its counts, and so the metric, at the same score
                changes = len(moves) / past.row.verdict.n
        loss = 1.0 if past is None else max(SMALLEST_LOSS, past.row.verdict.base)
        return cls(sample, changes, moves if len(moves) >= ENOUGH_MOVES else assumed, False, alpha, loss)

    def power(self, n: int) -> Power:
        """The smallest drop and margin that `n` items like these could detect and certify."""
        clusters, weights = self.sample.repeated(n)
        return power_of(
            n,
            self.changes,
            binary=self.whole,
            change=self.change,
            clusters=clusters,
            corpus_weights=weights,
            loss=self.loss,
            power=POWER,
            alpha=self.alpha,
        )

    def certifies(self, n: int, margin: float) -> bool:
        """Whether `n` items like these could certify a margin in score points."""
        return rehearse(self.design(n), alpha=self.alpha, runs=REHEARSED).certify(margin) >= POWER

    def design(self, n: int) -> Design:
        """The expected changes of `n` items like these."""
        clusters, weights = self.sample.repeated(n)
        return Design(n, self.changes, self.change, self.whole, clusters, weights=weights, loss=self.loss)


def _weights(counts: Floats) -> tuple[float, ...]:
    """(n,) what each item adds to the denominator of its corpus metric, from the (n, counts) of right answers."""
    if counts.shape[1] == 3:  # true positives, false positives, misses; the gold entities are the first and the last
        return tuple((counts[:, 0] + counts[:, 2]).tolist())
    gold = counts[:, 1::2]  # (n, classes); every class has the same total weight, whatever its number of items
    return tuple((gold / np.maximum(gold.sum(0), 1)).sum(1).tolist())
