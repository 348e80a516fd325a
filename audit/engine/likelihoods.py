"""Log-likelihoods: of choices after a prompt, of targets under teacher forcing, of whole texts; and perplexity.

All are natural logarithms, summed over tokens unless the name says otherwise. They are NaN where the model's logits are
not finite.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from audit.engine.batching import TOKEN_BUDGET, require_room
from audit.engine.continuations import Continuation, ScoredTokens, score_continuations
from audit.engine.forward import CausalForward
from audit.errors import AuditError
from audit.models.language_model import LanguageModel
from audit.models.tokens import encode, join, join_verbatim
from audit.progress import Progress

TokenLogProbabilities = tuple[float, ...]  # natural logarithms, one for every scored token


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
    """The log-likelihood of each of a prompt's choices, not divided by its length.

    Prompt and choice are tokenized jointly, with one space between them that belongs to the choice. Returns one list
    for each prompt, in the order of its choices. A batch holds about `token_budget` tokens; the prefix that a prompt's
    choices share is computed once. `progress` counts choices.

    Args:
        on_batch: called after every batch with its results, by the prompt's number.
        forward: replaces the plain call of the model.

    Raises:
        AuditError: a prompt has no choices, or prompt and choice do not fit into the context.
    """
    groups = []
    for number, (prompt, options) in enumerate(zip(prompts, choices, strict=True)):
        if not options:
            raise AuditError(f"Prompt {number} ({prompt[:60]!r}) has no choices to rank; give it at least one.")
        groups.append(
            [_joined(lm, prompt, option, f"Prompt {number} with choice {i}") for i, option in enumerate(options)]
        )

    def on_tokens(fresh: Mapping[int, list[TokenLogProbabilities]]) -> None:
        if on_batch is not None:
            on_batch({number: [_summed(tokens) for tokens in group] for number, group in fresh.items()})

    found = _log_probabilities(lm, groups, token_budget, progress, on_tokens, forward)
    return [[_summed(tokens) for tokens in group] for group in found]


def token_log_likelihoods(
    lm: LanguageModel,
    groups: Sequence[Sequence[tuple[str, str]]],
    *,
    token_budget: int = TOKEN_BUDGET,
    progress: Progress | None = None,
    on_batch: Callable[[Mapping[int, list[TokenLogProbabilities]]], None] | None = None,
    forward: CausalForward | None = None,
) -> list[list[TokenLogProbabilities]]:
    """The log-probability of every token of every (prompt, continuation) pair of every group, in their order.

    Prompt and continuation are tokenized jointly, with one space between them that belongs to the continuation. What
    a group's members have in common before their continuations is computed once, and so is what all pairs have in
    common. A batch holds about `token_budget` tokens. `progress` counts pairs.

    After an empty prompt, the first token follows the beginning-of-text token. Where the tokenizer adds none, the first
    token has nothing before it and is not scored: a continuation of one token then gives ().

    Args:
        on_batch: called after every batch with the groups that it completed, by the group's number.
        forward: replaces the plain call of the model.

    Raises:
        AuditError: a continuation is empty, or a pair does not fit into the context.
    """
    joined = [
        [
            _joined(lm, prompt, continuation, f"Prompt {number} with continuation {i}", empty_prompt=True)
            for i, (prompt, continuation) in enumerate(group)
        ]
        for number, group in enumerate(groups)
    ]
    return _log_probabilities(lm, joined, token_budget, progress, on_batch, forward)


def verbatim_scores(
    lm: LanguageModel,
    groups: Sequence[Sequence[tuple[str, str]]],
    *,
    token_budget: int = TOKEN_BUDGET,
    progress: Progress | None = None,
    on_batch: Callable[[Mapping[int, list[ScoredTokens]]], None] | None = None,
    forward: CausalForward | None = None,
) -> list[list[ScoredTokens]]:
    """Score every (prompt, continuation) pair of every group as `join_verbatim` joins and divides it.

    Otherwise as `token_log_likelihoods`, with a hit or miss for each token.

    Raises:
        AuditError: a continuation has no tokens, or a pair does not fit into the context.
    """
    joined: list[list[Continuation]] = []
    for number, group in enumerate(groups):
        joined.append([])
        for i, (prompt, continuation) in enumerate(group):
            tokens = join_verbatim(lm.tokenizer, lm.full_prompt(prompt), continuation)
            require_room(lm, tokens.ids, f"Prompt {number} with continuation {i}", prompt or continuation)
            joined[-1].append(Continuation(tokens.ids, tokens.prompt_length))
    return score_continuations(
        lm, joined, token_budget=token_budget, progress=progress, on_batch=on_batch, forward=forward
    )


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

    Hits are easier than generating the target: an error does not change the tokens that follow it.

    Raises:
        AuditError: a target is empty, or a pair does not fit into the context.
    """
    groups = [[_joined(lm, prompt, target, f"Pair {number}")] for number, (prompt, target) in enumerate(pairs)]
    scores = score_continuations(lm, groups, token_budget=token_budget, progress=progress)
    return [
        TeacherForced(_summed(one.log_probabilities), len(one.hits), one.hits, one.predictions) for (one,) in scores
    ]


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
        AuditError: a text is empty or longer than the model's context.
    """
    groups = []
    for number, text in enumerate(texts):
        ids = tuple(encode(lm.tokenizer, text))
        require_room(lm, ids, f"Text {number}", text)
        groups.append([Continuation(ids, 1)] if len(ids) > 1 else [])
    scores = score_continuations(lm, groups, token_budget=token_budget, progress=progress)
    values = [group[0].log_probabilities if group else () for group in scores]
    return [(0.0 - _summed(one), len(one)) for one in values]


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
            f"Perplexity needs a text of at least two tokens, but all {len(texts)} texts are shorter; "
            "give a longer text."
        )
    mean = sum(value for value, _ in likelihoods) / predicted
    try:
        return math.exp(mean)
    except OverflowError:
        return math.inf


def _joined(lm: LanguageModel, prompt: str, target: str, what: str, *, empty_prompt: bool = False) -> Continuation:
    """Tokenize prompt and target jointly and check that they fit; `what` names them in an error.

    With `empty_prompt`, an empty prompt needs no beginning-of-text token.
    """
    full_prompt = lm.full_prompt(prompt)
    tokens = join(lm.tokenizer, full_prompt, target)
    require_room(lm, tokens.ids, what, prompt)
    if empty_prompt and not full_prompt.strip(" "):
        return Continuation(tokens.ids, max(tokens.prompt_length, 1))
    require_room(lm, tokens.prompt_ids, f"The prompt of {what[:1].lower()}{what[1:]}", prompt)
    return Continuation(tokens.ids, tokens.prompt_length)


def _log_probabilities(
    lm: LanguageModel,
    groups: Sequence[Sequence[Continuation]],
    token_budget: int,
    progress: Progress | None,
    on_batch: Callable[[Mapping[int, list[TokenLogProbabilities]]], None] | None,
    forward: CausalForward | None,
) -> list[list[TokenLogProbabilities]]:
    """The log-probabilities alone of `score_continuations`."""

    def on_scores(fresh: Mapping[int, list[ScoredTokens]]) -> None:
        if on_batch is not None:
            on_batch({number: [one.log_probabilities for one in group] for number, group in fresh.items()})

    scores = score_continuations(
        lm, groups, token_budget=token_budget, progress=progress, on_batch=on_scores, forward=forward
    )
    return [[one.log_probabilities for one in group] for group in scores]


def _summed(values: TokenLogProbabilities) -> float:
    """The log-probability of all tokens together, or NaN."""
    # fsum raises on inf + -inf; NaN and -inf need no exact sum.
    return math.fsum(values) if all(math.isfinite(value) for value in values) else sum(values)
