"""Log-likelihoods: of choices after a prompt, of targets under teacher forcing, of whole texts; and perplexity.

All are natural logarithms, summed over tokens. They are NaN if the largest logit at a token is not finite.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from audit.engine.batching import TOKEN_BUDGET, require_room
from audit.engine.continuations import Continuation, ScoredTokens, score_continuations
from audit.engine.forward import CausalForward
from audit.errors import AuditError
from audit.models.language_model import LanguageModel
from audit.models.tokens import encode, join
from audit.progress import Progress


def rank(
    lm: LanguageModel,
    prompts: Sequence[str],
    choices: Sequence[Sequence[str]],
    *,
    token_budget: int = TOKEN_BUDGET,
    progress: Progress | None = None,
    on_batch: Callable[[Mapping[int, list[float]]], None] | None = None,
    forward: CausalForward | None = None,
) -> list[list[float]]:
    """The log-likelihood of every choice of every prompt, not normalized by length.

    Prompt and choice are tokenized jointly; see `audit.models.tokens.join` for the space between them. Returns one list
    for each prompt, in the order of its choices. A batch holds about `token_budget` tokens; the prefix that a prompt's
    choices share is computed once. `progress` counts choices.

    Args:
        on_batch: called after every batch with its results, by the prompt's number.
        forward: replaces the plain call of the model.

    Raises:
        AuditError: a prompt has no choices, a choice is empty, or prompt and choice do not fit into the context.
    """
    groups = []
    for number, (prompt, options) in enumerate(zip(prompts, choices, strict=True)):
        if not options:
            raise AuditError(f"Prompt {number} ({prompt[:60]!r}) has no choices to rank; give it at least one.")
        groups.append(
            [_joined(lm, prompt, option, f"Prompt {number} with choice {i}") for i, option in enumerate(options)]
        )

    def on_scores(fresh: Mapping[int, list[ScoredTokens]]) -> None:
        if on_batch is not None:
            on_batch({number: [_summed(tokens) for tokens in group] for number, group in fresh.items()})

    scores = score_continuations(
        lm, groups, token_budget=token_budget, progress=progress, on_batch=on_scores, forward=forward
    )
    return [[_summed(tokens) for tokens in group] for group in scores]


@dataclass(frozen=True)
class TeacherForced:
    """The score of one target: log p(target | prompt), its number of tokens, and a hit or miss for each token.

    A token is a hit when it is the argmax given the *true* tokens before it. `predictions` are the argmax ids (-1
    where the logits are not finite).
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
    """Score the target of every (prompt, target) pair, tokenized jointly, in the order of the pairs.

    Teacher forcing is easier than generating the target: an error does not change the tokens that follow it.

    Raises:
        AuditError: a target is empty, or a pair does not fit into the context.
    """
    groups = [[_joined(lm, prompt, target, f"Pair {number}")] for number, (prompt, target) in enumerate(pairs)]
    scores = score_continuations(lm, groups, token_budget=token_budget, progress=progress)
    return [TeacherForced(_summed(tokens), len(tokens.hits), tokens.hits, tokens.predictions) for (tokens,) in scores]


def negative_log_likelihood(
    lm: LanguageModel,
    texts: Sequence[str],
    *,
    token_budget: int = TOKEN_BUDGET,
    progress: Progress | None = None,
) -> list[tuple[float, int]]:
    """-log p(text) in nats and the number of predicted tokens, for every text.

    The first token (BOS, where the tokenizer adds one) has no token before it and is not predicted: divide by the
    number returned, not by the number of tokens. A text of one token gives (0.0, 0).

    Raises:
        AuditError: a text has no tokens or is longer than the model's context.
    """
    groups = []
    for number, text in enumerate(texts):
        ids = tuple(encode(lm.tokenizer, text))
        require_room(lm, ids, f"Text {number}", text)
        groups.append([Continuation(ids, 1)] if len(ids) > 1 else [])
    scores = score_continuations(lm, groups, token_budget=token_budget, progress=progress)
    return [(-_summed(group[0]), len(group[0].hits)) if group else (0.0, 0) for group in scores]


def perplexity(
    lm: LanguageModel,
    texts: Sequence[str],
    *,
    token_budget: int = TOKEN_BUDGET,
    progress: Progress | None = None,
) -> float:
    """exp(sum of negative log-likelihoods / number of predicted tokens) over all texts; inf beyond 1e308.

    Raises:
        AuditError: no text has two tokens, or a text has none or is longer than the model's context.
    """
    likelihoods = negative_log_likelihood(lm, texts, token_budget=token_budget, progress=progress)
    predicted = sum(tokens for _, tokens in likelihoods)
    if predicted == 0:
        raise AuditError(
            f"Perplexity needs a text of at least two tokens, but all {len(texts)} texts are shorter; "
            "give a longer text."
        )
    mean = sum(value for value, _ in likelihoods) / predicted
    try:
        return math.exp(mean)
    except OverflowError:
        return math.inf


def _joined(lm: LanguageModel, prompt: str, target: str, what: str) -> Continuation:
    """Tokenize prompt and target jointly and check that they fit; `what` names them in an error."""
    tokens = join(lm.tokenizer, lm.full_prompt(prompt), target)
    require_room(lm, tokens.ids, what, prompt)
    require_room(lm, tokens.prompt_ids, f"The prompt of {what[:1].lower()}{what[1:]}", prompt)
    return Continuation(tokens.ids, tokens.prompt_length)


def _summed(tokens: ScoredTokens) -> float:
    """The log-probability of all scored tokens together, or NaN."""
    # fsum raises on inf + -inf; NaN and -inf need no exact sum.
    exact = all(math.isfinite(value) for value in tokens.log_probabilities)
    return math.fsum(tokens.log_probabilities) if exact else sum(tokens.log_probabilities)


def token_log_likelihoods(
    lm: LanguageModel,
    groups: Sequence[Sequence[tuple[str, str]]],
    *,
    token_budget: int = TOKEN_BUDGET,
    progress: Progress | None = None,
    on_batch: Callable[[Mapping[int, list[tuple[float, ...]]]], None] | None = None,
    forward: CausalForward | None = None,
) -> list[list[tuple[float, ...]]]:
    """The log-probabilities of the tokens of each (prompt, continuation) pair, by group."""
    joined = [
        [_joined(lm, prompt, text, f"Prompt {number} with continuation {i}") for i, (prompt, text) in enumerate(group)]
        for number, group in enumerate(groups)
    ]

    def on_scores(fresh: Mapping[int, list[ScoredTokens]]) -> None:
        if on_batch is not None:
            on_batch({number: [one.log_probabilities for one in group] for number, group in fresh.items()})

    scores = score_continuations(
        lm, joined, token_budget=token_budget, progress=progress, on_batch=on_scores, forward=forward
    )
    return [[one.log_probabilities for one in group] for group in scores]
