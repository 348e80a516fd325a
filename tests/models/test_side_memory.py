"""WISE's side memory: merged as TIES says, and heard only where the activation distance is that of an edit."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from audit.models.language_model import LanguageModel
from audit.models.patches import ModulePatch
from audit.models.side_memory import SideMemory, ties
from tests.models.attached import all_logits, spread_inputs

FAMILIES = ["tiny_gpt2", "tiny_llama"]


def memory_for(lm: LanguageModel, activations: Tensor, *, ratio: float = 0.9) -> SideMemory:
    """One shard that answers to the direction of the first of `activations` (positions, inner) alone."""
    direction = activations[0] / activations[0].norm()
    left = torch.linspace(-1, 1, lm.anatomy.hidden_size)
    empty = SideMemory.empty(lm.anatomy.down_projections[1], ratio, 0.5)
    return empty.with_shard(torch.outer(left, direction), activations[:1], 1, new=True)


@pytest.mark.parametrize("family", FAMILIES)
def test_only_positions_with_an_edits_distance_are_rerouted(family: str, request: pytest.FixtureRequest) -> None:
    lm: LanguageModel = request.getfixturevalue(family)
    module = lm.anatomy.down_projections[1]
    inputs, before = spread_inputs(lm, module)  # (rows, columns, inner), (rows, columns, hidden)
    memory = memory_for(lm, inputs[1, 3][None])
    distances = (inputs @ memory.change.T).norm(dim=-1)  # (rows, columns)
    side = distances >= memory.threshold
    assert side[1, 3] and not side.all()
    with ModulePatch((memory,)).applied(lm):
        _, after = spread_inputs(lm, module)
    assert torch.equal(after[~side], before[~side])
    torch.testing.assert_close(after[side], (before + inputs @ memory.change.T)[side])


@pytest.mark.parametrize("family", FAMILIES)
def test_an_empty_memory_and_one_that_changes_nothing_are_the_identity(
    family: str, request: pytest.FixtureRequest
) -> None:
    lm: LanguageModel = request.getfixturevalue(family)
    before = all_logits(lm)
    empty = SideMemory.empty(lm.anatomy.down_projections[1], 0.9, 0.5)
    inner = torch.ones(1, lm.anatomy.inner_size)
    idle = empty.with_shard(torch.zeros(lm.anatomy.hidden_size, lm.anatomy.inner_size), inner, 1, new=True)
    for memory in (empty, idle):
        with ModulePatch((memory,)).applied(lm):
            assert torch.equal(all_logits(lm), before)


def test_the_threshold_is_a_share_of_the_smallest_distance_of_the_edits() -> None:
    change = torch.eye(2)
    memory = SideMemory.empty("layer", 0.5, 1.0).with_shard(change, torch.tensor([[3.0, 4.0], [0.0, 2.0]]), 2, new=True)
    assert memory.threshold == pytest.approx(1.0)
    memory = memory.with_shard(change, torch.tensor([[1.0, 0.0]]), 1, new=False)
    assert memory.threshold == pytest.approx(0.5)
    assert memory.filled == 3


def test_a_merge_trims_elects_a_sign_and_takes_the_mean_of_those_that_agree() -> None:
    one = torch.tensor([4.0, -3.0, 1.0, 0.1])
    two = torch.tensor([2.0, 5.0, -0.2, 0.3])
    # Both agree: their mean. They differ: the larger sum's sign. 0.1 and -0.2 are trimmed away and do not count.
    torch.testing.assert_close(ties((one, two), 3 / 4), torch.tensor([3.0, 5.0, 1.0, 0.3]))


@given(st.integers(1, 5), st.floats(0.05, 1.0), st.integers(0, 1000))
def test_each_change_keeps_exactly_its_density(changes: int, density: float, seed: int) -> None:
    drawn = torch.randn(changes, 4, 5, generator=torch.Generator().manual_seed(seed))
    for change in drawn:
        alone = ties((change,), density)
        kept = alone != 0
        assert int(kept.sum()) == round(density * change.numel())
        assert torch.equal(alone[kept], change[kept])
        if kept.any() and not kept.all():
            assert float(change[kept].abs().min()) >= float(change[~kept].abs().max())
    torch.testing.assert_close(ties((drawn[0],) * 3, density), ties((drawn[0],), density))


def test_changes_of_disjoint_entries_are_merged_without_loss() -> None:
    change = torch.randn(4, 6, generator=torch.Generator().manual_seed(0))
    mask = torch.arange(24).view(4, 6) % 2 == 0
    assert torch.equal(ties((change * mask, change * ~mask), 0.5), change)


def test_one_shard_is_used_unchanged_and_several_are_merged() -> None:
    shards = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0))
    activations = torch.ones(1, 4)
    memory = SideMemory.empty("layer", 0.9, 0.25).with_shard(shards[0], activations, 2, new=True)
    assert torch.equal(memory.change, shards[0])
    memory = memory.with_shard(shards[1], activations, 1, new=True)
    assert torch.equal(memory.change, ties(tuple(shards), 0.25))
    merged = memory.merged()
    assert torch.equal(merged.change, memory.change)
    assert (memory.since_merge, merged.since_merge, merged.opened, len(merged.shards)) == (3, 0, 2, 1)
    assert torch.equal(merged.activations, memory.activations)
