"""From answers that come in blocks to a verdict, as soon as it is certain; no model is needed.

    found = settled(answers, clusters, rule, Points(0.05), floor=0.5, seed=0)   # takes no more answers than that needs
    found.verdict, found.answers

How the error is kept however often one looks: `audit.verdicts.sequential`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from audit.answering.crew import Crew
from audit.answering.paired_answers import PairedAnswers
from audit.verdicts.margins import Margin
from audit.verdicts.outcome import StoppingRule, Verdict
from audit.verdicts.sequential import SequentialVerdict


@dataclass(frozen=True, eq=False)
class Settled:
    """A verdict and the answers that it rests on, in the order in which they were asked.

    `harm_p` is the p-value of harm, None where stopping left nothing to test; `rule` tells what might have been asked,
    None where all of it was, as in any run that does not stop early.
    """

    verdict: Verdict
    answers: PairedAnswers
    harm_p: float | None
    rule: StoppingRule | None = None


def from_all(answers: PairedAnswers, margin: Margin, seed: int) -> Settled:
    """The verdict of a fixed sample: about all the items that are there."""
    return Settled(answers.verdict(margin=margin, seed=seed), answers, answers.harm_p_value(seed=seed))


def settled(
    answers: Callable[[int], PairedAnswers],
    clusters: Sequence[str],
    rule: StoppingRule,
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
    sequential, first = SequentialVerdict(margin, floor, rule, seed=seed), crew or Crew()
    end = 0
    while end < len(clusters) and (further := first.from_first(lambda: sequential.further)):
        start, end = end, _whole_clusters(clusters, end + further)
        taken = answers(end)
        sequential.add(**vars(taken.part(start, end).scores))
    return Settled(sequential.verdict(), taken, sequential.harm_p_value(), rule)


def resettled(saved: PairedAnswers, rule: StoppingRule, margin: Margin, *, floor: float, seed: int) -> Settled:
    """The same of saved answers, in their order: under other scores or another margin a run may have stopped sooner.

    Where it would have gone on, the verdict is INCONCLUSIVE: what was not asked cannot be judged.
    """
    clusters = [item.cluster for item in saved.base.items]
    return settled(lambda count: saved.part(0, count), clusters, rule, margin, floor=floor, seed=seed)


def _whole_clusters(clusters: Sequence[str], end: int) -> int:
    """The first place at or after `end` where a cluster ends."""
    while end < len(clusters) and clusters[end] == clusters[end - 1]:
        end += 1
    return min(end, len(clusters))
