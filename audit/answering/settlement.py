"""From answers that come in blocks to a verdict, as soon as it is certain; no model is needed.

    found = settled(answers, clusters, plan, Points(0.05), floor=0.5, seed=0)   # takes no more answers than that needs
    found.verdict, found.base, found.edited

How the error is kept however often one looks: `audit.verdicts.sequential`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from audit.abilities.contract import Ability, AskedItems
from audit.answering.comparison import PairedScores, compare, harmed, judged
from audit.answering.crew import Crew
from audit.reports.rows import AbilityRow
from audit.verdicts.margins import Margin
from audit.verdicts.outcome import SequentialPlan, Verdict
from audit.verdicts.sequential import SequentialVerdict

Asked = tuple[AskedItems, tuple[AskedItems, ...]]  # base answers, those of each edited model


@dataclass(frozen=True, eq=False)
class Settled:
    """A verdict and the answers that it rests on, in the order in which they were asked.

    `harm_p` is the p-value of harm, None where stopping left nothing to test; `plan` tells what might have been asked,
    None where all of it was, as in any run that does not stop early.
    """

    verdict: Verdict
    base: AskedItems
    edited: tuple[AskedItems, ...]
    harm_p: float | None
    plan: SequentialPlan | None = None


def from_all(ability: Ability, base: AskedItems, edited: tuple[AskedItems, ...], margin: Margin, seed: int) -> Settled:
    """The verdict of a fixed sample: about all the items that are there."""
    verdict = judged(ability, base, edited, margin=margin, seed=seed)
    return Settled(verdict, base, edited, harmed(base, edited, seed=seed))


def row_of(ability: Ability, found: Settled, margin: Margin, mentions: Sequence[tuple[str, ...]] = ()) -> AbilityRow:
    """What a report says of it; `mentions` as in `compare`, for the answers that the verdict rests on."""
    return compare(
        ability,
        found.base,
        found.edited,
        found.verdict,
        margin=margin,
        harm_p=found.harm_p,
        plan=found.plan,
        mentions=mentions,
    )


def settled(
    answers: Callable[[int], Asked],
    clusters: Sequence[str],
    plan: SequentialPlan,
    margin: Margin,
    *,
    floor: float,
    seed: int,
    crew: Crew | None = None,
) -> Settled:
    """Take more answers, whole clusters at a time, until a verdict is certain or there are no more.

    `clusters` are those of the items in the order of their asking, `answers(n)` what was said to the first n of them.
    All processes of a `crew` go on as the first of them does: they share the questions, so none may ask on alone.
    """
    sequential, first = SequentialVerdict(margin, floor, plan, seed=seed), crew or Crew()
    end = 0
    while end < len(clusters) and (further := first.from_first(lambda: sequential.further)):
        start, end = end, _whole_clusters(clusters, end + further)
        base, edited = answers(end)
        sequential.add(**vars(PairedScores.of(part(base, start, end), [part(one, start, end) for one in edited])))
    return Settled(sequential.verdict(), base, edited, sequential.harm_p_value(), plan)


def resettled(
    base: AskedItems, edited: Sequence[AskedItems], plan: SequentialPlan, margin: Margin, *, floor: float, seed: int
) -> Settled:
    """The same of saved answers, in their order: under other scores or another margin a run may have stopped sooner.

    Where it would have gone on, the verdict is INCONCLUSIVE: what was not asked cannot be judged.
    """

    def answers(count: int) -> Asked:
        return part(base, 0, count), tuple(part(one, 0, count) for one in edited)

    clusters = [item.cluster for item in base.items]
    return settled(answers, clusters, plan, margin, floor=floor, seed=seed)


def part(asked: AskedItems, start: int, end: int) -> AskedItems:
    """Some of the answers; that they are from the store is said only if all are."""
    known = end - start if asked.from_store == len(asked.items) else 0
    cut = slice(start, end)
    return AskedItems(asked.ability, asked.items[cut], asked.answers[cut], asked.scores[cut], asked.raw[cut], known)


def joined(first: AskedItems, then: AskedItems) -> AskedItems:
    """The answers to some items, and those to others behind them."""
    return AskedItems(
        first.ability,
        first.items + then.items,
        first.answers + then.answers,
        first.scores + then.scores,
        first.raw + then.raw,
        first.from_store + then.from_store,
    )


def _whole_clusters(clusters: Sequence[str], end: int) -> int:
    """The first place at or after `end` where a cluster ends."""
    while end < len(clusters) and clusters[end] == clusters[end - 1]:
        end += 1
    return min(end, len(clusters))
