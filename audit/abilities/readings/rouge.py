"""ROUGE of an answer: the F-measures of `rouge-score` with Porter stemming, not bootstrapped or rounded.

The tokenizer of `rouge-score` keeps only a-z and 0-9: a text in another script scores 0 even against itself.
"""

from functools import cached_property
from typing import Any

KINDS = ("rouge1", "rouge2", "rougeL")


class RougeMean:
    """The mean of ROUGE-1, ROUGE-2 and ROUGE-L."""

    def parts(self, gold: str, text: str) -> dict[str, float]:
        """The three values."""
        scores = self._scorer.score(gold, text)
        return {kind: float(scores[kind].fmeasure) for kind in KINDS}

    def mean(self, gold: str, text: str) -> float:
        """Their mean, in [0, 1]."""
        return sum(self.parts(gold, text).values()) / len(KINDS)

    @cached_property
    def _scorer(self) -> Any:
        from rouge_score.rouge_scorer import RougeScorer  # slow to import (nltk), so only when a text is scored

        return RougeScorer(KINDS, use_stemmer=True)
