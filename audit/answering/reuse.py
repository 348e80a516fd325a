"""What the edited models of a plan take over from the base model and from each other, with the same answers as without.

    reuse = Reuse.of(lm, [model.patch for model in models])
    base = ask(lm, ability, items, reuse=reuse)
    edited = [ask(lm, ability, items, patch=model.patch, reuse=reuse) for model in models]
    reuse.forget()  # before the next ability

Two things: what enters the lowest block that any of the patches changes is computed once, and what the base model wrote
is the draft of what an edited one writes.
"""

from collections.abc import Mapping, Sequence

import torch

from audit.answering.scores import Raw
from audit.engine.lower_blocks import FromLowerStates, LowerStates, ReuseCounts
from audit.models.language_model import LanguageModel
from audit.models.patch_changes import first_touched_block
from audit.models.patches import Patch


class Reuse:
    """States and drafts of one ability at a time; `counts` counts over all of them.

    Args:
        lower: the states that enter the first edited block.
        drafting: whether the base model's answers are drafts of the edited ones'.
    """

    def __init__(self, lower: LowerStates, *, drafting: bool) -> None:
        self.lower = lower
        self.counts = ReuseCounts()
        self._drafting = drafting
        self._drafts: dict[str, tuple[int, ...]] = {}

    @classmethod
    def of(cls, lm: LanguageModel, patches: Sequence[Patch]) -> "Reuse":
        """What models with these patches share.

        In half precision nothing is drafted: there a pass over many tokens rounds otherwise than steps of one token do,
        and a near tie that the base model decided in steps could fall the other way, and look like an effect of the
        edit. The lower blocks are shared all the same, as passes of the same shape round alike.
        """
        first = min((first_touched_block(lm, patch) for patch in patches), default=0)
        if getattr(lm.model.config.get_text_config(), "num_kv_shared_layers", 0):
            first = 0  # upper blocks read keys and values that lower ones made, not the hidden state alone
        return cls(LowerStates(first), drafting=lm.dtype == torch.float32)

    def forward(self, lm: LanguageModel, patch: Patch | None) -> FromLowerStates:
        """Calls of the model, which now has `patch`; those of the base model (None) count as nobody's."""
        return self.lower.forward(lm, None if patch is None else self.counts)

    def learn(self, answers: Mapping[str, Raw]) -> None:
        """Take the base model's written answers, by question, as drafts."""
        if self._drafting:
            self._drafts.update({question: tuple(raw["ids"]) for question, raw in answers.items()})

    def drafts(self, questions: Sequence[str]) -> dict[int, tuple[int, ...]]:
        """The drafts that there are, by place of their question."""
        return {place: self._drafts[question] for place, question in enumerate(questions) if question in self._drafts}

    def forget(self) -> None:
        """Make room for the next ability, which asks other questions."""
        self.lower.forget()
        self._drafts.clear()
