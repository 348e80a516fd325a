"""Keys and current values: what modules see and say at the last token of the subject."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from audit.editors.stages.contexts import Contexts
from audit.edits.requests import EditRequest
from audit.engine.sequences import EditSequence, prompt_sequence, within_budget
from audit.engine.shared_beginnings import begin
from audit.engine.taps import tapped
from audit.models.language_model import LanguageModel
from audit.models.lean_modules import activations_fused


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
    """Run every sequence up to its lookup and up to module `stop`; nothing after either can matter.

    What modules on several devices said is handed back on `lm.device`.
    """
    cut = [sequence.until_lookup() for sequence in sequences]
    found: dict[tuple[bool, str], list[Tensor]] = {(True, path): [] for path in inputs}
    found |= {(False, path): [] for path in outputs}
    order: list[int] = []
    for group in within_budget(cut, token_budget):
        begun = begin(lm, [cut[index] for index in group], stop)
        with (
            activations_fused(lm),
            tapped(lm, len(group), inputs=inputs, outputs=outputs, stop=stop, column=begun.rows.lookup) as taps,
        ):
            begun.run(lm)
        for (is_input, path), parts in found.items():
            parts.append((taps.inputs if is_input else taps.outputs)[path].to(lm.device, torch.float32))
        order += group
    back = torch.tensor(order, device=lm.device).argsort()
    joined = {place: torch.cat(parts)[back] for place, parts in found.items()}
    return LookupStates(
        {path: states for (is_input, path), states in joined.items() if is_input},
        {path: states for (is_input, path), states in joined.items() if not is_input},
    )


def context_keys(
    lm: LanguageModel, requests: Sequence[EditRequest], contexts: Contexts, layer: int, token_budget: int
) -> Tensor:
    """Each request's averaged key at `layer`: (requests, inner_size) in float32.

    The mean is taken inside each group of contexts and then over the groups: with one group this is ROME's flat mean,
    with the bare prompt as a group of its own it is MEMIT's, where the bare prompt weighs one half.
    """
    return context_states(lm, requests, contexts, layer, token_budget).mean


@dataclass(frozen=True)
class ContextStates:
    """Keys over contexts, `mean`, and of the bare prompt, `bare`, both (requests, inner_size) in float32; and what the
    down projection says to the latter, `said` (requests, hidden_size)."""

    mean: Tensor
    bare: Tensor
    said: Tensor


def context_states(
    lm: LanguageModel, requests: Sequence[EditRequest], contexts: Contexts, layer: int, token_budget: int
) -> ContextStates:
    """Each request's averaged key, as in `context_keys`, and its bare prompt's key and answer, in one pass."""
    down = lm.anatomy.down_projections[layer]
    sequences = [prompt_sequence(lm, request, prefix) for request in requests for prefix in contexts.prefixes]
    states = lookup_states(lm, sequences, inputs=[down], outputs=[down], stop=down, token_budget=token_budget)
    count = len(contexts.prefixes)
    by_context = states.inputs[down].view(len(requests), count, -1)  # (requests, contexts, inner)
    weights = torch.tensor(contexts.weights, device=by_context.device)  # (contexts,)
    mean = torch.einsum("rci,c->ri", by_context, weights)
    return ContextStates(mean, by_context[:, 0], states.outputs[down][::count])
