"""Detection of collapsed models, so that the abilities are not run on a model that no longer works.

    signs = signs_of(integrity, vocabulary=50257)
    if signs.suspicious:                       # only then ask a few items
        signs = signs.after(answers)
    signs.collapsed, signs.sentence

A false alarm would end an audit early, so the rule is strict. Weights or logits that are not finite suffice alone.
Otherwise both other signs are needed: perplexity on plain text is worse than that of a uniform guess over the
vocabulary, and at least half of the answers that were readable before are garbled. A missed collapse only costs time:
the abilities are run, and fail.

Measured on the pocket models (`benchmarks/results/triage-*.json`; base perplexity 1.7, vocabulary 1,728): harmful edits
stay far below the thresholds. MEMIT with 100 edits, ROME with 200, MEND with 100 and KN with 10 reach at most a
perplexity of 11 with a fifth of the answers garbled; noise of 16 standard deviations reaches 101 with a third. Some
ability is still above chance in these models. The default `vandal` (noise of 32) is just below the thresholds
(perplexity 1,507 and 803, six of ten answers garbled), and so is KN on pocket-gpt2 with 20 edits (1,423, three of
four). They count as collapsed from noise of 48 and from 40 edits on. KN on pocket-llama does harm with up to 100 edits
and has collapsed at 200. The update norm is reported but not part of the rule: after MEND with a change of 6.7 times
the norm of the matrix the model still answers; after KN with 3.1 times it has collapsed.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

from audit.measures.flips import repeats
from audit.measures.integrity import Integrity

LEAST_RATIO = 10.0  # edited over base perplexity; keeps a base model near guessing from counting as collapsed
GARBLED_SHARE = 0.5
FEWEST_ANSWERS = 12  # readable answers of the base model that the rule needs


@dataclass(frozen=True)
class WrittenAnswer:
    """One model's written answer to an item; `ended` is False if it was cut at the maximum length."""

    text: str
    parseable: bool
    ended: bool

    @property
    def readable(self) -> bool:
        """Whether the answer can be parsed and does not end in a loop."""
        return self.parseable and not repeats(self.text)


@dataclass(frozen=True)
class CollapseSigns:
    """The signs of collapse in one edited model.

    Perplexities are measured on the fixed text (None: no text). `guessing` is the perplexity of a uniform guess, the
    size of the vocabulary. `answers` counts the answers that were readable from the base model; `garbled` counts those
    of them that are unreadable from the edited model, or no longer end. `largest_update` is ‖ΔW‖ / ‖W‖ of the weight
    that changed most.
    """

    finite_weights: bool
    finite_logits: bool
    perplexity_base: float | None
    perplexity_edited: float | None
    guessing: int
    largest_update: float
    answers: int = 0
    garbled: int = 0

    @property
    def broken(self) -> bool:
        """Whether weights or logits are not finite, and the base model's perplexity is finite or not measured."""
        works = self.perplexity_base is None or math.isfinite(self.perplexity_base)
        return works and not (self.finite_weights and self.finite_logits)

    @property
    def suspicious(self) -> bool:
        """Whether perplexity is no better than guessing, so that answers should be checked. False if `broken`."""
        base, edited = self.perplexity_base, self.perplexity_edited
        if self.broken or base is None or edited is None or not math.isfinite(base):
            return False
        return edited >= max(self.guessing, LEAST_RATIO * base)

    @property
    def collapsed(self) -> bool:
        """Whether the model has collapsed, by the rule of this module."""
        enough = self.answers >= FEWEST_ANSWERS and self.garbled >= GARBLED_SHARE * self.answers
        return self.broken or (self.suspicious and enough)

    @property
    def sentence(self) -> str:
        """The signs in words, for a model that has collapsed."""
        if self.broken:
            what = "its logits on plain text" if self.finite_weights else "some of its weights"
            return f"The edited model has collapsed: {what} are NaN or infinite."
        return (
            f"The edited model has collapsed: it predicts plain text worse than a random guess among {self.guessing:,} "
            f"tokens (perplexity {self.perplexity_base:.4g} before, {self.perplexity_edited:.4g} after), and "
            f"{self.garbled} of {self.answers} answers that were readable before do not end, repeat themselves or "
            f"cannot be parsed; the largest update is {self.largest_update:.3g} times the norm of the weight."
        )

    def after(self, answers: Iterable[tuple[WrittenAnswer, WrittenAnswer]]) -> "CollapseSigns":
        """A copy of the signs with the counts of these pairs of base and edited answers to the same items."""
        compared = [(before, after) for before, after in answers if before.readable]
        garbled = sum(not after.readable or (before.ended and not after.ended) for before, after in compared)
        return replace(self, answers=len(compared), garbled=garbled)


def signs_of(integrity: Integrity, vocabulary: int) -> CollapseSigns:
    """The signs from the integrity of the edited model alone; `vocabulary` is the size of the vocabulary."""
    edited = integrity.perplexity_edited
    return CollapseSigns(
        finite_weights=integrity.finite_weights,
        finite_logits=integrity.finite_logits and (edited is None or not math.isnan(edited)),
        perplexity_base=integrity.perplexity_base,
        perplexity_edited=edited,
        guessing=vocabulary,
        largest_update=integrity.largest_update,
    )
