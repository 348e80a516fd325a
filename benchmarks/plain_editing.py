"""ROME, MEMIT and the covariance, written plainly as published: the baseline of `editing`.

The plain code handles one request at a time and puts all its contexts into one right-padded batch. Every step of the
value optimization runs the whole model and computes logits at all positions. Keys and current values take a full
forward pass each. Linear systems are solved by LU in float64. Settings, contexts, tokens and early stopping are those
of the audit. Nothing is slower than in the published code: the second application of the head in MEMIT (to the traced
hidden state of the last block, which equals the first) is left out, no weight requires a gradient, and the initial
state comes from the first step.

Sources: Meng et al. 2022, arXiv 2202.05262 (ROME) and 2210.07229 (MEMIT).
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from time import process_time
from typing import Any

import torch
from torch import Tensor

from audit.editors.methods.memit import MemitSettings
from audit.editors.methods.rome import RomeSettings
from audit.editors.stages.keys import Contexts
from audit.editors.stages.value_loss import ValueSettings
from audit.edits.requests import EditRequest
from audit.engine.sequences import EditSequence, essence_sequence, prompt_sequence, rewriting_sequence
from audit.models.language_model import LanguageModel
from audit.models.originals import originals_kept
from audit.models.tokens import encode


@dataclass
class Stopwatch:
    """Processor seconds by stage, summed over calls."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def timing(self, stage: str) -> Iterator[None]:
        started = process_time()
        try:
            yield
        finally:
            self.seconds[stage] = self.seconds.get(stage, 0.0) + process_time() - started


def padded(sequences: Sequence[EditSequence], device: torch.device) -> tuple[Tensor, Tensor]:
    """Ids and mask, (rows, columns), padded on the right."""
    longest = max(len(sequence.ids) for sequence in sequences)
    ids = torch.tensor([[*sequence.ids, *[0] * (longest - len(sequence.ids))] for sequence in sequences])
    mask = torch.tensor([[1] * len(sequence.ids) + [0] * (longest - len(sequence.ids)) for sequence in sequences])
    return ids.to(device), mask.to(device)


@torch.no_grad()
def states(lm: LanguageModel, path: str, sequences: Sequence[EditSequence]) -> tuple[Tensor, Tensor]:
    """Inputs and outputs of a module at every lookup, (sequences, width), by one whole forward."""
    seen: list[Tensor] = []
    rows = torch.arange(len(sequences), device=lm.device)
    lookups = torch.tensor([sequence.lookup for sequence in sequences], device=lm.device)

    def see(_: Any, args: tuple[Tensor, ...], output: Any) -> None:
        output = output[0] if isinstance(output, tuple) else output
        seen.extend((args[0][rows, lookups].float(), output[rows, lookups].float()))

    hook = lm.model.get_submodule(path).register_forward_hook(see)
    try:
        ids, mask = padded(sequences, lm.device)
        lm.model(input_ids=ids, attention_mask=mask, use_cache=False)
    finally:
        hook.remove()
    return seen[0], seen[1]


def mean_key(lm: LanguageModel, request: EditRequest, contexts: Contexts, layer: int) -> Tensor:
    """The key averaged over contexts, (inner,)."""
    sequences = [prompt_sequence(lm, request, prefix) for prefix in contexts.prefixes]
    keys, _ = states(lm, lm.anatomy.down_projections[layer], sequences)
    return torch.tensor(contexts.weights, device=keys.device) @ keys


def optimized_value(
    lm: LanguageModel, request: EditRequest, contexts: Contexts, path: str, settings: ValueSettings
) -> Tensor:
    """ROME's v* or MEMIT's z, (hidden,): δ is added to the output of module `path` at every lookup."""
    rewriting = [rewriting_sequence(lm, request, prefix) for prefix in contexts.prefixes]
    sequences = [*rewriting, essence_sequence(lm, request)]
    ids, mask = padded(sequences, lm.device)
    rows = torch.arange(len(sequences), device=lm.device)
    lookups = torch.tensor([sequence.lookup for sequence in sequences], device=lm.device)
    labels = torch.full((len(rewriting), ids.shape[1]), -100, device=lm.device)
    for row, sequence in enumerate(rewriting):
        first = sequence.first_label
        labels[row, first : first + len(sequence.labels)] = torch.tensor(sequence.labels, device=lm.device)
    asked = labels != -100

    delta = torch.zeros(lm.anatomy.hidden_size, device=lm.device, requires_grad=True)
    initial: list[Tensor] = []

    def add(_: Any, __: Any, output: Any) -> Any:
        hidden = output[0] if isinstance(output, tuple) else output
        if not initial:
            initial.append(hidden[0, sequences[0].lookup].detach().float().clone())
        hidden = hidden.clone()
        hidden[rows, lookups] += delta.to(hidden.dtype)
        return (hidden, *output[1:]) if isinstance(output, tuple) else hidden

    adam = torch.optim.Adam([delta], lr=settings.learning_rate)
    at_first: Tensor | None = None
    hook = lm.model.get_submodule(path).register_forward_hook(add)
    try:
        for step in range(settings.steps):
            adam.zero_grad()
            logits = lm.model(input_ids=ids, attention_mask=mask, use_cache=False).logits.float()
            now = logits[-1, sequences[-1].lookup].log_softmax(-1)
            at_first = now.detach() if at_first is None else at_first
            log_p = logits[:-1].log_softmax(-1)  # (contexts, columns, vocabulary)
            chosen = log_p.gather(2, labels.clamp(min=0)[..., None])[..., 0]
            nll = -(chosen * asked).sum(1) / asked.sum(1)  # (contexts,)
            kl = torch.nn.functional.kl_div(at_first[None], now[None], log_target=True, reduction="batchmean")
            decay = settings.weight_decay * delta.norm() / initial[0].norm() ** 2
            loss = nll.mean() + settings.kl_factor * kl + decay
            if loss < settings.stop_loss or step == settings.steps - 1:
                break
            loss.backward()  # type: ignore[no-untyped-call]
            adam.step()
            radius = settings.clamp_norm_factor * initial[0].norm()
            if delta.norm() > radius:
                with torch.no_grad():
                    delta *= radius / delta.norm()
    finally:
        hook.remove()
    return initial[0] + delta.detach()


def ridged(moment: Tensor, ridge: float) -> Tensor:
    """C in float64, with the ridge that the settings ask for."""
    moment = moment.double()
    if not ridge:
        return moment
    return moment + ridge * moment.diagonal().mean() * torch.eye(len(moment), dtype=torch.float64, device=moment.device)


def plain_rome(
    lm: LanguageModel, request: EditRequest, contexts: Contexts, moment: Tensor, settings: RomeSettings
) -> dict[str, Tensor]:
    """ROME's change of its one weight, seen as (hidden, inner), in float64."""
    layer = settings.layer
    down = lm.anatomy.down_projections[layer]
    direction = torch.linalg.solve(
        ridged(moment, settings.covariance_ridge), mean_key(lm, request, contexts, layer).double()
    )
    left = direction / direction.norm()
    target = optimized_value(lm, request, contexts, lm.anatomy.mlps[layer], settings)
    key, current = states(lm, down, [prompt_sequence(lm, request)])
    right = (target - current[0]).double() / (key[0].double() @ left)
    return {lm.anatomy.weight_name(layer): torch.outer(right, left)}


def plain_memit(
    lm: LanguageModel,
    requests: Sequence[EditRequest],
    contexts: Contexts,
    moments: Mapping[int, Tensor],
    settings: MemitSettings,
    stopwatch: Stopwatch,
) -> dict[str, Tensor]:
    """MEMIT's changes by weight, seen as (hidden, inner), in float64."""
    layers = settings.layers
    block = lm.anatomy.blocks[layers[-1]]
    with stopwatch.timing("values"):
        targets = torch.stack([optimized_value(lm, request, contexts, block, settings) for request in requests])
    changes: dict[str, Tensor] = {}
    with originals_kept(lm) as originals:
        for written, layer in enumerate(layers):
            with stopwatch.timing("keys"):
                keys = torch.stack([mean_key(lm, request, contexts, layer) for request in requests]).double().T
                current = torch.cat([states(lm, block, [prompt_sequence(lm, request)])[1] for request in requests])
            with stopwatch.timing("solve"):
                residual = ((targets - current) / (len(layers) - written)).double().T  # (hidden, requests)
                system = settings.covariance_weight * ridged(moments[layer], settings.covariance_ridge) + keys @ keys.T
                change = residual @ torch.linalg.solve(system, keys).T
                name = lm.anatomy.weight_name(layer)
                weight = originals.keep(name)
                weight.add_((change.T if lm.anatomy.transposed else change).to(weight.dtype))
                changes[name] = change
    return changes


@torch.no_grad()
def plain_moments(
    lm: LanguageModel, texts: Sequence[str], layers: Sequence[int], longest: int, *, stop_early: bool = False
) -> dict[int, Tensor]:
    """C of every layer, one layer after another, each with its own forward over all texts.

    The forward runs to the end; with `stop_early` it ends at the layer, which the authors' code does too.
    """
    sequences = sorted((encode(lm.tokenizer, text)[:longest] for text in texts), key=len)
    moments: dict[int, Tensor] = {}
    for layer in layers:
        inner = lm.anatomy.inner_size
        total, tokens = torch.zeros(inner, inner, dtype=torch.float64, device=lm.device), 0
        seen: list[Tensor] = []
        down = lm.model.get_submodule(lm.anatomy.down_projections[layer])

        def see(_: Any, args: tuple[Tensor, ...], seen: list[Tensor] = seen) -> None:
            seen.append(args[0])
            if stop_early:
                raise _Enough

        hook = down.register_forward_pre_hook(see)
        try:
            for start in range(0, len(sequences), 100):  # the authors' batch of texts
                ids, mask = padded([EditSequence(tuple(ids), 0) for ids in sequences[start : start + 100]], lm.device)
                with suppress(_Enough):
                    lm.model(input_ids=ids, attention_mask=mask, use_cache=False)
                keys = seen.pop()[mask.bool()].float()  # (tokens, inner)
                total += keys.T @ keys
                tokens += len(keys)
        finally:
            hook.remove()
        moments[layer] = (total / tokens).float()
    return moments


class _Enough(Exception):  # noqa: N818 - control flow
    """Ends a forward pass at the layer."""
