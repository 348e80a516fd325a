"""The mathematics of the editors in plain form, one sequence at a time, as a reference for the fast one."""

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor

from audit.editors.stages.keys import Contexts
from audit.editors.stages.value_loss import ValueSettings
from audit.edits.requests import EditRequest
from audit.engine.sequences import EditSequence, essence_sequence, rewriting_sequence
from audit.models.language_model import LanguageModel

REQUESTS = (
    EditRequest("a", "Danielle Darrieux", "The mother tongue of {} is", "Velden"),
    EditRequest("b", "Mara Lind", "{} was born in", "New Avaria"),
    EditRequest("c", "Kara Quinwick", "{} plays the", "café"),
    EditRequest("d", "Zoë", "It is {} who works for", "Hexatech of Belton"),
)
CONTEXTS = Contexts((("", "The harbour {of} Belton. ", "In 1998, no. "),))
GROUPS = Contexts((("",), ("The harbour {of} Belton. ", "In 1998, no. ")))


def states_at(lm: LanguageModel, path: str, sequence: EditSequence) -> tuple[Tensor, Tensor]:
    """Input and output of a module at the lookup of one unpadded sequence."""
    seen: dict[str, Tensor] = {}

    def see(_: Any, args: tuple[Tensor, ...], output: Any) -> None:
        output = output[0] if isinstance(output, tuple) else output
        # With one sequence, (1, tokens, width) and (tokens, width) flatten to the same.
        seen["in"], seen["out"] = (x.flatten(0, -2)[sequence.lookup].clone() for x in (args[0], output))

    hook = lm.model.get_submodule(path).register_forward_hook(see)
    try:
        lm.model(input_ids=torch.tensor([sequence.ids], device=lm.device), use_cache=False)
    finally:
        hook.remove()
    return seen["in"].float(), seen["out"].float()


def perturbed_logits(lm: LanguageModel, path: str, sequence: EditSequence, delta: Tensor) -> Tensor:
    """Logits (tokens, vocabulary) of one unpadded sequence with `delta` added to a module's output at the lookup."""

    def add(_: Any, __: Any, output: Any) -> Any:
        hidden = (output[0] if isinstance(output, tuple) else output).clone()
        hidden.view(-1, len(delta))[sequence.lookup] += delta
        return (hidden, *output[1:]) if isinstance(output, tuple) else hidden

    with ExitStack() as stack:
        stack.callback(lm.model.get_submodule(path).register_forward_hook(add).remove)
        logits = lm.model(input_ids=torch.tensor([sequence.ids], device=lm.device), use_cache=False).logits
    return logits[0].float()


def optimize_plainly(
    lm: LanguageModel, request: EditRequest, contexts: Contexts, path: str, settings: ValueSettings
) -> tuple[Tensor, Tensor, int]:
    """The value optimization of ROME and MEMIT for one request: (initial, delta, updates)."""
    rewriting = [rewriting_sequence(lm, request, prefix) for prefix in contexts.prefixes]
    essence = essence_sequence(lm, request)
    held = len(essence.ids) - 1 if settings.kl_position == "last" else essence.lookup
    initial = states_at(lm, path, rewriting[0])[1]
    delta = torch.zeros_like(initial, requires_grad=True)
    adam = torch.optim.Adam([delta], lr=settings.learning_rate)
    at_first: Tensor | None = None
    updates = 0
    for step in range(settings.steps):
        adam.zero_grad()
        losses: list[Tensor] = []
        for sequence in rewriting:
            log_p = perturbed_logits(lm, path, sequence, delta).log_softmax(-1)
            chosen = [log_p[sequence.first_label + t, label] for t, label in enumerate(sequence.labels)]
            losses.append(-torch.stack(chosen).mean())
        now = perturbed_logits(lm, path, essence, delta).log_softmax(-1)[held]
        at_first = now.detach() if at_first is None else at_first
        kl = torch.nn.functional.kl_div(at_first[None], now[None], log_target=True, reduction="batchmean")
        decay = settings.weight_decay * delta.norm() / initial.norm() ** 2
        loss = torch.stack(losses).mean() + settings.kl_factor * kl + decay
        if loss < settings.stop_loss or step == settings.steps - 1:
            break
        loss.backward()
        adam.step()
        updates += 1
        radius = settings.clamp_norm_factor * initial.norm()
        if delta.norm() > radius:
            with torch.no_grad():
                delta *= radius / delta.norm()
    return initial, delta.detach(), updates


def relative_error(found: Tensor, expected: Tensor) -> float:
    """‖found − expected‖ / ‖expected‖."""
    return float((found.double() - expected.double()).norm() / expected.double().norm())


def weights_of(lm: LanguageModel, names: Sequence[str]) -> list[Tensor]:
    return [lm.model.get_parameter(name).detach().clone() for name in names]
