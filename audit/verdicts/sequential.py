"""A verdict as soon as the answers allow one, with the error of a verdict that waited for all of them.

    judge = SequentialVerdict(margin=0.05, floor=0.5, planned=400, largest_cluster=1)
    for block in visiting_order(clusters, 400, block=32, seed=0):
        if judge.add(base[block], edited[block], [clusters[k] for k in block]) is not None:
            break
    verdict = judge.verdict()

What is tested: that the drop is at least the margin (refuted: PASS), that it is at most the margin (refuted: FAIL), and
that the base model is at its floor (not refuted: INCONCLUSIVE, whatever else).

How the error is kept. alpha is split: a fifth is spent on the looks, the rest on the interval of all items, which is
drawn only if no look settled it. By the union bound a wrong PASS then has probability at most alpha, and so has a wrong
FAIL, for however many looks. PASS needs two refutations, each at that error (of the drop and of the floor): wrong in
either way has probability at most alpha, as in an intersection-union test, so alpha is not split between them.

- Scores that are means: betting (`audit.verdicts.betting`), valid at every look, exactly, for every sample size.
- Corpus metrics (F1) are no means of items, and a bet on their linear part is no exact bet: their stake would rest on
  totals that are known only at the end. They are looked at three times, after 1/8, 1/4 and 1/2 of the clusters, and
  each look gets a third of the looks' alpha: a studentized interval each, its error added up, no independence needed.

An early FAIL says that the drop is beyond the margin. The other ground for FAIL, harm that is certain and estimated
beyond the margin, is kept for the end, where it means what it means without early stopping.
"""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike

from audit.verdicts.betting import Wealth, anytime_upper, units
from audit.verdicts.intervals import Codes, Floats, cluster_sums
from audit.verdicts.margins import Margin, margin_of
from audit.verdicts.outcome import Outcome, Verdict
from audit.verdicts.verdict import judge

EARLY_SHARE = 0.2  # of alpha, spent before the last item
LOOKS = (1 / 8, 1 / 4, 1 / 2)  # of the clusters, for corpus metrics
_FEWEST = 50  # clusters at a look; a bootstrap of fewer is not asked about tails of 0.3 %


class SequentialVerdict:
    """Hand it blocks of whole clusters in the order of `visiting_order`; it answers as soon as it can.

    margin           score points, or a `Margin`
    floor            of all items that may be asked, known before the run
    planned          how many items may be asked; `planned_clusters` how many clusters they form (as many, if None)
    largest_cluster  items in the largest of these clusters
    alpha            the probability of a wrong PASS, and of a wrong FAIL, however often one looks
    """

    def __init__(
        self,
        margin: float | Margin,
        floor: float,
        *,
        planned: int,
        planned_clusters: int | None = None,
        largest_cluster: int = 1,
        alpha: float = 0.05,
        early_share: float = EARLY_SHARE,
        seed: int = 0,
    ) -> None:
        self._margin, self._floor, self._seed = margin_of(margin), floor, seed
        self._planned, self._largest = planned, largest_cluster
        self._looks = [share * (planned if planned_clusters is None else planned_clusters) for share in LOOKS]
        self._early, self._late = alpha * early_share, alpha * (1 - early_share)
        kept, shift = self._margin.line(floor)
        self._within, self._beyond = Wealth(kept - shift), Wealth(1 + shift)
        self._able = Wealth(floor)
        self._base: list[float] = []
        self._edited: list[float] = []
        self._clusters: list[str] = []
        self._counts: tuple[list[ArrayLike], list[ArrayLike]] = ([], [])
        self._seen: set[str] = set()
        self._settled: Verdict | None = None

    def add(
        self,
        base: Sequence[float] | Floats,
        edited: Sequence[float] | Floats,
        clusters: Sequence[str] | None = None,
        base_counts: ArrayLike | None = None,
        edited_counts: ArrayLike | None = None,
    ) -> Outcome | None:
        """Take the next block, arrays as `judge` takes them; PASS or FAIL if that is settled now, else None.

        Raises `ValueError` for a cluster that an earlier block had, or one larger than announced.
        """
        before, after = np.asarray(base, dtype=np.float64), np.asarray(edited, dtype=np.float64)
        start = len(self._base)
        keys = [f"item {start + k}" for k in range(len(before))] if clusters is None else list(map(str, clusters))
        if not len(before) == len(after) == len(keys):
            raise ValueError(f"{len(before)} base scores, {len(after)} edited scores, {len(keys)} cluster keys")
        names, codes, sizes = np.unique(np.asarray(keys, dtype=str), return_inverse=True, return_counts=True)
        if again := self._seen.intersection(names.tolist()):
            raise ValueError(f"cluster {min(again)!r} comes in two blocks; hand over whole clusters (visiting_order)")
        if len(before) and sizes.max() > self._largest:
            raise ValueError(f"a cluster of {sizes.max()} items, larger than the largest announced ({self._largest})")
        self._seen.update(names.tolist())
        self._base += before.tolist()
        self._edited += after.tolist()
        self._clusters += keys
        if base_counts is not None and edited_counts is not None:
            self._counts[0].extend(np.asarray(base_counts))
            self._counts[1].extend(np.asarray(edited_counts))
        if self._settled is None and len(before):
            self._settled = self._look_at_counts() if self._counts[0] else self._bet(before, after, codes)
        return None if self._settled is None else self._settled.outcome

    def verdict(self) -> Verdict:
        """The early verdict if a look settled it; else that of all items handed over, at the alpha that is left."""
        return self._settled or self._judged(self._late)

    def _bet(self, before: Floats, after: Floats, codes: Codes) -> Verdict | None:
        kept, shift = self._margin.line(self._floor)
        sizes = cluster_sums(np.ones(len(codes)), codes)  # (clusters of this block,)
        sums = cluster_sums(kept * before - after, codes)
        rights = cluster_sums(before, codes)
        self._within.bet(-units(sums, sizes, shift, self._largest))
        self._beyond.bet(units(sums, sizes, shift, self._largest))
        self._able.bet(units(rights, sizes, self._floor, self._largest))
        enough = -math.log(self._early)
        if self._able.now < enough:
            return None
        if self._within.now >= enough:
            return self._early_verdict(Outcome.PASS)
        return self._early_verdict(Outcome.FAIL) if self._beyond.now >= enough else None

    def _look_at_counts(self) -> Verdict | None:
        due = [look for look in self._looks if len(self._seen) >= look]
        if not due or len(self._base) >= self._planned:
            return None
        self._looks = self._looks[len(due) :]
        if len(self._seen) < _FEWEST:
            return None
        found = self._judged(self._early / len(LOOKS))
        if found.outcome is Outcome.PASS or (found.outcome is Outcome.FAIL and found.lower > found.margin):
            return replace(found, sentence=f"After {found.n} of {self._planned} items: {found.sentence}")
        return None

    def _judged(self, alpha: float) -> Verdict:
        counted = bool(self._counts[0])
        return judge(
            self._base,
            self._edited,
            margin=self._margin,
            floor=self._floor,
            clusters=self._clusters,
            base_counts=np.asarray(self._counts[0]) if counted else None,
            edited_counts=np.asarray(self._counts[1]) if counted else None,
            alpha=alpha,
            seed=self._seed,
        )

    def _early_verdict(self, outcome: Outcome) -> Verdict:
        base, edited = np.array(self._base), np.array(self._edited)
        score, drop, n = float(base.mean()), float((base - edited).mean()), len(base)
        kept, shift = self._margin.line(self._floor)
        points = self._margin.at(score, self._floor)
        codes = np.unique(np.asarray(self._clusters), return_inverse=True)[1]
        sizes = cluster_sums(np.ones(len(codes)), codes)
        sums = cluster_sums(kept * base - edited, codes)
        moved = points - shift  # from the mean of kept * base - edited to a drop against the margin
        upper = anytime_upper(sums, sizes, self._largest, self._early, kept) + moved
        lower = -anytime_upper(-sums, sizes, self._largest, self._early) + moved
        rights = cluster_sums(base, codes)
        base_lower = -anytime_upper(-rights, sizes, self._largest, self._early, 0.0)
        sure = f"with {100 * (1 - self._early):g} % confidence at any time"
        side = "is within" if outcome is Outcome.PASS else "is beyond"
        return Verdict(
            outcome=outcome,
            base=score,
            edited=float(edited.mean()),
            drop=drop,
            lower=max(-1.0, min(lower, drop)),
            upper=min(1.0, max(upper, drop)),
            margin=points,
            n=n,
            floor=self._floor,
            clusters=len(sizes),
            method="betting",
            right_to_wrong=int((edited < base).sum()),
            wrong_to_right=int((edited > base).sum()),
            sentence=f"After {n} of {self._planned} items the drop of {drop:.3f} {side} the margin {points:g} {sure}.",
            base_lower=max(0.0, base_lower),
        )
