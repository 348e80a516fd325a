"""The reference for the engine: one sequence at a time, no padding, no cache, every logit computed."""

import random

import torch
from torch import Tensor

from audit.engine import Decoding
from audit.models.language_model import LanguageModel
from audit.models.tokens import encode
from tests.tiny_models import CORPUS

BUDGETS = (1, 90, 400, 8192)  # one prompt a batch, two or three, several, all


def mixed_prompts(count: int, *, seed: int = 0) -> list[str]:
    """Prompts of very different lengths; the last equals the first."""
    words = " ".join(CORPUS).split(" ")
    rng = random.Random(seed)
    prompts = []
    for _ in range(count - 1):
        start = rng.randrange(len(words) - 1)
        prompts.append(" ".join(words[start : start + rng.choice((1, 2, 3, 5, 8, 13, 21))]))
    return [*prompts, prompts[0]]


@torch.no_grad()
def full_logits(lm: LanguageModel, ids: list[int]) -> Tensor:
    """Logits of every position, (tokens, vocabulary)."""
    logits: Tensor = lm.model(input_ids=torch.tensor([ids])).logits[0]
    return logits


def greedy_ids(lm: LanguageModel, prompt: str, count: int, ends: frozenset[int]) -> list[int]:
    """New tokens, computed from the whole sequence at every step; an end-of-text token is the last."""
    prompt_ids = encode(lm.tokenizer, prompt)
    new: list[int] = []
    while len(new) < count and not ends.intersection(new):
        new.append(int(full_logits(lm, prompt_ids + new)[-1].argmax()))
    return new


def greedy_text(lm: LanguageModel, prompt: str, decoding: Decoding, ends: frozenset[int]) -> str:
    """The text of those tokens, decoded again after every token to look for stop strings."""
    new = [token for token in greedy_ids(lm, prompt, decoding.max_new_tokens, ends) if token not in ends]
    text = ""
    for length in range(1, len(new) + 1):
        text = lm.tokenizer.decode(new[:length], skip_special_tokens=True)
        starts = [text.index(stop) for stop in decoding.stop if stop in text]
        if starts:
            return text[: min(starts)]
    return text


def token_log_probabilities(lm: LanguageModel, ids: list[int], start: int) -> list[float]:
    """log p of the tokens from `start` on, each given all before it."""
    log_probabilities = full_logits(lm, ids).double().log_softmax(dim=-1)
    return [float(log_probabilities[i - 1, ids[i]]) for i in range(start, len(ids))]
