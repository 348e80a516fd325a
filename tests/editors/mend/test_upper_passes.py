"""Passes from kept hidden states give the losses and gradients of whole passes."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import Tensor, nn

from audit.editors.mend.losses import answer_divergence, divergence, edited_by, updates_of
from audit.editors.mend.network import MendNetwork
from audit.editors.mend.upper_passes import UpperPasses
from audit.editors.stages.rank_one_gradients import Logits, logits_at, map_sizes, mlp_maps, padded_targets, row_losses
from audit.edits.requests import Probe
from audit.models.language_model import LanguageModel
from tests.editors.plain import REQUESTS
from tests.tiny_models import CORPUS

GROUPS = [list(REQUESTS[:2]), list(REQUESTS[2:4])]
PROBES = [[Probe("Mara Lind works for", "Hexatech")], [Probe("Gira Corley is by trade", "a painter")]]


def losses_and_gradients(lm: LanguageModel, start: int, logits: Logits) -> tuple[list[Tensor], list[Tensor]]:
    """The three losses of a pass, and their gradients for every parameter of a network that is not the identity."""
    maps = mlp_maps(lm, range(start, lm.anatomy.depth))
    network = MendNetwork({path: map_sizes(lm, path) for path in maps}, rank=3, rate=1e-2)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if name.endswith(".up"):
                parameter.copy_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)) / 10)
    updates = updates_of(lm, network, GROUPS, collect_statistics=True, logits=logits)
    asked = [(request.filled_prompt, request.target_new) for group in GROUPS for request in group]
    with edited_by(lm, updates, len(GROUPS)):
        edit = row_losses(lm, padded_targets(lm, asked), logits).mean()
    locality = divergence(lm, updates, [CORPUS[:4], CORPUS[4:]], 12, places=5, seed="s", logits=logits)
    losses = [edit, locality, answer_divergence(lm, updates, PROBES, logits=logits)]
    return losses, list(torch.autograd.grad(sum(losses), list(network.parameters())))  # type: ignore[arg-type]


@pytest.mark.parametrize("family", ["tiny_gpt2", "tiny_llama"])
@pytest.mark.parametrize("start", [0, 1, 2])
def test_losses_and_gradients_equal_those_of_whole_passes(
    family: str, start: int, request: pytest.FixtureRequest
) -> None:
    lm: LanguageModel = request.getfixturevalue(family)
    passes = UpperPasses(start)
    losses, gradients = losses_and_gradients(lm, start, logits_at)
    for _ in range(2):  # with states that are computed, and with kept ones
        found, by_parameter = losses_and_gradients(lm, start, passes.logits_at)
        torch.testing.assert_close(found, losses, rtol=1e-5, atol=1e-7)
        for got, expected in zip(by_parameter, gradients, strict=True):
            assert float((got - expected).norm()) <= 1e-5 * float(expected.norm()) and expected.any()


@contextmanager
def calls_of(module: nn.Module) -> Iterator[list[int]]:
    """The number of rows of each call of a module."""
    calls: list[int] = []
    hook = module.register_forward_hook(lambda _, __, output: calls.append(len(output)))
    try:
        yield calls
    finally:
        hook.remove()


def test_lower_blocks_run_once_for_each_row(tiny_llama: LanguageModel) -> None:
    rows = padded_targets(tiny_llama, [(request.filled_prompt, request.target_new) for request in REQUESTS[:3]])
    passes, lowest = UpperPasses(2), tiny_llama.model.get_submodule(f"{tiny_llama.anatomy.blocks[0]}.mlp")
    with calls_of(lowest) as calls:
        together = row_losses(tiny_llama, rows, passes.logits_at)
        some = row_losses(tiny_llama, rows.select(torch.tensor([2, 0])), passes.logits_at)
    assert calls == [1, 1, 1]
    torch.testing.assert_close(together[[2, 0]], some)


def test_states_beyond_the_limit_are_computed_again(tiny_llama: LanguageModel) -> None:
    rows = padded_targets(tiny_llama, [(request.filled_prompt, request.target_new) for request in REQUESTS[:2]])
    passes, lowest = (
        UpperPasses(1, limit_bytes=0),
        tiny_llama.model.get_submodule(f"{tiny_llama.anatomy.blocks[0]}.mlp"),
    )
    with calls_of(lowest) as calls:
        first, again = (row_losses(tiny_llama, rows, passes.logits_at) for _ in range(2))
    assert calls == [1, 1, 1, 1] and torch.equal(first, again)
