"""Verdicts of a run that may stop early, with the error control of a verdict on all items.

    rule = stopping_rule(clusters, block=32)
    judge = SequentialVerdict(margin=0.05, floor=0.5, rule=rule)
    order = np.concatenate(visiting_order(clusters, seed=0))
    ...                                # the next `judge.further` items or more, whole clusters, until that is 0
    judge.add(base[some], edited[some], [clusters[k] for k in some])
    verdict = judge.verdict()

Three hypotheses are tested: that the drop is at least the margin (rejected: PASS), that it is at most the margin
(rejected: FAIL), and that the base model is at its floor (not rejected: always INCONCLUSIVE).

Error control. Half of alpha is spent on the looks, the rest on the interval of all items, which is computed only if no
look gives a verdict. By the union bound a wrong PASS has a probability of at most alpha, and so has a wrong FAIL, for
any number of looks. PASS needs two rejections (of the drop and of the floor), each at that level: as in an
intersection-union test, alpha is not split between them.

- Scores that are means: betting (`audit.verdicts.betting`), valid at every look and for every sample size.
- Scores whose items have floors: the same, with bets on share * base + (1 - share) * floor - edited, which lies between
  -1 and 1, and on floor - base in place of the base score alone.
- Corpus metrics (F1) and the AUC of log-odds are not means of items, and a bet on their linear part is not exact: the
  stakes would depend on totals that are known only at the end. They have three looks, after 1/8, 1/4 and 1/2 of the
  clusters, with a studentized interval each; the placements of an AUC are those among the items so far. The looks share
  their alpha, most of it late, where a PASS is possible.

An early FAIL has only ground 1 (`audit.verdicts.verdict`), a lower limit beyond the margin; ground 2 needs all items.

Cost: a run without an early verdict ends with limits at 1 - alpha / 2, about a fifth wider. If the drop is far from the
margin this changes no verdict; if it is close, up to 13 of 100 simulated runs end INCONCLUSIVE that would have a
verdict at alpha (benchmarks/results/verdict-error-rates.md, part cost).

The p-value of harm (`audit.verdicts.alarm`) is split in the same way. After an early verdict by bets it is one over the
highest wealth of the bet against "no harm", divided by the looks' share s; after an early verdict of a corpus
metric, the p-value of that look divided by its share; after all items, the usual p-value divided by 1 - s. In all cases

    P(p <= a) <= P(E reaches 1 / (s a)) + P(fixed p <= (1 - s) a) <= s a + (1 - s) a = a,    for every a.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from audit.verdicts import Outcome, StoppingRule, Verdict
from audit.verdicts.alarm import harm_p_value
from audit.verdicts.betting import Against, Counted, anytime_upper
from audit.verdicts.intervals import Codes, Floats, cluster_codes, cluster_sums
from audit.verdicts.margins import Margin, margin_of
from audit.verdicts.placements import odds_of
from audit.verdicts.verdict import judge

EARLY_SHARE = 0.5  # of alpha, spent before the last item
# Looks at corpus metrics: the share of the clusters, and of the looks' alpha. With a margin of 0.05 and no change, a
# PASS is possible at 1/4 of 400 sentences or 1/2 of 200; harm can be found at any look.
LOOKS = {1 / 8: 0.1, 1 / 4: 0.3, 1 / 2: 0.6}
LARGEST_STEP = 2  # before the next look, at most this many times the items asked so far
HEIGHT = 0.25  # of a base score above its floor, as a first guess; it only decides how clusters are counted
FEWEST = 50  # clusters at a look; a bootstrap of fewer has no reliable tails of 0.3 %


def stopping_rule(clusters: Sequence[str], block: int) -> StoppingRule:
    """The rule of a run over items of these `clusters` (one name an item), with `block` items or more between looks."""
    sizes = Counter(Counter(clusters).values())
    return StoppingRule(tuple(sizes[size] for size in range(1, max(sizes, default=0) + 1)), block)


def looks_of(clusters: int) -> list[tuple[float, float]]:
    """(clusters seen, share of the looks' alpha) of each look; one that is too small leaves its share to the next."""
    looks, left = [], 0.0
    for part, share in LOOKS.items():
        left += share
        if part * clusters >= FEWEST:
            looks.append((part * clusters, left))
            left = 0.0
    return looks


class SequentialVerdict:
    """A verdict on blocks of whole clusters, added in the order of `visiting_order`.

    margin   score points, or a `Margin`
    floor    of all items that may be asked, known before the run. Any number, where `add` is given floors or odds
    rule     how many these are, and in which clusters
    alpha    the probability of a wrong PASS, and of a wrong FAIL, for any number of looks
    """

    def __init__(
        self, margin: float | Margin, floor: float, rule: StoppingRule, *, alpha: float = 0.05, seed: int = 0
    ) -> None:
        self._margin, self._floor, self._rule, self._seed = margin_of(margin), floor, rule, seed
        self._looks = looks_of(rule.clusters)
        self._early, self._late = alpha * EARLY_SHARE, alpha * (1 - EARLY_SHARE)
        self._alpha_of_look = self._early * LOOKS[1 / 8]
        self._bets_on_floors(False)
        self._base: list[float] = []
        self._edited: list[float] = []
        self._clusters: list[str] = []
        self._floors: list[float] = []
        self._counts: tuple[list[ArrayLike], list[ArrayLike]] = ([], [])
        self._odds: tuple[list[ArrayLike], list[ArrayLike], list[bool]] = ([], [], [])
        self._seen: set[str] = set()
        self._settled: Verdict | None = None

    def add(
        self,
        base: Sequence[float] | Floats,
        edited: Sequence[float] | Floats,
        clusters: Sequence[str] | None = None,
        base_counts: ArrayLike | None = None,
        edited_counts: ArrayLike | None = None,
        *,
        floors: Sequence[float] | Floats | None = None,
        base_odds: ArrayLike | None = None,
        edited_odds: ArrayLike | None = None,
        positives: ArrayLike | None = None,
    ) -> Outcome | None:
        """Add the next block, arrays as `judge` takes them; return PASS or FAIL once there is a verdict, else None.

        All blocks have counts, floors or odds, or none has. Raises `ValueError` for a cluster that an earlier block
        had, one larger than those of the rule, and for a block without what earlier ones had.
        """
        before, after = np.asarray(base, dtype=np.float64), np.asarray(edited, dtype=np.float64)
        start = len(self._base)
        keys = [f"item {start + k}" for k in range(len(before))] if clusters is None else list(map(str, clusters))
        if not len(before) == len(after) == len(keys):
            raise ValueError(f"{len(before)} base scores, {len(after)} edited scores, {len(keys)} cluster keys")
        names, codes, sizes = np.unique(np.asarray(keys, dtype=str), return_inverse=True, return_counts=True)
        if again := self._seen.intersection(names.tolist()):
            raise ValueError(f"cluster {min(again)!r} is in two blocks; add whole clusters (visiting_order)")
        largest = len(self._rule.clusters_by_size)
        if len(before) and sizes.max() > largest:
            raise ValueError(f"a cluster of {sizes.max()} items; the largest of the stopping rule has {largest}")
        self._seen.update(names.tolist())
        self._base += before.tolist()
        self._edited += after.tolist()
        self._clusters += keys
        if base_counts is not None and edited_counts is not None:
            self._counts[0].extend(np.asarray(base_counts))
            self._counts[1].extend(np.asarray(edited_counts))
        if (odds := odds_of(base_odds, edited_odds, positives, len(before))) is not None:
            self._odds[0].extend(odds[0])
            self._odds[1].extend(odds[1])
            self._odds[2].extend(odds[2].tolist())
        if floors is not None:
            if not self._floors:
                self._bets_on_floors(True)
            self._floors += np.asarray(floors, dtype=np.float64).tolist()
        if any(len(given) not in (0, len(self._base)) for given in (self._counts[0], self._floors, self._odds[2])):
            raise ValueError("counts, floors or odds of some items only; give them with every block, for every item")
        if self._settled is None and len(before):
            beneath = np.array(self._floors[start:]) if self._floors else None
            self._settled = self._look() if self._has_looks else self._bet(before, after, beneath, codes)
        return None if self._settled is None else self._settled.outcome

    @property
    def _has_looks(self) -> bool:
        """Whether the score is no mean of items, so that there are no bets on it."""
        return bool(self._counts[0] or self._odds[2])

    def _bets_on_floors(self, floors: bool) -> None:
        """Prepare the bets, on scores whose items have `floors` or not."""
        self._kept, self._shift = self._margin.line(0.0 if floors else self._floor)
        self._highest = 1.0 if floors else self._kept  # of kept * base + (1 - kept) * floors - edited
        unchanged = (self._kept - 1) * HEIGHT if floors else self._kept - 1  # what to expect of an unchanged model
        self._counted = Counted.of(self._rule.clusters_by_size, self._shift, self._highest, unchanged)
        self._within = Against(self._shift, self._highest, self._counted)
        self._beyond = Against(-self._shift, 1.0, self._counted)
        self._able = Against(0.0, 1.0, self._counted) if floors else Against(-self._floor, 0.0, self._counted)
        self._unharmed = Against(0.0, 1.0, self._counted)

    @property
    def further(self) -> int:
        """How many further items to ask before the next look; 0 after a verdict, or if none are left.

        At least a block, at most `LARGEST_STEP` times the items so far; in between, the fewest after which PASS is
        possible if no further answer changes, or FAIL if the drop stays as it is. The number may depend on all answers
        so far, since it is fixed before the next ones. For a corpus metric or an AUC: up to its next look.
        """
        seen, left = len(self._base), self._rule.items - len(self._base)
        if self._settled is not None or not left:
            return 0
        if not seen:
            return min(left, self._rule.block)
        clusters = self._rule.clusters - len(self._seen)
        if self._has_looks:
            wanted = min((math.ceil(at) for at, _ in self._looks), default=self._rule.clusters) - len(self._seen)
        else:
            enough = -math.log(self._early)
            able = self._able.clusters_to(enough, None, clusters)
            mean = (self._kept - 1) * (sum(self._base) - sum(self._floors)) / seen  # if no answer changes
            unchanged = self._within.clusters_to(enough, mean, clusters)
            wanted = max(able, min(unchanged, self._beyond.clusters_to(enough, None, clusters)))
        items = math.ceil(wanted * self._rule.items / self._rule.clusters)
        if not self._has_looks:
            items = min(items, LARGEST_STEP * seen)
        return min(left, max(self._rule.block, items))

    def verdict(self) -> Verdict:
        """The early verdict if there is one; else that of all items, at the alpha that is left.

        INCONCLUSIVE if there is no early verdict and not all items were added.
        """
        if self._settled is not None:
            return self._settled
        if len(self._base) >= self._rule.items:
            return self._judged(self._late)
        if self._has_looks:
            found = self._judged(self._alpha_of_look)
            return replace(found, outcome=Outcome.INCONCLUSIVE, more_items=None)
        return self._early_verdict(Outcome.INCONCLUSIVE)

    def harm_p_value(self) -> float | None:
        """The p-value of "the edited model is worse", valid with early stopping (as above).

        None for a corpus metric or an AUC that stopped between its looks.
        """
        if len(self._base) < self._rule.items and not self._has_looks:
            return min(1.0, math.exp(-float(self._unharmed.wealth.highest)) / EARLY_SHARE)
        share = 1 - EARLY_SHARE
        if len(self._base) < self._rule.items:
            if self._settled is None:
                return None
            share = EARLY_SHARE * self._alpha_of_look / self._early
        return min(1.0, harm_p_value(**self._answers()) / share)

    def _bet(self, before: Floats, after: Floats, floors: Floats | None, codes: Codes) -> Verdict | None:
        sizes = cluster_sums(np.ones(len(codes)), codes)  # (clusters of this block,)
        first, second = cluster_sums(before, codes), cluster_sums(after, codes)
        line, apart = self._kept * first, -first
        if floors is not None:
            least = cluster_sums(floors, codes)
            line, apart = line + (1 - self._kept) * least, least - first
        self._within.bet(line - second, sizes)
        self._beyond.bet(second - line, sizes)
        self._able.bet(apart, sizes)
        self._unharmed.bet(second - first, sizes)
        enough = -math.log(self._early)
        if self._able.wealth.now < enough:
            return None
        if self._within.wealth.now >= enough:
            return self._early_verdict(Outcome.PASS)
        return self._early_verdict(Outcome.FAIL) if self._beyond.wealth.now >= enough else None

    def _look(self) -> Verdict | None:
        due = [share for clusters, share in self._looks if len(self._seen) >= clusters]
        if not due or len(self._base) >= self._rule.items:
            return None
        self._looks = self._looks[len(due) :]
        self._alpha_of_look = self._early * sum(due)
        found = self._judged(self._alpha_of_look)
        within, beyond = found.outcome is Outcome.PASS, found.outcome is Outcome.FAIL and found.lower > found.margin
        return found if within or beyond else None

    def _judged(self, alpha: float) -> Verdict:
        return judge(**self._answers(), margin=self._margin, floor=self._floor, alpha=alpha)

    def _answers(self) -> dict[str, Any]:
        """The arguments that `judge` and `harm_p_value` share."""
        base_counts, edited_counts = (np.asarray(table) if table else None for table in self._counts)
        scores = {"base": self._base, "edited": self._edited, "clusters": self._clusters, "seed": self._seed}
        base_odds, edited_odds, positives = (np.asarray(table) if table else None for table in self._odds)
        odds = {"base_odds": base_odds, "edited_odds": edited_odds, "positives": positives}
        return (
            scores | odds | {"base_counts": base_counts, "edited_counts": edited_counts, "floors": self._floors or None}
        )

    def _early_verdict(self, outcome: Outcome) -> Verdict:
        base, edited = np.array(self._base), np.array(self._edited)
        score, drop, n = float(base.mean()), float((base - edited).mean()), len(base)
        line, apart, floor, highest = self._kept * base, -base, self._floor, 0.0
        if self._floors:
            floors = np.array(self._floors)
            line, apart, floor, highest = line + (1 - self._kept) * floors, floors - base, float(floors.mean()), 1.0
        points = self._margin.at(score, floor)
        codes = cluster_codes(self._clusters, n)
        sizes = cluster_sums(np.ones(len(codes)), codes)
        sums = cluster_sums(line - edited, codes)
        moved = points - self._shift  # from the mean of line - edited to a drop against the margin
        upper = anytime_upper(sums, sizes, self._counted, self._early, self._highest) + moved
        lower = -anytime_upper(-sums, sizes, self._counted, self._early) + moved
        base_lower = -anytime_upper(cluster_sums(apart, codes), sizes, self._counted, self._early, highest)
        base_lower = max(0.0, base_lower + floor if self._floors else base_lower)
        able = self._floors and base_lower > floor
        return Verdict(
            outcome=outcome,
            base=score,
            edited=float(edited.mean()),
            drop=drop,
            lower=max(-1.0, min(lower, drop)),
            upper=min(1.0, max(upper, drop)),
            margin=points,
            n=n,
            floor=floor,
            clusters=len(sizes),
            method="betting",
            right_to_wrong=int((edited < base).sum()),
            wrong_to_right=int((edited > base).sum()),
            base_lower=base_lower,
            confidence=1 - self._early,
            kept=(float(edited.mean()) - floor) / (score - floor) if able else None,
        )
