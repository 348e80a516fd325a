"""Has the edited model stopped being a language model? Then no ability need be asked to know that it failed.

    signs = signs_of(integrity, vocabulary=50257)
    if signs.suspicious:                       # only then are a few questions asked
        signs = signs.after(answers)
    signs.collapsed, signs.sentence

A false alarm would end an audit that had something to find, so the rule is hard to meet. Weights or logits that are not
finite decide alone. Otherwise two signs of different kinds must agree: plain text is predicted worse than by guessing
evenly among all tokens, and most of the answers that could be read before are garbled. What is missed costs
time only: the abilities are asked, and fail.

On the pocket models (`benchmarks/results/triage-*.json`; base perplexity 1.7, 1,728 tokens) edits that harm stay far
below both: MEMIT of 100, ROME of 200, MEND of 100 and KN of 10 edits reach a perplexity of 11 with about a fifth of the
answers garbled, and noise of 16 standard deviations one of 101 with a third; some ability can still be told from chance
there. The default `vandal`, noise of 32, falls just short (perplexity 1,507 and 803, six answers in ten garbled), as
does KN on pocket-gpt2 with 20 edits (1,423, three in four); both are called collapsed from noise of 48 and 40 edits on.
On pocket-llama KN merely harms up to 100 edits and has collapsed at 200. The update norm is told but decides nothing:
MEND changes a matrix by 6.7 times its norm and still answers, KN has collapsed at 3.1.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

from audit.measures.flips import repeats
from audit.measures.integrity import Integrity

LEAST_RATIO = 10.0  # edited over base perplexity: a base model that hardly beats guessing has nothing to lose
GARBLED_SHARE = 0.5
FEWEST_ANSWERS = 12  # fewer readable answers of the base model show nothing


@dataclass(frozen=True)
class WrittenAnswer:
    """One model's answer to an item that is written, not chosen; `ended` unless it was cut at the longest length."""

    text: str
    parseable: bool
    ended: bool

    @property
    def readable(self) -> bool:
        """Whether it can be parsed and does not end in a loop."""
        return self.parseable and not repeats(self.text)


@dataclass(frozen=True)
class CollapseSigns:
    """What there is to see in one edited model.

    Perplexities are those of the fixed text (None: there was none); `guessing` is that of a guess among all tokens
    alike, the size of the vocabulary. Of `answers` that were readable from the base model, `garbled` are not from the
    edited one, or do not end although they did. `largest_update` is ||dW|| / ||W|| of the weight that changed most.
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
        """Whether weights or logits are not finite, although the base model's perplexity is."""
        works = self.perplexity_base is None or math.isfinite(self.perplexity_base)
        return works and not (self.finite_weights and self.finite_logits)

    @property
    def suspicious(self) -> bool:
        """Whether the fixed text is predicted worse than by guessing, so that answers should be looked at."""
        base, edited = self.perplexity_base, self.perplexity_edited
        if self.broken or base is None or edited is None or not math.isfinite(base):
            return False
        return edited >= max(self.guessing, LEAST_RATIO * base)

    @property
    def collapsed(self) -> bool:
        """The rule above."""
        enough = self.answers >= FEWEST_ANSWERS and self.garbled >= GARBLED_SHARE * self.answers
        return self.broken or (self.suspicious and enough)

    @property
    def sentence(self) -> str:
        """What was seen, of a model that has collapsed."""
        if self.broken:
            what = "its logits on plain text" if self.finite_weights else "some of its weights"
            return f"The edited model has collapsed: {what} are NaN or infinite."
        return (
            f"The edited model has collapsed: it predicts plain text worse than a blind guess among {self.guessing:,} "
            f"tokens (perplexity {self.perplexity_base:.4g} before, {self.perplexity_edited:.4g} after), and "
            f"{self.garbled} of {self.answers} answers no longer end, repeat themselves or cannot be parsed, unlike "
            f"before; the largest update is {self.largest_update:.3g} times the weight's own norm."
        )

    def after(self, answers: Iterable[tuple[WrittenAnswer, WrittenAnswer]]) -> "CollapseSigns":
        """The signs with these answers of base and edited model to the same items."""
        compared = [(before, after) for before, after in answers if before.readable]
        garbled = sum(not after.readable or (before.ended and not after.ended) for before, after in compared)
        return replace(self, answers=len(compared), garbled=garbled)


def signs_of(integrity: Integrity, vocabulary: int) -> CollapseSigns:
    """The signs that the edited network itself shows; `vocabulary` is the number of tokens it chooses among."""
    edited = integrity.perplexity_edited
    return CollapseSigns(
        finite_weights=integrity.finite_weights,
        finite_logits=integrity.finite_logits and (edited is None or not math.isnan(edited)),
        perplexity_base=integrity.perplexity_base,
        perplexity_edited=edited,
        guessing=vocabulary,
        largest_update=integrity.largest_update,
    )
