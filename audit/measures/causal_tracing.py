"""Causal tracing (Meng et al. 2022, section 2.1): where in a model is a fact recalled?

The subject's embeddings are drowned in noise, then one clean hidden state is put back, at one block and one position;
what that restores of the right answer's probability is the indirect effect of that state.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from audit.models.anatomy import module_at
from audit.models.language_model import LanguageModel
from audit.models.tokens import encode, join, subject_last

NOISE_SCALE = 3.0  # standard deviations of the embeddings, as in the paper
NOISE_SEED = 0


@dataclass(frozen=True)
class KnownFact:
    """A fact that the model knows: `prompt` has a `{}` for the subject and ends where the answer begins."""

    prompt: str
    subject: str
    answer: str


@dataclass(frozen=True)
class Trace:
    """Mean probabilities of the right answer's first token over the traced facts; one entry a block in the lists."""

    facts: int
    clean: float
    corrupted: float
    subject_last: tuple[float, ...]  # with the clean state put back at the subject's last token
    prompt_last: tuple[float, ...]  # with the clean state put back at the prompt's last token


@contextmanager
def _hooked(hooks: Sequence[torch.utils.hooks.RemovableHandle]) -> Iterator[None]:
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


@torch.no_grad()
def trace_facts(lm: LanguageModel, facts: Sequence[KnownFact]) -> Trace:
    """Trace each fact. One forward pass a fact: every restored state is a row of its batch."""
    depth = lm.anatomy.depth
    embeddings = lm.model.get_input_embeddings()
    spread = float(embeddings.weight.std()) * NOISE_SCALE  # type: ignore[operator]
    generator = torch.Generator().manual_seed(NOISE_SEED)
    total = torch.zeros(2 + 2 * depth)
    for fact in facts:
        joined = join(lm.tokenizer, fact.prompt.replace("{}", fact.subject), fact.answer)
        last = subject_last(lm.tokenizer, fact.prompt, fact.subject)
        ids = torch.tensor(joined.prompt_ids, device=lm.device)
        first = len(encode(lm.tokenizer, fact.prompt.split("{}")[0].rstrip(" ")))  # of the subject's tokens
        noise = torch.randn(last - first + 1, lm.anatomy.hidden_size, generator=generator) * spread
        # Row 0 is clean, row 1 corrupted; the others are corrupted, with one clean state put back.
        places = [(block, position) for position in (last, len(ids) - 1) for block in range(depth)]
        total += _probabilities(lm, ids, first, noise, places)[:, joined.target_ids[0]].cpu()
    mean = (total / len(facts)).tolist()
    return Trace(len(facts), mean[0], mean[1], tuple(mean[2 : 2 + depth]), tuple(mean[2 + depth :]))


def _probabilities(
    lm: LanguageModel, ids: Tensor, first: int, noise: Tensor, places: Sequence[tuple[int, int]]
) -> Tensor:
    """Next-token probabilities, (2 + places, vocabulary)."""

    def corrupt(module: object, inputs: object, output: Tensor) -> Tensor:
        output = output.clone()  # (rows, time, hidden)
        output[1:, first : first + len(noise)] += noise.to(output)
        return output

    def restore(block: int) -> object:
        rows = [(row, position) for row, (at, position) in enumerate(places, start=2) if at == block]

        def hook(module: object, inputs: object, output: Tensor | tuple[Tensor, ...]) -> object:
            hidden = output[0] if isinstance(output, tuple) else output  # (rows, time, hidden)
            hidden = hidden.clone()
            for row, position in rows:
                hidden[row, position] = hidden[0, position]
            return (hidden, *output[1:]) if isinstance(output, tuple) else hidden

        return hook

    hooks = [lm.model.get_input_embeddings().register_forward_hook(corrupt)]
    for block, path in enumerate(lm.anatomy.blocks):
        hooks.append(module_at(lm.model, path).register_forward_hook(restore(block)))  # type: ignore[arg-type]
    rows = ids.repeat(2 + len(places), 1)
    with _hooked(hooks):
        logits = lm.model(input_ids=rows, attention_mask=torch.ones_like(rows), use_cache=False).logits
    return logits[:, -1].float().softmax(-1)  # type: ignore[no-any-return]
