"""Which continuation a model likes best: the log-likelihood of every choice after its prompt."""

from collections.abc import Callable, Mapping, Sequence
from math import fsum, isfinite

from audit.engine.batching import TOKEN_BUDGET, require_room
from audit.engine.continuations import Continuation, ScoredTokens, score_continuations
from audit.engine.forward import CausalForward
from audit.errors import AuditError
from audit.models.language_model import LanguageModel
from audit.models.tokens import join
from audit.progress import Progress


def rank(
    lm: LanguageModel,
    prompts: Sequence[str],
    choices: Sequence[Sequence[str]],
    *,
    token_budget: int = TOKEN_BUDGET,
    progress: Progress | None = None,
    answered: Callable[[Mapping[int, list[float]]], None] | None = None,
    forward: CausalForward | None = None,
) -> list[list[float]]:
    """The log-likelihood of each of a prompt's choices: natural, summed over its tokens, not divided by their number.

    Prompt and choice are tokenised jointly, with one space between them that belongs to the choice. Returns one list a
    prompt, in the order of its choices; a value is NaN when the model's logits were not finite. A batch holds about
    `token_budget` tokens; the beginning that a prompt's choices share is computed once. `progress` counts choices;
    `answered` is told of every finished batch, by number of the prompt, before the next one begins. `forward` calls
    the model where it is not to be called plainly.

    Raises:
        AuditError: a prompt has no choices, or prompt and choice do not fit into the context.
    """
    groups = []
    for number, (prompt, options) in enumerate(zip(prompts, choices, strict=True)):
        if not options:
            raise AuditError(f"Prompt {number} ({prompt[:60]!r}) has no choices to rank; give it at least one.")
        groups.append(
            [joined(lm, prompt, option, f"Prompt {number} with choice {i}") for i, option in enumerate(options)]
        )

    def scored(fresh: Mapping[int, list[ScoredTokens]]) -> None:
        if answered is not None:
            answered({number: [summed(tokens) for tokens in group] for number, group in fresh.items()})

    scores = score_continuations(
        lm, groups, token_budget=token_budget, progress=progress, scored=scored, forward=forward
    )
    return [[summed(tokens) for tokens in group] for group in scores]


def joined(lm: LanguageModel, prompt: str, target: str, what: str) -> Continuation:
    """Tokenise prompt and target together and check that they can be scored; `what` names them in an error."""
    tokens = join(lm.tokenizer, lm.full_prompt(prompt), target)
    require_room(lm, tokens.ids, what, prompt)
    require_room(lm, tokens.prompt_ids, f"The prompt of {what[:1].lower()}{what[1:]}", prompt)
    return Continuation(tokens.ids, tokens.prompt_length)


def summed(tokens: ScoredTokens) -> float:
    """The log-probability of all scored tokens together, or NaN."""
    # fsum refuses a mixture of infinities; NaN and -inf need no exact sum.
    exact = all(isfinite(value) for value in tokens.log_probabilities)
    return fsum(tokens.log_probabilities) if exact else sum(tokens.log_probabilities)
