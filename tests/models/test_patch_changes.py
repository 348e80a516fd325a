"""The lowest block that a patch changes; block 0 if it is unknown."""

from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch

from audit.models.codebook import Codebook
from audit.models.demonstrations import Demonstrations
from audit.models.language_model import LanguageModel
from audit.models.patch_changes import first_touched_block
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
