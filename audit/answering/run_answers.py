"""The answers of a run: to all items of an ability, or block by block until its verdict is certain.

run = RunAnswers(ability_run_of, settings)
run.judgment("nli", Points(0.05)).verdict
run.answers["nli"]      # all answers so far, for the report
run.unasked             # abilities that could not be asked, with the reason
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from audit.abilities.contract import Ability, Answers, Item
from audit.abilities.readings.likelihood import OtherPrompts
from audit.answering.answers import AnswerLogs, Reuse, ask
from audit.answering.crew import Crew, answers_of_crew
from audit.answering.judgments import Judgment, fixed_judgment, sequential_judgment
from audit.answering.paired_answers import PairedAnswers
from audit.engine.known_model import KnownModel
from audit.errors import AbilityError, AuditError
from audit.models.patches import Patch
from audit.progress import Progress, Stages
from audit.settings.options import AuditSettings
from audit.verdicts.betting import visiting_order
from audit.verdicts.margins import Margin
from audit.verdicts.sequential import stopping_rule

# The fewest items in a block: enough to find most harm, and to keep the device busy.
BLOCK_ON_CPU, BLOCK_ELSEWHERE = 16, 64


@dataclass(frozen=True, eq=False)
class AbilityRun:
    """The items of one ability, and the models that answer them: the base model, and one with each of the patches.

    Any part of the items may be asked, in any order. An answer that a log holds is not asked for again. `clear` is
    False if the base model was not clearly above its floor when the presentation was chosen.
    """

    ability: Ability
    items: Sequence[Item]
    known: KnownModel
    patches: Sequence[Patch]
    stages: Stages
    crew: Crew
    reuse: Reuse | None
    logs: AnswerLogs
    clear: bool = True

    @cached_property
    def _floor_ability(self) -> Ability | None:
        """The ability whose scores are the items' floors; None where the floor is not measured so."""
        scorer = self.ability.scorer
        return None if scorer is None or not scorer.measured_floor else OtherPrompts(self.ability, self.items)

    def base_answers(self, some: Sequence[Item]) -> PairedAnswers:
        """The base model's answers to some of the items, paired with themselves, and their measured floors."""
        with self.stages("base answers", f"{self.ability.name}, base") as done:
            base = self._ask(self.ability, some, None, done)
        floors = None
        if self._floor_ability is not None:
            with self.stages("base answers", f"{self.ability.name}, floor") as done:
                # No edited model is asked behind these prompts, so nothing is kept for reuse.
                floors = replace(self, reuse=None)._ask(self._floor_ability, some, None, done)
        return PairedAnswers(self.ability, base, (base,), floors)

    def paired_answers(self, some: Sequence[Item]) -> PairedAnswers:
        """The answers of all models to some of the items; the base model's come first, as drafts for the others."""
        base = self.base_answers(some)
        edited: list[Answers] = []
        for number, patch in enumerate(self.patches, start=1):
            which = f" {number}/{len(self.patches)}" if len(self.patches) > 1 else ""
            with self.stages("edited answers", f"{self.ability.name}, edited{which}") as done:
                edited.append(self._ask(self.ability, some, patch, done))
        return replace(base, edited=tuple(edited))

    def _ask(self, ability: Ability, some: Sequence[Item], patch: Patch | None, done: Progress) -> Answers:
        log, reuse = self.logs.of(self.known, patch), self.reuse

        def share(items: Sequence[Item]) -> Answers:
            return ask(self.known.lm, ability, items, patch=patch, log=log, progress=done, reuse=reuse)

        return answers_of_crew(self.crew, ability, some, share)


class AnswerBlocks:
    """The items of one ability in the order in which they are asked, and the answers so far.

    The order is a permutation of whole clusters that depends only on them and the seed (`visiting_order`). Each block
    is put to all models. A judgment under another margin starts from the answers that are there.
    """

    def __init__(self, run: AbilityRun, seed: int) -> None:
        self._run = run
        self._seed = seed
        clusters = [item.cluster for item in run.items]
        on_cpu = run.known.lm.device.type == "cpu"
        self._rule = stopping_rule(clusters, BLOCK_ON_CPU if on_cpu else BLOCK_ELSEWHERE)
        order = np.concatenate(visiting_order(clusters, seed)).tolist()
        self._items = [run.items[number] for number in order]
        self._answers: PairedAnswers | None = None

    def judgment(self, margin: Margin) -> Judgment:
        """The judgment under this margin, after as many blocks as it needs.

        Where the base model may be at its floor, it answers all items first. If it is, the edited models answer one
        block, because no answer of theirs can change INCONCLUSIVE.
        """
        run, clusters = self._run, [item.cluster for item in self._items]
        able = run.clear or run.base_answers(self._items).verdict(margin=margin, seed=self._seed).assessable
        return sequential_judgment(
            self.first,
            clusters,
            self._rule,
            margin,
            floor=run.ability.floor(run.items),
            seed=self._seed,
            crew=run.crew,
            most_blocks=None if able else 1,
        )

    def first(self, count: int) -> PairedAnswers:
        """The answers to the first `count` items."""
        known = 0 if self._answers is None else len(self._answers.base.items)
        if count > known:
            fresh = self._run.paired_answers(self._items[known:count])
            self._answers = fresh if self._answers is None else self._answers.joined(fresh)
        return self.so_far.part(0, count)

    def all(self) -> PairedAnswers:
        """The answers to all items."""
        self.first(len(self._items))
        return self.so_far

    @property
    def so_far(self) -> PairedAnswers:
        """The answers to all items asked so far, of which there is at least one."""
        assert self._answers is not None
        return self._answers


class RunAnswers:
    """The answers of one run, by ability; no item is asked twice.

    `ability_run_of` gives the items of an ability with the models that answer them.
    """

    def __init__(self, ability_run_of: Callable[[str], AbilityRun], wanted: AuditSettings) -> None:
        self.answers: dict[str, PairedAnswers] = {}
        self.unasked: dict[str, str] = {}
        self._ability_run_of = ability_run_of
        self._wanted = wanted
        self._blocks: dict[str, AnswerBlocks] = {}

    def all_of(self, name: str) -> PairedAnswers:
        """The answers to all items of an ability.

        Raises:
            AbilityError: the items cannot be loaded or asked.
        """
        with self.reason_kept(name):
            if self._wanted.early_stop:
                self.answers[name] = self._blocks_of(name).all()
            elif name not in self.answers:
                run = self._ability_run_of(name)
                self.answers[name] = run.paired_answers(run.items)
        return self.answers[name]

    def judgment(self, name: str, margin: Margin) -> Judgment:
        """The judgment of an ability under this margin.

        Raises:
            AbilityError: as in `all_of`.
        """
        if not self._wanted.early_stop:
            return fixed_judgment(self.all_of(name), margin, self._wanted.seed)
        with self.reason_kept(name):
            blocks = self._blocks_of(name)
            found = blocks.judgment(margin)
            self.answers[name] = blocks.so_far
        return found

    def _blocks_of(self, name: str) -> AnswerBlocks:
        if name not in self._blocks:
            self._blocks[name] = AnswerBlocks(self._ability_run_of(name), self._wanted.seed)
        return self._blocks[name]

    @contextmanager
    def reason_kept(self, name: str) -> Iterator[None]:
        """Turn an `AuditError` into an `AbilityError`, and keep its reason in `unasked`."""
        try:
            yield
        except AuditError as error:
            self.unasked[name] = str(error)
            shots = f" with --shots {self._wanted.shots}" if self._wanted.shots else ""
            raise AbilityError(f"{name} was not asked{shots}: {error}") from error
