"""Teacher forcing: how likely a model finds tokens that it is given, whatever it would have said itself."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from audit.engine.batching import TOKEN_BUDGET, require_room
from audit.engine.continuations import Continuation, score_continuations
from audit.engine.ranking import joined, summed
from audit.errors import AuditError
from audit.models.language_model import LanguageModel
from audit.models.tokens import encode
from audit.progress import Progress


@dataclass(frozen=True)
class TeacherForced:
    """One target: log p(target | prompt), its number of tokens, and which of them were the likeliest next token.

    `predictions` are the ids that were the likeliest (-1 where the logits are not finite).
    """

    log_probability: float
    tokens: int
    token_hits: tuple[bool, ...]
    predictions: tuple[int, ...]


def teacher_forced(
    lm: LanguageModel,
    pairs: Sequence[tuple[str, str]],
    *,
    token_budget: int = TOKEN_BUDGET,
    progress: Progress | None = None,
) -> list[TeacherForced]:
    """Score the target of every (prompt, target) pair, tokenised jointly, in the order of the pairs.

    Log-probabilities are natural and summed over the target's tokens; NaN when the model's logits are not finite. A hit
    says that the token was the argmax given the *true* tokens before it, which is kinder than generating them.

    Raises:
        AuditError: a target is empty, or a pair does not fit into the context.
    """
    groups = [[joined(lm, prompt, target, f"Pair {number}")] for number, (prompt, target) in enumerate(pairs)]
    scores = score_continuations(lm, groups, token_budget=token_budget, progress=progress)
    return [TeacherForced(summed(tokens), len(tokens.hits), tokens.hits, tokens.predictions) for (tokens,) in scores]


def negative_log_likelihood(
    lm: LanguageModel,
    texts: Sequence[str],
    *,
    token_budget: int = TOKEN_BUDGET,
    progress: Progress | None = None,
) -> list[tuple[float, int]]:
    """-log p(text) in nats and the number of predicted tokens, for every text.

    The first token (the beginning-of-text token, where the tokenizer adds one) has nothing before it and is not
    predicted: divide by the number returned, not by the number of tokens. A text of one token gives (0.0, 0).

    Raises:
        AuditError: a text is empty or longer than the model's context.
    """
    groups = []
    for number, text in enumerate(texts):
        ids = tuple(encode(lm.tokenizer, text))
        require_room(lm, ids, f"Text {number}", text)
        groups.append([Continuation(ids, 1)] if len(ids) > 1 else [])
    scores = score_continuations(lm, groups, token_budget=token_budget, progress=progress)
    return [(-summed(group[0]), len(group[0].hits)) if group else (0.0, 0) for group in scores]


def perplexity(
    lm: LanguageModel,
    texts: Sequence[str],
    *,
    token_budget: int = TOKEN_BUDGET,
    progress: Progress | None = None,
) -> float:
    """exp(sum of negative log-likelihoods / number of predicted tokens) over all texts; inf beyond 1e308.

    Raises:
        AuditError: no text has two tokens, a text is empty, or a text is longer than the model's context.
    """
    likelihoods = negative_log_likelihood(lm, texts, token_budget=token_budget, progress=progress)
    predicted = sum(tokens for _, tokens in likelihoods)
    if predicted == 0:
        raise AuditError(
            f"Perplexity needs a text of at least two tokens, but none of the {len(texts)} texts has them."
        )
    mean = sum(value for value, _ in likelihoods) / predicted
    try:
        return math.exp(mean)
    except OverflowError:
        return math.inf
