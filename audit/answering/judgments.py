"""From paired answers to a verdict: of all items at once, or block by block until the verdict is certain.

    found = sequential_judgment(answers, clusters, rule, Points(0.05), floor=0.5, seed=0)  # takes answers as needed
    found.verdict, found.answers

No model is needed. `audit.verdicts.sequential` says how the error rate is kept over all looks.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from audit.answering.crew import Crew
from audit.answering.paired_answers import PairedAnswers, PairedScores
from audit.verdicts import StoppingRule, Verdict
from audit.verdicts.margins import Margin
from audit.verdicts.sequential import SequentialVerdict


@dataclass(frozen=True, eq=False)
class Judgment:
    """A verdict and the answers that it rests on, in the order in which they were given.

    `harm_p` is the p-value of harm, None where stopping left nothing to test. `rule` is None for a run that
    does not stop early.
    """

    verdict: Verdict
    answers: PairedAnswers
    harm_p: float | None
    rule: StoppingRule | None = None


def fixed_judgment(answers: PairedAnswers, margin: Margin, seed: int) -> Judgment:
    """The judgment of a fixed sample: all the answers."""
    return Judgment(answers.verdict(margin=margin, seed=seed), answers, answers.harm_p_value(seed=seed))


def sequential_judgment(
    answers: Callable[[int], PairedAnswers],
    clusters: Sequence[str],
    rule: StoppingRule,
    margin: Margin,
    *,
    floor: float,
    seed: int,
    crew: Crew | None = None,
    most_blocks: int | None = None,
) -> Judgment:
    """Take more answers, whole clusters at a time, until the verdict is certain or all answers are taken.

    `clusters` are those of the items in the order in which they are asked; `answers(n)` gives the paired answers to the
    first n. All processes of a `crew` continue or stop as the first one does, because they share the items. After
    `most_blocks` a verdict that is not certain is INCONCLUSIVE.
    """
    sequential = SequentialVerdict(margin, floor, rule, seed=seed)
    end = take_blocks(sequential, clusters, lambda start, end: answers(end).part(start, end).scores, crew, most_blocks)
    return Judgment(sequential.verdict(), answers(end), sequential.harm_p_value(), rule)


def take_blocks(
    sequential: SequentialVerdict,
    clusters: Sequence[str],
    scores: Callable[[int, int], PairedScores],
    crew: Crew | None = None,
    most_blocks: int | None = None,
) -> int:
    """Add blocks of whole clusters until the verdict is certain or all items are taken; returns their number.

    `scores(start, end)` gives those of the items from `start` up to `end`. No more than `most_blocks` are added.
    """
    first, end, blocks = crew or Crew(), 0, 0
    while end < len(clusters) and blocks != most_blocks and (further := first.run_in_first(lambda: sequential.further)):
        blocks += 1
        start, end = end, _whole_clusters(clusters, end + further)
        sequential.add(**vars(scores(start, end)))
    return end


def saved_judgment(saved: PairedAnswers, rule: StoppingRule, margin: Margin, *, floor: float, seed: int) -> Judgment:
    """The sequential judgment of saved answers, in their order; other scores or another margin may stop it sooner.

    If the rule asks for more answers than were saved, the verdict is INCONCLUSIVE.
    """
    clusters = [item.cluster for item in saved.base.items]
    return sequential_judgment(lambda count: saved.part(0, count), clusters, rule, margin, floor=floor, seed=seed)


def _whole_clusters(clusters: Sequence[str], end: int) -> int:
    """The first place at or after `end` where a cluster ends."""
    while end < len(clusters) and clusters[end] == clusters[end - 1]:
        end += 1
    return min(end, len(clusters))
