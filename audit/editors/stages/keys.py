"""Keys k*: the input of an MLP's down projection at the subject's last token, averaged over prefix contexts.

    contexts = Contexts((("", *sample_prefixes(lm, ("",), 20, 10, seed=0)),))
    keys = context_keys(lm, requests, contexts, layer, token_budget)
    keys.mean, keys.bare, keys.bare_output  # k̄ (requests, inner), k₀ (requests, inner), W k₀ (requests, hidden)

Prefix contexts are short texts before the prompt, so that an edit does not depend on how a text begins (ROME, section
3.1, equation 3). ROME takes the mean over the bare prompt and 20 continuations of "<|endoftext|>". MEMIT takes the mean
of two group means: the bare prompt, and five continuations of common sentence openings. Contexts belong to an editor
object and are sampled with its seed: the same model gives the same contexts.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from audit.edits.requests import EditRequest
from audit.engine.prefix_cache import split
from audit.engine.sequences import EditSequence, prompt_sequence, within_budget
from audit.engine.taps import tapped
from audit.errors import AuditError
from audit.models.forward_overrides import activations_fused
from audit.models.language_model import LanguageModel
from audit.models.tokens import encode

OPENINGS = ("The", "Therefore", "Because", "I", "You")
_TOP_K = 5


@dataclass(frozen=True)
class Contexts:
    """Groups of prefixes. The first prefix of the first group is "", the bare prompt.

    A prefix is put before the filled prompt without formatting, so it may contain braces.
    """

    groups: tuple[tuple[str, ...], ...]

    def __post_init__(self) -> None:
        if not self.groups or not all(self.groups) or self.groups[0][0] != "":
            raise AuditError(f'The first prefix context must be "", the bare prompt; got {self.groups!r}.')

    @property
    def prefixes(self) -> tuple[str, ...]:
        return tuple(prefix for group in self.groups for prefix in group)

    @property
    def weights(self) -> tuple[float, ...]:
        """The weight of each prefix in the mean of the group means; they sum to one."""
        return tuple(1 / len(group) / len(self.groups) for group in self.groups for _ in group)


BARE = Contexts((("",),))


@dataclass(frozen=True)
class ContextKeys:
    """Keys of one layer, in float32, one row a request.

    Attributes:
        mean: k̄, the mean of the group means over the contexts, (requests, inner_size).
        bare: k₀, the key of the bare prompt, (requests, inner_size).
        bare_output: W k₀ (+ bias), the down projection's output for k₀, (requests, hidden_size).
    """

    mean: Tensor
    bare: Tensor
    bare_output: Tensor


def context_keys(
    lm: LanguageModel, requests: Sequence[EditRequest], contexts: Contexts, layer: int, token_budget: int
) -> ContextKeys:
    """The keys of `requests` at `layer`, in one pass over all contexts."""
    down = lm.anatomy.down_projections[layer]
    sequences = [prompt_sequence(lm, request, prefix) for request in requests for prefix in contexts.prefixes]
    states = lookup_states(lm, sequences, inputs=[down], outputs=[down], stop=down, token_budget=token_budget)
    count = len(contexts.prefixes)
    by_context = states.inputs[down].view(len(requests), count, -1)  # (requests, contexts, inner)
    weights = torch.tensor(contexts.weights, device=by_context.device)  # (contexts,)
    mean = torch.einsum("rci,c->ri", by_context, weights)  # (requests, inner)
    return ContextKeys(mean, by_context[:, 0], states.outputs[down][::count])


def mean_keys(
    lm: LanguageModel, requests: Sequence[EditRequest], contexts: Contexts, layer: int, token_budget: int
) -> Tensor:
    """The mean keys k̄ of `requests` at `layer`, (requests, inner_size) in float32."""
    return context_keys(lm, requests, contexts, layer, token_budget).mean


@dataclass(frozen=True)
class LookupStates:
    """Inputs and outputs of modules at each sequence's lookup, (sequences, width) in float32, by module path."""

    inputs: dict[str, Tensor]
    outputs: dict[str, Tensor]


def lookup_states(
    lm: LanguageModel,
    sequences: Sequence[EditSequence],
    *,
    inputs: Collection[str] = (),
    outputs: Collection[str] = (),
    stop: str,
    token_budget: int,
) -> LookupStates:
    """Run every sequence up to its lookup and up to module `stop`; later tokens and modules cannot change the result.

    All states are returned on `lm.device`, also those of modules on other devices.
    """
    cut = [sequence.until_lookup() for sequence in sequences]
    states: dict[tuple[bool, str], list[Tensor]] = {(True, path): [] for path in inputs}
    states |= {(False, path): [] for path in outputs}
    order: list[int] = []
    for group in within_budget(cut, token_budget):
        rows = split(lm, [cut[index] for index in group], stop)
        with (
            activations_fused(lm),
            tapped(lm, len(group), inputs=inputs, outputs=outputs, stop=stop, column=rows.rest.lookup) as taps,
        ):
            rows.run(lm)
        for (is_input, path), parts in states.items():
            parts.append((taps.inputs if is_input else taps.outputs)[path].to(lm.device, torch.float32))
        order += group
    back = torch.tensor(order, device=lm.device).argsort()
    joined = {place: torch.cat(parts)[back] for place, parts in states.items()}  # (sequences, width) each
    return LookupStates(
        {path: states for (is_input, path), states in joined.items() if is_input},
        {path: states for (is_input, path), states in joined.items() if not is_input},
    )


def sample_prefixes(lm: LanguageModel, openings: Sequence[str], count: int, length: int, seed: int) -> tuple[str, ...]:
    """Sample `count` texts of `length` new tokens each (top-5), as "<text>. "; `openings` are used in turn.

    An empty opening starts from the BOS token (EOS if there is none). Special tokens are never sampled.
    """
    starts = [_start_ids(lm, openings[index % len(openings)]) for index in range(count)]
    texts = [""] * count
    generator = torch.Generator().manual_seed(seed)
    for size in sorted({len(start) for start in starts}):  # equal lengths in one batch, so there is no padding
        chosen = [index for index, start in enumerate(starts) if len(start) == size]
        rows = torch.tensor([starts[index] for index in chosen], device=lm.device)  # (chosen, size)
        for index, ids in zip(chosen, _sample(lm, rows, length, generator).tolist(), strict=True):
            text = " ".join(str(lm.tokenizer.decode(ids, skip_special_tokens=True)).split())
            texts[index] = f"{text}. " if text else ""
    return tuple(texts)


def _start_ids(lm: LanguageModel, opening: str) -> list[int]:
    if opening:
        return encode(lm.tokenizer, opening)
    start = lm.tokenizer.bos_token_id if lm.tokenizer.bos_token_id is not None else lm.tokenizer.eos_token_id
    return [int(start)] if start is not None else encode(lm.tokenizer, OPENINGS[0])


@torch.no_grad()
def _sample(lm: LanguageModel, rows: Tensor, length: int, generator: torch.Generator) -> Tensor:
    """Append `length` sampled tokens to rows (rows, tokens) of equal length."""
    banned = torch.tensor(sorted(set(lm.tokenizer.all_special_ids)), dtype=torch.long, device=lm.device)
    for _ in range(length):
        positions = torch.arange(rows.shape[1], device=rows.device).expand_as(rows)
        output = lm.model(
            input_ids=rows,
            attention_mask=torch.ones_like(rows),
            position_ids=positions,
            use_cache=False,
            logits_to_keep=1,
        )
        logits = output.logits[:, -1].float()  # (rows, vocabulary)
        logits[:, banned] = -torch.inf
        best, tokens = logits.topk(min(_TOP_K, logits.shape[1]), dim=-1)  # (rows, top_k)
        if not bool(torch.isfinite(best).all()):
            raise AuditError(
                f"the model {lm.name!r} gives logits that are not finite, so no prefix contexts can be sampled; "
                "load it with dtype float32."
            )
        # Sampled on the CPU, so that one seed gives the same texts on every device (up to rounding).
        drawn = torch.multinomial(best.softmax(-1).cpu(), 1, generator=generator).to(rows.device)  # (rows, 1)
        rows = torch.cat([rows, tokens.gather(1, drawn)], dim=1)  # (rows, tokens + 1)
    return rows
