"""How far an edit moved what a model says right after a prompt that the edit should have left alone.

    (found,) = contrast(lm, [patch], ["Kara Quinwick was born in"])
    found.divergence, found.base.answer, found.edited.answer

The divergence is that of Jensen and Shannon between both distributions of the next token, in nats:
JS(p, q) = KL(p, m) / 2 + KL(q, m) / 2 with m = (p + q) / 2 (Lin 1991). Unlike KL it lies between 0 and
ln 2 whatever an edit did, also where one model gives a token no probability at all, so that one bound serves every
model and vocabulary. It bounds what can be seen of a change: TV^2 / 2 <= JS <= ln 2 TV, where the total variation TV is
the largest change in the probability of anything that the next token may be.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from audit.engine.batching import TOKEN_BUDGET, pack, run_batches
from audit.engine.forward import CausalForward
from audit.engine.generation import end_tokens, prompt_ids
from audit.engine.prompts import read_prompts
from audit.models.language_model import LanguageModel
from audit.models.patches import Patch

ANSWER_TOKENS = 4  # the greedy answer that is compared
SHOWN = 4  # the likeliest next tokens that a report shows
SURE = 0.5  # an answer at least this likely is the likeliest of all: no near tie that any change may tip
MOST_DIVERGENT = math.log(2)


@dataclass(frozen=True)
class Said:
    """What one state of the model says after a prompt.

    `answer` is greedy, up to `ANSWER_TOKENS` tokens or an end of text; `probability` is p(answer | prompt), the product
    over its tokens, the end included.
    `likely` are the likeliest next tokens, as text, with their probabilities. NaN where logits are not finite.
    """

    answer: str
    probability: float
    likely: tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class Contrast:
    """Base and edited model after one prompt; of several edited models, the one that went furthest.

    `divergence` is in nats, from 0 to ln 2; ln 2 too where logits are not finite.
    """

    prompt: str
    divergence: float
    base: Said
    edited: Said

    @property
    def answer_changed(self) -> bool:
        """Whether the greedy answer is another, although the base model was sure of its own."""
        return self.base.answer != self.edited.answer and self.base.probability >= SURE

    def disturbed(self, max_divergence: float) -> bool:
        """Whether the law is broken here: the divergence exceeds the bound, or a sure answer changed."""
        return self.divergence > max_divergence or self.answer_changed

    def told(self, max_divergence: float) -> str:
        """What a failing test says: the prompt, both models' next tokens, and the line that asks it again."""
        law = f"above the bound of {max_divergence:g}"
        if self.divergence <= max_divergence:
            law = (
                f"within the bound of {max_divergence:g}, but base was sure of its answer ({self.base.probability:.2f})"
            )
        return "\n".join(
            (
                f"no edit touched this prompt: {self.prompt!r}",
                f"  divergence: {self.divergence:.3f} nats, {law}",
                f"  base:       {_shown(self.base)}",
                f"  edited:     {_shown(self.edited)}",
                "  to ask it in every run, paste this line above @given:",
                f"    @example(prompt={self.prompt!r})",
            )
        )


def contrast(lm: LanguageModel, patches: Sequence[Patch], prompts: Sequence[str]) -> list[Contrast]:
    """Ask the untouched model and each edited one every prompt, in batches; a patch is applied once for all prompts.

    The model is left as it was found, bit for bit.

    Raises:
        AuditError: a prompt is empty, or does not fit into the model's context.
    """
    asked = [prompt.rstrip(" ") for prompt in prompts]  # the next token brings its own blank
    base = _listen(lm, asked)
    furthest: list[Contrast] = []
    for patch in patches:
        with patch.applied(lm):
            edited = _listen(lm, asked)
        found = [
            Contrast(prompt, jensen_shannon(before.log_probs, after.log_probs), before.said, after.said)
            for prompt, before, after in zip(prompts, base, edited, strict=True)
        ]
        pairs = zip(furthest, found, strict=True) if furthest else ((one, one) for one in found)
        furthest = [max(pair, key=lambda one: (one.divergence, one.answer_changed)) for pair in pairs]
    return furthest


def jensen_shannon(log_p: Tensor, log_q: Tensor) -> float:
    """The Jensen-Shannon divergence in nats of two (vocabulary,) rows of log-probabilities; ln 2 if not finite."""
    if torch.equal(log_p, log_q):
        return 0.0
    log_m = torch.logaddexp(log_p, log_q) - math.log(2)  # (vocabulary,)
    # Where a probability is 0 its term is 0, although its logarithm is not finite.
    terms = [torch.where(one.exp() > 0, one.exp() * (one - log_m), 0.0).sum() for one in (log_p, log_q)]
    divergence = float(terms[0] + terms[1]) / 2
    if not (torch.isfinite(log_p.exp()).all() and torch.isfinite(log_q.exp()).all() and math.isfinite(divergence)):
        return MOST_DIVERGENT
    return min(max(divergence, 0.0), MOST_DIVERGENT)


@dataclass(frozen=True, eq=False)
class _Heard:
    log_probs: Tensor  # (vocabulary,), float64, on the CPU
    said: Said


def _listen(lm: LanguageModel, prompts: Sequence[str]) -> list[_Heard]:
    """What the model as it is now says after every prompt."""
    rows = [prompt_ids(lm, prompt, f"Prompt {number}") for number, prompt in enumerate(prompts)]
    heard: dict[int, _Heard] = {}
    forward = CausalForward(lm)

    def run(batch: list[int]) -> None:
        heard.update(zip(batch, _listen_batch(forward, [rows[number] for number in batch]), strict=True))

    run_batches(pack([len(row) + ANSWER_TOKENS for row in rows], TOKEN_BUDGET), run)
    return [heard[number] for number in range(len(prompts))]


def _listen_batch(forward: CausalForward, rows: Sequence[tuple[int, ...]]) -> list[_Heard]:
    read = read_prompts(forward, rows)
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
    surenesses = torch.stack(scores, dim=1).tolist()  # (rows, ANSWER_TOKENS)
    top = first.exp().topk(SHOWN, dim=-1)  # (rows, SHOWN) twice
    likeliest = [list(zip(*row, strict=True)) for row in zip(top.indices.tolist(), top.values.tolist(), strict=True)]
    rows_said = zip(answers, surenesses, likeliest, strict=True)
    return [_Heard(row, _said(forward.lm, *one)) for row, one in zip(first.cpu(), rows_said, strict=True)]


def _said(lm: LanguageModel, ids: list[int], scores: list[float], likeliest: list[tuple[int, float]]) -> Said:
    ends = end_tokens(lm)
    length = next((place for place, token in enumerate(ids) if token in ends), len(ids))
    probability = math.exp(sum(scores[: length + 1]))
    return Said(_text(lm, ids[:length]), probability, tuple((_text(lm, [token]), p) for token, p in likeliest))


def _text(lm: LanguageModel, ids: list[int]) -> str:
    return str(lm.tokenizer.decode(ids))


def _shown(said: Said) -> str:
    likely = ", ".join(f"{token!r} {probability:.2f}" for token, probability in said.likely)
    return f"says {said.answer!r}; next {likely}"
