"""The losses of MEND's training: success on rephrased edits, and locality on unrelated text.

    updates = updates_of(lm, network, [[request]])
    with edited_by(lm, updates, groups=1):
        ...  # the edited model, differentiable with respect to the network

The edited model is not built. A hook adds the update Δy = (x x̃ᵀ)(−rate · δ̃) to the output of each map, so that
several edits, each in its own model, share a pass.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from itertools import pairwise
from random import Random
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from audit.editors.mend.network import MendNetwork
from audit.editors.stages.rank_one_gradients import UNLABELED, Logits, gradient_factors, logits_at, padded_targets
from audit.edits.requests import EditRequest, Probe
from audit.engine.batching import padded
from audit.models.language_model import LanguageModel
from audit.models.tokens import encode

TEXT_PASSES = 3  # texts are grouped by length


class MapUpdate(NamedTuple):
    """The update of one linear map for each group: ΔW = valuesᵀ · keys."""

    keys: Tensor  # x̃ (groups, tokens, in)
    values: Tensor  # −rate · δ̃ (groups, tokens, out)


Updates = Mapping[str, MapUpdate]  # by module path


@contextmanager
def edited_by(lm: LanguageModel, updates: Updates, groups: int) -> Iterator[None]:
    """Inside the context, each of the `groups` equal parts of a batch runs with its own update."""
    with ExitStack() as hooks:
        for path, (keys, values) in updates.items():

            def add(
                _: nn.Module, args: tuple[Any, ...], output: Tensor, keys: Tensor = keys, values: Tensor = values
            ) -> Tensor:
                x = args[0].reshape(groups, -1, keys.shape[-1]).float()  # (groups, rows · columns, in)
                change = x @ keys.to(x.device).transpose(1, 2) @ values.to(x.device)  # (groups, rows · columns, out)
                edited: Tensor = output + change.reshape(output.shape).to(output.dtype)
                return edited

            hooks.callback(lm.model.get_submodule(path).register_forward_hook(add).remove)
        yield


def updates_of(
    lm: LanguageModel,
    network: MendNetwork,
    groups: Sequence[Sequence[EditRequest]],
    *,
    collect_statistics: bool = False,
    logits: Logits = logits_at,
) -> Updates:
    """The updates of `network` for each of the equally large groups; optionally adds to the network's statistics.

    `logits` runs the model, like `logits_at`.
    """
    rows = padded_targets(lm, [(request.filled_prompt, request.target_new) for group in groups for request in group])
    device = network.rates.device
    updates: dict[str, MapUpdate] = {}
    for path, factors in gradient_factors(lm, rows, list(network.sizes), logits).factors.items():
        inputs, errors, used = (x.to(device) for x in (factors.inputs, factors.errors, factors.used))
        if collect_statistics:
            network.add(path, inputs[used], errors[used])
        keys, values = network(path, inputs, errors)  # (rows, columns, in), (rows, columns, out)
        values = -network.rate(path) * values * used[..., None]
        updates[path] = MapUpdate(
            keys.reshape(len(groups), -1, keys.shape[-1]),
            values.reshape(len(groups), -1, values.shape[-1]),
        )
    return updates


def divergence(
    lm: LanguageModel,
    updates: Updates,
    texts: Sequence[Sequence[str]],
    text_tokens: int,
    *,
    places: int = 0,
    seed: str = "",
    logits: Logits = logits_at,
) -> Tensor:
    """KL(base ‖ edited), averaged over the tokens of a text, then over the texts; a scalar.

    Args:
        texts: one list of equal length for each group of `updates`.
        text_tokens: the number of tokens after which a text is cut.
        places: if it is not 0, the average is over so many random tokens of each text, an unbiased estimate.
        seed: of the random tokens.
        logits: runs the model, like `logits_at`.
    """
    shares = [sorted((encode(lm.tokenizer, text)[:text_tokens] for text in share), key=len) for share in texts]
    edges = [len(shares[0]) * part // TEXT_PASSES for part in range(TEXT_PASSES + 1)]
    by_text: list[Tensor] = []
    for start, end in pairwise(edges):
        if start == end:
            continue
        ids, mask = padded([ids for share in shares for ids in share[start:end]], "right", lm.device)
        wanted = mask.bool()  # (rows, columns)
        if places:
            draws = torch.rand(mask.shape, generator=generator_of(f"{seed} {start}")).to(lm.device)
            draws = draws.masked_fill(~wanted, 2.0)  # (rows, columns), tokens before the padding
            wanted = wanted & (draws.argsort(1).argsort(1) < places)
        positions = (mask.cumsum(1) - 1).clamp(min=0)
        by_text.append(_divergence_by_row(lm, updates, len(shares), (ids, mask, positions, wanted), logits))
    return torch.cat(by_text).mean()


def answer_divergence(
    lm: LanguageModel, updates: Updates, probes: Sequence[Sequence[Probe]], *, logits: Logits = logits_at
) -> Tensor:
    """KL(base ‖ edited), averaged over the tokens of a probe's answer, then over the probes; a scalar.

    `probes` has one list of equal length for each group of `updates`.
    """
    rows = padded_targets(lm, [(probe.prompt, probe.answer) for share in probes for probe in share])
    wanted = rows.labels != UNLABELED
    return _divergence_by_row(lm, updates, len(probes), (rows.ids, rows.mask, rows.positions, wanted), logits).mean()


def generator_of(seed: str) -> torch.Generator:
    """A generator of torch on the CPU, seeded with a text."""
    return torch.Generator().manual_seed(Random(seed).getrandbits(63))


def _divergence_by_row(
    lm: LanguageModel, updates: Updates, groups: int, rows: tuple[Tensor, Tensor, Tensor, Tensor], logits: Logits
) -> Tensor:
    """KL(base ‖ edited) averaged over the wanted tokens, (rows,); `rows` are ids, mask, positions and wanted."""
    wanted = rows[-1]  # (rows, columns)
    with torch.no_grad():
        base = logits(lm, *rows).log_softmax(-1)  # (places, vocabulary)
    with edited_by(lm, updates, groups):
        edited = logits(lm, *rows).log_softmax(-1)
    by_place = (base.exp() * (base - edited)).sum(-1)  # (places,)
    sums = by_place.new_zeros(len(wanted)).index_add(0, wanted.nonzero()[:, 0], by_place)
    return sums / wanted.sum(1)
