"""Module patches: attachments are always removed, replace each other by slot, and can be saved."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from audit.engine import Decoding
from audit.engine.generation import generate
from audit.models.codebook import Codebook
from audit.models.demonstrations import Demonstrations, NewFact
from audit.models.fingerprints import weights_fingerprint
from audit.models.language_model import Attachment, LanguageModel
from audit.models.patches import (
    DenseDelta,
    ModulePatch,
    Originals,
    Patch,
    PatchSequence,
    WeightPatch,
    load_patch,
    originals_kept,
    without_replaced,
)
from audit.models.side_memory import SideMemory
from tests.models.attached import all_logits, spread_inputs

PROMPTS = ["The mother tongue of Danielle Darrieux is", "Mara Lind was born in"]


def codebook(lm: LanguageModel, *, layer: int = 1, column: int = 3, number: float = 1.0) -> Codebook:
    """Answers to what one position of `all_logits` sees."""
    module = lm.anatomy.down_projections[layer]
    key = spread_inputs(lm, module)[0][1, column]
    return Codebook.empty(module).with_entry(key, torch.full((lm.anatomy.hidden_size,), number), (1, 2), 1e6)


def side_memory(lm: LanguageModel, *, layer: int = 1) -> SideMemory:
    module = lm.anatomy.down_projections[layer]
    change = torch.randn(lm.anatomy.hidden_size, lm.anatomy.inner_size, generator=torch.Generator().manual_seed(layer))
    return SideMemory.empty(module, 0.01, 0.5).with_shard(change, spread_inputs(lm, module)[0][0], 2, new=True)


def demonstrations(lm: LanguageModel) -> Demonstrations:
    return Demonstrations((NewFact("Kara Quinwick plays the", "café"),), "plain", 4, 2, 256, 16)


MAKERS: list[Callable[[LanguageModel], Attachment]] = [codebook, side_memory, demonstrations]


@pytest.fixture(params=["tiny_gpt2", "tiny_llama"])
def lm(request: pytest.FixtureRequest) -> LanguageModel:
    model: LanguageModel = request.getfixturevalue(request.param)
    return model


def state(lm: LanguageModel) -> tuple[object, ...]:
    """Everything that an attachment may change."""
    hooks = tuple(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in lm.model.modules())
    answers = tuple(generate(lm, PROMPTS, Decoding(4)))
    return (weights_fingerprint(lm), hooks, all_logits(lm).numpy().tobytes(), answers, tuple(lm.attached))


@pytest.mark.parametrize("make", MAKERS)
def test_an_attachment_changes_answers_and_leaves_no_trace(
    lm: LanguageModel, make: Callable[[LanguageModel], Attachment]
) -> None:
    before = state(lm)
    patch = ModulePatch((make(lm),))
    with patch.applied(lm):
        inside = state(lm)
    assert inside[0] == before[0]
    assert inside[3] != before[3]
    assert state(lm) == before


@pytest.mark.parametrize("make", MAKERS)
def test_an_exception_removes_the_attachment(lm: LanguageModel, make: Callable[[LanguageModel], Attachment]) -> None:
    before = state(lm)
    with pytest.raises(KeyboardInterrupt), ModulePatch((make(lm),)).applied(lm):
        raise KeyboardInterrupt
    assert state(lm) == before


def test_attachments_of_a_failing_patch_are_removed(lm: LanguageModel) -> None:
    before = state(lm)

    class Failing(ModulePatch):
        def write(self, lm: LanguageModel, originals: Originals) -> None:
            super().write(lm, originals)
            raise OverflowError

    with pytest.raises(OverflowError), Failing((codebook(lm), side_memory(lm))).applied(lm):
        pytest.fail("a patch that was not written must not be yielded")
    assert state(lm) == before


def test_a_later_patch_replaces_the_attachment_in_its_slot_until_it_ends(lm: LanguageModel) -> None:
    one, other = ModulePatch((codebook(lm, number=1.0),)), ModulePatch((codebook(lm, number=-2.0),))
    states = [state(lm)]
    with one.applied(lm):
        states.append(state(lm))
        with other.applied(lm):
            nested = state(lm)
            assert len(lm.attached) == 1
        assert state(lm) == states[1]
    assert state(lm) == states[0]
    with other.applied(lm):
        assert state(lm) == nested


def test_attachments_in_different_slots_work_together(lm: LanguageModel) -> None:
    before = state(lm)
    with (
        ModulePatch((codebook(lm), demonstrations(lm))).applied(lm),
        ModulePatch((side_memory(lm, layer=2),)).applied(lm),
    ):
        assert len(lm.attached) == 3
        with ModulePatch((codebook(lm, layer=2),)).applied(lm):
            assert len(lm.attached) == 4
        assert len(lm.attached) == 3
    assert state(lm) == before


def test_several_attachments_in_one_slot_are_removed_together(lm: LanguageModel) -> None:
    before = state(lm)
    with ModulePatch((demonstrations(lm),)).applied(lm):
        outer = state(lm)
        with originals_kept(lm) as originals:
            for number in (1.0, 2.0, 3.0):
                ModulePatch((codebook(lm, number=number), demonstrations(lm))).write(lm, originals)
        assert state(lm) == outer
    assert state(lm) == before


@pytest.mark.parametrize("make", MAKERS)
def test_a_saved_patch_gives_the_same_answers(
    lm: LanguageModel, make: Callable[[LanguageModel], Attachment], tmp_path: Path
) -> None:
    patch = ModulePatch((make(lm), make(lm)), {"editor": "test"})
    patch.save(tmp_path)
    loaded = load_patch(tmp_path)
    assert isinstance(loaded, ModulePatch)
    assert loaded.fingerprint == patch.fingerprint
    assert loaded.slots == patch.slots
    with patch.applied(lm):
        inside = state(lm)
    with loaded.applied(lm):
        assert state(lm) == inside


def test_every_content_has_its_own_fingerprint(tiny_gpt2: LanguageModel) -> None:
    lm = tiny_gpt2
    distinct = [
        ModulePatch(()),
        ModulePatch((codebook(lm),)),
        ModulePatch((codebook(lm, number=2.0),)),
        ModulePatch((codebook(lm, layer=2),)),
        ModulePatch((Codebook(**{**vars(codebook(lm)), "labels": ((1, 3),)}),)),
        ModulePatch((side_memory(lm),)),
        ModulePatch((side_memory(lm).merged(),)),
        ModulePatch((demonstrations(lm),)),
        ModulePatch((demonstrations(lm),), {"editor": "ike"}),
    ]
    assert len({patch.fingerprint for patch in distinct}) == len(distinct)


def test_a_saved_sequence_with_weights_loads_completely(lm: LanguageModel, tmp_path: Path) -> None:
    before = state(lm)
    name = lm.anatomy.weight_name(2)
    weights = WeightPatch({name: DenseDelta(torch.ones(lm.model.get_parameter(name).shape))})
    sequence = PatchSequence((ModulePatch((codebook(lm),)), weights, ModulePatch((codebook(lm, number=3.0),))))
    sequence.save(tmp_path)
    with sequence.applied(lm):
        inside = state(lm)
    with load_patch(tmp_path).applied(lm):
        assert state(lm) == inside
    assert state(lm) == before


def test_module_patches_replaced_by_later_ones_are_left_out(lm: LanguageModel) -> None:
    name = lm.anatomy.weight_name(2)
    weights = WeightPatch({name: DenseDelta(torch.ones(lm.model.get_parameter(name).shape))})
    first, last = ModulePatch((codebook(lm),)), ModulePatch((codebook(lm, number=3.0),))
    both = ModulePatch((codebook(lm, number=2.0), demonstrations(lm)))
    elsewhere = ModulePatch((codebook(lm, layer=2),))
    steps: tuple[Patch, ...] = (first, weights, both, elsewhere, last, weights)
    kept = without_replaced(steps)
    # `both` stays, for its demonstrations; weights always stay, as each adds to the others.
    assert kept == (weights, both, elsewhere, last, weights)
    assert without_replaced((first, last)) == (last,)
    assert without_replaced(()) == ()
    with PatchSequence(steps).applied(lm):
        whole = state(lm)
    with PatchSequence(kept).applied(lm):
        assert state(lm)[:4] == whole[:4]
