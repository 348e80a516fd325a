"""Ask many prompts with transformers alone, as its documentation shows: the baseline of `asking` and `prefill`.

`generate` decodes greedily in batches of 32 prompts, sorted by length and padded on the left, with its own stop
strings. Options of an item are scored by a plain loop over batches of 32 rows. `generate_batch` is its continuous
batching.
"""

from collections.abc import Sequence
from typing import Any

import torch
from transformers import GenerationConfig

from audit.engine import Decoding
from audit.models.language_model import LanguageModel
from audit.models.tokens import encode, join

BATCH = 32


def plain_texts(lm: LanguageModel, prompts: Sequence[str], decoding: Decoding, **options: Any) -> list[str]:
    """Answers by `generate`; `options` are further ones of its own."""
    encoded = [encode(lm.tokenizer, prompt) for prompt in prompts]
    order = sorted(range(len(prompts)), key=lambda i: len(encoded[i]))
    texts = [""] * len(prompts)
    for start in range(0, len(order), BATCH):
        batch = order[start : start + BATCH]
        width = max(len(encoded[i]) for i in batch)
        ids = torch.tensor([[0] * (width - len(encoded[i])) + encoded[i] for i in batch], device=lm.device)
        mask = torch.tensor([[0] * (width - len(encoded[i])) + [1] * len(encoded[i]) for i in batch], device=lm.device)
        output = lm.model.generate(
            input_ids=ids,
            attention_mask=mask,
            max_new_tokens=decoding.max_new_tokens,
            do_sample=False,
            stop_strings=list(decoding.stop),
            tokenizer=lm.tokenizer,
            pad_token_id=0,
            **options,
        )
        said = lm.tokenizer.batch_decode(output[:, width:], skip_special_tokens=True)
        for i, text in zip(batch, said, strict=True):
            texts[i] = before_stop(text, decoding)
    return texts


def continuous_texts(lm: LanguageModel, prompts: Sequence[str], decoding: Decoding) -> list[str]:
    """Answers by `generate_batch`, which takes no stop strings: every row runs to its limit or its end of text."""
    config = GenerationConfig(
        max_new_tokens=decoding.max_new_tokens, do_sample=False, eos_token_id=lm.tokenizer.eos_token_id, pad_token_id=0
    )
    outputs = lm.model.generate_batch([encode(lm.tokenizer, prompt) for prompt in prompts], generation_config=config)
    ordered = sorted(outputs.values(), key=lambda output: int(output.request_id.rsplit("_", 1)[-1]))
    return [
        before_stop(lm.tokenizer.decode(output.generated_tokens, skip_special_tokens=True), decoding)
        for output in ordered
    ]


def before_stop(text: str, decoding: Decoding) -> str:
    """The text before the first stop string."""
    return text[: min((at for stop in decoding.stop if (at := text.find(stop)) >= 0), default=len(text))]


@torch.no_grad()
def plain_choices(lm: LanguageModel, prompts: Sequence[str], choices: Sequence[Sequence[str]]) -> list[list[float]]:
    """The summed log-likelihood of every choice, each in a row of its own."""
    joined = [
        (number, at, join(lm.tokenizer, prompt, choice))
        for number, (prompt, options) in enumerate(zip(prompts, choices, strict=True))
        for at, choice in enumerate(options)
    ]
    joined.sort(key=lambda one: len(one[2].ids))
    values = [[0.0] * len(options) for options in choices]
    for start in range(0, len(joined), BATCH):
        batch = joined[start : start + BATCH]
        width = max(len(tokens.ids) for _, _, tokens in batch)
        ids = torch.tensor([[*tokens.ids, *[0] * (width - len(tokens.ids))] for _, _, tokens in batch])
        mask = torch.tensor([[1] * len(t.ids) + [0] * (width - len(t.ids)) for _, _, t in batch])
        logits = lm.model(input_ids=ids.to(lm.device), attention_mask=mask.to(lm.device)).logits
        log_p = logits[:, :-1].log_softmax(-1).gather(2, ids[:, 1:, None].to(lm.device))[..., 0]  # (rows, width - 1)
        for row, (number, at, tokens) in zip(log_p, batch, strict=True):
            values[number][at] = float(row[tokens.prompt_length - 1 : len(tokens.ids) - 1].sum())
    return values
