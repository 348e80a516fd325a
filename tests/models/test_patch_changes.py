"""The lowest block that a patch changes (block 0 if it is unknown), and whether it changes anything."""

from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch

from audit.models.codebook import Codebook
from audit.models.deltas import Replacement
from audit.models.demonstrations import Demonstrations, NewFact
from audit.models.language_model import LanguageModel
from audit.models.originals import originals_kept
from audit.models.patch_changes import equals_base, first_touched_block
from audit.models.patches import DenseDelta, ModulePatch, Patch, PatchSequence, WeightPatch, identity_patch
from audit.models.side_memory import SideMemory


def changed(lm: LanguageModel, *names: str) -> WeightPatch:
    return WeightPatch({name: DenseDelta(torch.zeros_like(lm.model.get_parameter(name))) for name in names})


def test_a_weight_belongs_to_its_block(tiny_llama: LanguageModel) -> None:
    one, two = (tiny_llama.anatomy.weight_name(layer) for layer in (1, 2))
    assert first_touched_block(tiny_llama, changed(tiny_llama, two)) == 2
    assert first_touched_block(tiny_llama, changed(tiny_llama, two, one)) == 1
    sequence = PatchSequence((changed(tiny_llama, two), changed(tiny_llama, one)))
    assert first_touched_block(tiny_llama, sequence) == 1


def test_block_1_is_not_confused_with_block_10() -> None:
    from tests.tiny_models import build_tiny_gpt2

    lm = build_tiny_gpt2(layers=11)
    assert first_touched_block(lm, changed(lm, lm.anatomy.weight_name(10))) == 10


def test_an_empty_patch_touches_no_block(tiny_gpt2: LanguageModel) -> None:
    assert first_touched_block(tiny_gpt2, identity_patch()) == 3
    assert first_touched_block(tiny_gpt2, PatchSequence(())) == 3


def test_an_untied_head_comes_after_the_blocks_and_a_tied_one_before(
    tiny_gpt2: LanguageModel, tiny_llama: LanguageModel
) -> None:
    assert first_touched_block(tiny_llama, changed(tiny_llama, "lm_head.weight")) == 3
    assert first_touched_block(tiny_llama, changed(tiny_llama, "model.norm.weight")) == 3
    assert first_touched_block(tiny_llama, changed(tiny_llama, "model.embed_tokens.weight")) == 0
    assert first_touched_block(tiny_gpt2, changed(tiny_gpt2, "lm_head.weight")) == 0
    assert first_touched_block(tiny_gpt2, changed(tiny_gpt2, "transformer.wpe.weight")) == 0


def test_modules_are_attached_to_a_block_and_demonstrations_to_none(tiny_gpt2: LanguageModel) -> None:
    down = tiny_gpt2.anatomy.down_projections
    book, memory = Codebook.empty(down[2]), SideMemory.empty(down[1], 0.5, 0.5)
    told = Demonstrations((), style="plain", count=1, repeats=1, length=None, answer_room=1)
    assert first_touched_block(tiny_gpt2, ModulePatch((book,))) == 2
    assert first_touched_block(tiny_gpt2, ModulePatch((book, memory))) == 1
    assert first_touched_block(tiny_gpt2, ModulePatch((book, told))) == 0


@pytest.mark.parametrize("stranger", [SimpleNamespace(), SimpleNamespace(deltas={})])
def test_an_unknown_kind_of_patch_touches_block_0(tiny_gpt2: LanguageModel, stranger: Any) -> None:
    assert first_touched_block(tiny_gpt2, cast(Patch, stranger)) == 0


def added(lm: LanguageModel, size: float) -> WeightPatch:
    name = lm.anatomy.weight_name(1)
    return WeightPatch({name: DenseDelta(torch.full_like(lm.model.get_parameter(name), size))})


def test_a_model_equals_its_base_if_no_bit_differs_whatever_the_patch_holds(tiny_gpt2: LanguageModel) -> None:
    lm, name = tiny_gpt2, tiny_gpt2.anatomy.weight_name(1)
    same = WeightPatch({name: Replacement(lm.model.get_parameter(name).detach().clone())})
    for patch in (identity_patch(), PatchSequence(()), changed(lm, name), same, added(lm, 1e-30)):
        assert equals_base(lm, patch)
    weight = lm.model.get_parameter(name).detach()
    other = WeightPatch({name: Replacement(weight + 1)})
    assert equals_base(lm, PatchSequence((other, same)))  # the second step undoes the first
    for patch in (added(lm, 0.1), other, PatchSequence((same, other))):
        assert not equals_base(lm, patch)
    assert torch.equal(weight, lm.model.get_parameter(name))


def test_an_attachment_that_can_act_is_a_change_and_an_empty_one_is_not(tiny_gpt2: LanguageModel) -> None:
    lm, down = tiny_gpt2, tiny_gpt2.anatomy.down_projections
    wide, narrow = lm.model.get_parameter(lm.anatomy.weight_name(1)).shape  # (in, out)
    book, memory = Codebook.empty(down[1]), SideMemory.empty(down[1], 0.5, 0.5)
    shard = {"activations": torch.ones(1, wide), "edits": 1, "new": True}
    style: dict[str, Any] = {"style": "plain", "count": 1, "repeats": 1, "length": None, "answer_room": 1}
    nothing = (book, memory, memory.with_shard(torch.zeros(narrow, wide), **shard), Demonstrations((), **style))
    for attachment in nothing:
        assert equals_base(lm, ModulePatch((attachment,)))
    fact = NewFact("Mara lives in", "Velden")
    for attachment in (
        book.with_entry(torch.ones(wide), torch.ones(narrow), (1,), 1.0),
        memory.with_shard(torch.ones(narrow, wide), **shard),
        Demonstrations((fact,), **style),
    ):
        assert not equals_base(lm, ModulePatch((attachment,)))
    assert not lm.attached


def test_zero_added_to_a_negative_zero_and_a_copied_nan_change_nothing(tiny_gpt2: LanguageModel) -> None:
    name = tiny_gpt2.anatomy.weight_name(1)
    with originals_kept(tiny_gpt2) as originals:
        weight = originals.keep(name)
        with torch.no_grad():
            weight[0] = -0.0
        assert equals_base(tiny_gpt2, changed(tiny_gpt2, name))
        with torch.no_grad():
            weight[0] = float("nan")
        assert equals_base(tiny_gpt2, WeightPatch({name: Replacement(weight.detach().clone())}))
