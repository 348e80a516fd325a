"""One ability's questions, put to the untouched model and to every edited one.

    interview = Interview(ability, questions, known, models, stages, crew, reuse, log_of)
    paired = interview.both(interview.questions)

Any part of the questions may be asked, in any order: what is known already is not asked again.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from audit.abilities.contract import Ability, Answers, Item
from audit.answering.answers import ask
from audit.answering.crew import Crew, asked_by_all
from audit.answering.paired_answers import PairedAnswers
from audit.answering.reuse import Reuse
from audit.editing.steps import EditedModel
from audit.engine.known_model import KnownModel
from audit.models.patches import Patch
from audit.progress import Progress, Stages
from audit.store.answer_log import AnswerLog

LogOf = Callable[[Patch | None], AnswerLog | None]  # the answers kept for the model with a patch


@dataclass(frozen=True, eq=False)
class Interview:
    """`questions` are all that may be asked; `models` the edited ones; `log_of` gives the answers kept for a model."""

    ability: Ability
    questions: Sequence[Item]
    known: KnownModel
    models: Sequence[EditedModel]
    stages: Stages
    crew: Crew
    reuse: Reuse | None
    log_of: LogOf

    def both(self, some: Sequence[Item]) -> PairedAnswers:
        """The answers of the untouched model and of each edited one."""
        return PairedAnswers(self.ability, self.base(some), self.edited(some))

    def base(self, some: Sequence[Item]) -> Answers:
        """What the untouched model answers to some of the questions."""
        with self.stages("base answers", f"{self.ability.name}, base") as done:
            return self._ask(some, None, done)

    def edited(self, some: Sequence[Item]) -> tuple[Answers, ...]:
        """What each edited model answers to them; the untouched one is asked first, for its answers are drafts."""
        answers: list[Answers] = []
        for number, model in enumerate(self.models, start=1):
            which = f" {number}/{len(self.models)}" if len(self.models) > 1 else ""
            with self.stages("edited answers", f"{self.ability.name}, edited{which}") as done:
                answers.append(self._ask(some, model.patch, done))
        return tuple(answers)

    def _ask(self, some: Sequence[Item], patch: Patch | None, done: Progress) -> Answers:
        log, reuse = self.log_of(patch), self.reuse

        def share(items: Sequence[Item]) -> Answers:
            return ask(self.known.lm, self.ability, items, patch=patch, log=log, progress=done, reuse=reuse)

        return asked_by_all(self.crew, self.ability, some, share)
