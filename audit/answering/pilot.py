"""The pilot: how an ability is asked and read, chosen on the base model alone, from items that are never judged.

    chosen = choose_presentation(pilot, log)       # of the base model; stored in its log
    chosen.presentation.reading                    # "answers", "choices", "calibrated" or "likelihood"
    chosen.trials                                  # what was tried, with its figures

The readings are tried in the ability's order of preference, each with plain prompts, with worked examples and, where
the model has one, in its chat template. The first is taken by which a model that falls to its floor would fail: with

    r = sqrt(2) (base - lower limit) sqrt(n / judged)    the half width of base - edited to expect from the judged items

the lower limit (95 %) of the base score is above the floor by more than the margin and r; for a share s to keep, by
more than r / s. If none is, the likelihood that is farthest above its floor is judged, and its verdict says whether the
judged items are enough. The edited model has no influence on this.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from audit.abilities.contract import Ability, Item
from audit.abilities.presentation import Presentation
from audit.answering.choice import Chosen, Trial
from audit.answering.paired_answers import PairedAnswers
from audit.answering.run_answers import AbilityRun
from audit.errors import AuditError
from audit.models.fingerprints import content_fingerprint
from audit.store.answer_log import AnswerLog
from audit.verdicts.margins import Points, Retained

SCREEN = 12  # items: a written answer whose base score is not above its floor on these is not tried further
KEPT = 0.9  # the share to keep that is assumed of a likelihood
STORED_VERSION = 2


@dataclass(frozen=True)
class Pilot:
    """What a choice is made from.

    Attributes:
        candidates: the presentations to try, in order.
        items: the items set aside for the choice.
        run_of: the base model's run over these items in a presentation.
        points: the margin in score points, for readings whose margin is one.
        judged: how many items the verdict will have.
        key: what the choice depends on besides the candidates, the items and the model.
    """

    candidates: Sequence[Presentation]
    items: Sequence[Item]
    run_of: Callable[[Presentation], AbilityRun]
    points: float
    judged: int
    key: tuple[Any, ...]

    @property
    def fingerprint(self) -> str:
        """The key under which the choice is stored in the log of the base model."""
        items = [[item.key, dict(item.fields), list(item.gold)] for item in self.items]
        candidates = [asdict(one) for one in self.candidates]
        return content_fingerprint(["choice", STORED_VERSION, candidates, items, self.points, self.judged, *self.key])


def choose_presentation(pilot: Pilot, log: AnswerLog | None) -> Chosen:
    """The first presentation that is clearly above its floor, or the likelihood that is farthest above it.

    Raises:
        AuditError: the items cannot be asked in any presentation; the reason is that of the first.
    """
    key = pilot.fingerprint
    if log is not None and (kept := log.known().get(key)) is not None:
        return Chosen.from_plain(kept)
    trials: list[Trial] = []
    for trial in _trials(pilot):
        trials.append(trial)
        if trial.clear:
            break
    else:
        tried = [one for one in trials if not one.reason]
        if not tried:
            raise AuditError(trials[0].reason)
        best = [one for one in tried if one.presentation.reading == tried[-1].presentation.reading]
        trial = max(best, key=lambda one: one.distance)
    chosen = Chosen(trial.presentation, tuple(trials))
    if log is not None:
        log.add({key: asdict(chosen)})
    return chosen


def _trials(pilot: Pilot) -> Iterator[Trial]:
    offsets: dict[tuple[int, bool], float] = {}
    for candidate in pilot.candidates:
        try:
            yield _trial(pilot, candidate, offsets)
        except AuditError as error:  # of this presentation: an example too long, a template that fails
            yield Trial(candidate, reason=str(error))


def _trial(pilot: Pilot, candidate: Presentation, offsets: dict[tuple[int, bool], float]) -> Trial:
    items = list(pilot.items)
    run = pilot.run_of(candidate)
    if candidate.reading == "calibrated":
        candidate = Presentation(candidate.reading, candidate.shots, candidate.chat, _mean_odds(run, items))
        run = pilot.run_of(candidate)
    if run.ability.decoding is not None:
        screened = _measured(pilot, candidate, run.ability, run.base_answers(items[:SCREEN]))
        if screened.base <= screened.needed:
            return screened
    return _measured(pilot, candidate, run.ability, run.base_answers(items))


def _measured(pilot: Pilot, candidate: Presentation, ability: Ability, base: PairedAnswers) -> Trial:
    by_share = candidate.reading == "likelihood"
    found = base.verdict(margin=Retained(KEPT) if by_share else Points(pilot.points), seed=0)
    base_lower = found.base_lower or 0.0
    reach = math.sqrt(2 * found.n / pilot.judged) * (found.base - base_lower)
    needed = found.floor + (reach / KEPT if by_share else pilot.points + reach)
    return Trial(candidate, found.n, found.base, base_lower, found.floor, needed)


def _mean_odds(run: AbilityRun, items: Sequence[Item]) -> float:
    """The base model's mean log-odds of the first label: its preference for that label."""
    values = [answer.value for answer in run.base_answers(items).base.answers if answer.parseable]
    return round(sum(values) / len(values), 6) if values else 0.0
