"""Replaced forwards end with their context and restore the module."""

import pytest
import torch
from torch import nn

from audit.models.forward_overrides import block_skipped, forward_replaced, input_replaced
from audit.models.language_model import LanguageModel


def test_replacements_end_in_turn_and_after_errors() -> None:
    module = nn.Identity()
    one = torch.ones(1)
    with forward_replaced(module, lambda x: x + 1):
        with pytest.raises(KeyError), forward_replaced(module, lambda x: x + 2):
            assert module(one) == 3
            raise KeyError
        assert module(one) == 2
    assert module(one) == 1


def test_blocks_run_again_after_an_error_inside(tiny_gpt2: LanguageModel) -> None:
    block = tiny_gpt2.model.get_submodule(tiny_gpt2.anatomy.blocks[0])
    with pytest.raises(KeyError), block_skipped(block, 0):
        raise KeyError
    assert "forward" not in block.__dict__


def test_an_earlier_replacement_of_forward_is_restored(tiny_gpt2: LanguageModel) -> None:
    block = tiny_gpt2.model.get_submodule(tiny_gpt2.anatomy.blocks[0])
    theirs = block.forward
    block.forward = theirs
    try:
        with block_skipped(block, 2):
            assert block.forward(torch.ones(1))[1] is None
        assert block.__dict__["forward"] is theirs
    finally:
        del block.forward


@torch.no_grad()
def test_a_block_receives_the_replaced_input(tiny_llama: LanguageModel) -> None:
    model, blocks = tiny_llama.model, tiny_llama.anatomy.blocks
    seen: list[torch.Tensor] = []
    hook = model.get_submodule(blocks[1]).register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    ids = torch.tensor([[5, 17, 30]])
    expected = model(input_ids=ids).logits
    hook.remove()
    with block_skipped(model.get_submodule(blocks[0]), 0), input_replaced(model.get_submodule(blocks[1]), seen[0]):
        torch.testing.assert_close(model(input_ids=ids).logits, expected, rtol=0, atol=0)
    with block_skipped(model.get_submodule(blocks[0]), 0):
        assert not torch.equal(model(input_ids=ids).logits, expected)
    torch.testing.assert_close(model(input_ids=ids).logits, expected, rtol=0, atol=0)
