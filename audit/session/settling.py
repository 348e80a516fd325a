"""From answers that come block after block to a verdict, as soon as it is certain; no model is needed.

    found = settled(blocks, plan, Points(0.05), floor=0.5, seed=0)   # takes no more blocks than that needs
    found.verdict, found.base, found.edited

How the error is kept however often one looks: `audit.verdicts.sequential`.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from audit.abilities.contract import Ability, AskedItems
from audit.reports.run import AbilityRow
from audit.session.comparison import PairedScores, compare, harmed, judged
from audit.session.crew import Crew
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
    blocks: Iterable[Asked], plan: SequentialPlan, margin: Margin, *, floor: float, seed: int, crew: Crew | None = None
) -> Settled:
    """Take block after block until a verdict is certain, or there is no further one.

    All processes of a `crew` stop where the first of them does: they share the questions, so none may ask on alone.
    """
    sequential = SequentialVerdict(margin, floor, plan, seed=seed)
    taken: list[Asked] = []
    for block in blocks:
        taken.append(block)
        sequential.add(**vars(PairedScores.of(*block)))
        if (crew or Crew()).from_first(lambda: sequential.settled):
            break
    return Settled(sequential.verdict(), *joined(taken), sequential.harm_p_value(), plan)


def resettled(
    base: AskedItems, edited: Sequence[AskedItems], plan: SequentialPlan, margin: Margin, *, floor: float, seed: int
) -> Settled:
    """The same of saved answers, in their order: under other scores or another margin a run may have stopped sooner.

    Where it would have gone on, the verdict is INCONCLUSIVE: what was not asked cannot be judged.
    """
    return settled(_cut(base, edited, plan), plan, margin, floor=floor, seed=seed)


def joined(blocks: Sequence[Asked]) -> Asked:
    """The answers of several blocks as one."""
    models = zip(*((base, *edited) for base, edited in blocks), strict=True)
    base, *edited = (_one_after_the_other(list(parts)) for parts in models)
    return base, tuple(edited)


def _one_after_the_other(parts: Sequence[AskedItems]) -> AskedItems:
    return AskedItems(
        parts[0].ability,
        tuple(item for part in parts for item in part.items),
        tuple(answer for part in parts for answer in part.answers),
        tuple(score for part in parts for score in part.scores),
        tuple(one for part in parts for one in part.raw),
        sum(part.from_store for part in parts),
    )


def _cut(base: AskedItems, edited: Sequence[AskedItems], plan: SequentialPlan) -> Iterator[Asked]:
    """Blocks as `visiting_order` made them: whole clusters, until there are enough items."""
    start, clusters = 0, [item.cluster for item in base.items]
    for end in range(1, len(clusters) + 1):
        within = end < len(clusters) and clusters[end] == clusters[end - 1]
        if not within and (end - start >= plan.block or end == len(clusters)):
            yield _part(base, start, end), tuple(_part(asked, start, end) for asked in edited)
            start = end


def _part(asked: AskedItems, start: int, end: int) -> AskedItems:
    known = end - start if asked.from_store == len(asked.items) else 0  # saved answers tell of all or none
    part = slice(start, end)
    return AskedItems(asked.ability, asked.items[part], asked.answers[part], asked.scores[part], asked.raw[part], known)
