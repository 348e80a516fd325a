"""How far an edit changed a model's continuation of a prompt that it should not affect.

    (found,) = contrast(lm, [patch], ["Kara Quinwick was born in"])
    found.divergence, found.base.answer, found.edited.answer

The measure is the Jensen-Shannon divergence in nats between the next-token distributions of both models: JS(p, q) =
KL(p, m) / 2 + KL(q, m) / 2 with m = (p + q) / 2 (Lin 1991). Unlike KL it is between 0 and ln 2 even if a token has
probability zero, so one bound works for every model and vocabulary. It bounds the total variation TV, the largest
change in the probability of any set of next tokens: TV² / 2 <= JS <= ln 2 · TV.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from audit.engine.batching import TOKEN_BUDGET, pack, run_batches
from audit.engine.forward import CausalForward
from audit.engine.generation import end_tokens, prompt_ids
from audit.engine.prefill import prefill
from audit.models.language_model import LanguageModel
from audit.models.patches import Patch

ANSWER_TOKENS = 4  # length of the greedy answers that are compared
SHOWN = 4  # most likely next tokens shown in a report
SURE = 0.5  # an answer with at least this probability is not a near tie that a tiny change may flip
MOST_DIVERGENT = math.log(2)


@dataclass(frozen=True)
class GreedyAnswer:
    """One model's greedy answer to a prompt, and the next tokens that it finds likely.

    `answer` has up to `ANSWER_TOKENS` tokens, or ends at an end of text. `probability` is p(answer | prompt), the
    product over its tokens, end of text included. `likely` are the most likely next tokens as text, with their
    probabilities. Probabilities are NaN if logits are not finite.
    """

    answer: str
    probability: float
    likely: tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class Contrast:
    """The answers to one prompt of the base and the edited model; of several edited models, the most divergent.

    `divergence` is in nats, from 0 to ln 2; ln 2 also if logits are not finite.
    """

    prompt: str
    divergence: float
    base: GreedyAnswer
    edited: GreedyAnswer

    @property
    def answer_changed(self) -> bool:
        """Whether the greedy answer changed, although the base model was sure of its own."""
        return self.base.answer != self.edited.answer and self.base.probability >= SURE

    def disturbed(self, max_divergence: float) -> bool:
        """Whether the divergence exceeds the bound, or a sure answer changed."""
        return self.divergence > max_divergence or self.answer_changed

    def message(self, max_divergence: float) -> str:
        """The message of a failed test: the prompt, both answers, and an `@example` line that repeats it."""
        reason = f"above the bound of {max_divergence:g}"
        if self.divergence <= max_divergence:
            reason = (
                f"within the bound of {max_divergence:g}, but the base model was sure of its answer "
                f"({self.base.probability:.2f})"
            )
        return "\n".join(
            (
                f"no edit concerns this prompt: {self.prompt!r}",
                f"  divergence: {self.divergence:.3f} nats, {reason}",
                f"  base:       {_shown(self.base)}",
                f"  edited:     {_shown(self.edited)}",
                "  to test it in every run, paste this line above @given:",
                f"    @example(prompt={self.prompt!r})",
            )
        )


def contrast(lm: LanguageModel, patches: Sequence[Patch], prompts: Sequence[str]) -> list[Contrast]:
    """Compare the base model with each edited one on every prompt, in batches; each patch is applied once.

    Returns one contrast per prompt, in order. The model is left as it was, bit for bit.

    Raises:
        AuditError: a prompt is empty, or does not fit into the model's context.
    """
    asked = [prompt.rstrip(" ") for prompt in prompts]  # the next token starts with a space
    base = _outputs(lm, asked)
    furthest: list[Contrast] = []
    for patch in patches:
        with patch.applied(lm):
            edited = _outputs(lm, asked)
        found = [
            Contrast(prompt, jensen_shannon(before.log_probs, after.log_probs), before.answer, after.answer)
            for prompt, before, after in zip(prompts, base, edited, strict=True)
        ]
        pairs = zip(furthest, found, strict=True) if furthest else ((one, one) for one in found)
        furthest = [max(pair, key=lambda one: (one.divergence, one.answer_changed)) for pair in pairs]
    return furthest


def jensen_shannon(log_p: Tensor, log_q: Tensor) -> float:
    """The Jensen-Shannon divergence in nats of two (vocabulary,) log-probability vectors; ln 2 if not finite."""
    if torch.equal(log_p, log_q):
        return 0.0
    log_m = torch.logaddexp(log_p, log_q) - math.log(2)  # (vocabulary,)
    # A probability of 0 contributes 0, although its logarithm is not finite.
    terms = [torch.where(one.exp() > 0, one.exp() * (one - log_m), 0.0).sum() for one in (log_p, log_q)]
    divergence = float(terms[0] + terms[1]) / 2
    if not (torch.isfinite(log_p.exp()).all() and torch.isfinite(log_q.exp()).all() and math.isfinite(divergence)):
        return MOST_DIVERGENT
    return min(max(divergence, 0.0), MOST_DIVERGENT)


@dataclass(frozen=True, eq=False)
class _Output:
    log_probs: Tensor  # (vocabulary,), float64, on the CPU
    answer: GreedyAnswer


def _outputs(lm: LanguageModel, prompts: Sequence[str]) -> list[_Output]:
    """The next-token distribution and greedy answer of the current model after every prompt."""
    rows = [prompt_ids(lm, prompt, f"Prompt {number}") for number, prompt in enumerate(prompts)]
    outputs: dict[int, _Output] = {}
    forward = CausalForward(lm)

    def run(batch: list[int]) -> None:
        outputs.update(zip(batch, _batch_outputs(forward, [rows[number] for number in batch]), strict=True))

    run_batches(pack([len(row) + ANSWER_TOKENS for row in rows], TOKEN_BUDGET), run)
    return [outputs[number] for number in range(len(prompts))]


def _batch_outputs(forward: CausalForward, rows: Sequence[tuple[int, ...]]) -> list[_Output]:
    read = prefill(forward, rows)
    mask, logits = read.mask, read.logits  # (rows, width), (rows, vocabulary)
    first = torch.log_softmax(logits.double(), dim=-1)  # (rows, vocabulary)
    tokens, scores = [], []
    step = first
    for number in range(ANSWER_TOKENS):
        score, token = step.max(dim=-1)  # (rows,) twice
        tokens.append(token)
        scores.append(score)
        if number + 1 < ANSWER_TOKENS:
            mask = torch.cat([mask, mask.new_ones(len(rows), 1)], dim=1)
            step = torch.log_softmax(forward(token[:, None], mask, read.cache, keep=1)[:, -1].double(), dim=-1)
    answers = torch.stack(tokens, dim=1).tolist()  # (rows, ANSWER_TOKENS)
    log_probs = torch.stack(scores, dim=1).tolist()  # (rows, ANSWER_TOKENS)
    top = first.exp().topk(SHOWN, dim=-1)  # (rows, SHOWN) twice
    most_likely = [list(zip(*row, strict=True)) for row in zip(top.indices.tolist(), top.values.tolist(), strict=True)]
    found = zip(answers, log_probs, most_likely, strict=True)
    return [_Output(row, _greedy_answer(forward.lm, *one)) for row, one in zip(first.cpu(), found, strict=True)]


def _greedy_answer(
    lm: LanguageModel, ids: list[int], scores: list[float], most_likely: list[tuple[int, float]]
) -> GreedyAnswer:
    ends = end_tokens(lm)
    length = next((place for place, token in enumerate(ids) if token in ends), len(ids))
    probability = math.exp(sum(scores[: length + 1]))
    return GreedyAnswer(
        _text(lm, ids[:length]), probability, tuple((_text(lm, [token]), p) for token, p in most_likely)
    )


def _text(lm: LanguageModel, ids: list[int]) -> str:
    return str(lm.tokenizer.decode(ids))


def _shown(found: GreedyAnswer) -> str:
    likely = ", ".join(f"{token!r} {probability:.2f}" for token, probability in found.likely)
    return f"answer {found.answer!r}; next tokens {likely}"
