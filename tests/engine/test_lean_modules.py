"""Modules that do less work say the same, and are as they were afterwards."""

import pytest
import torch
from torch import nn

from audit.engine.constant_prefix import constant_prefix
from audit.engine.lean_modules import only_at
from audit.models.language_model import LanguageModel


@pytest.mark.parametrize("in_one_row", [False, True])
def test_an_mlp_speaks_only_where_it_is_asked(in_one_row: bool) -> None:
    mlp = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3))
    hidden = torch.randn(2, 5, 4)
    at_rows, at_columns = torch.tensor([0, 1, 1]), torch.tensor([4, 0, 2])
    expected = torch.zeros(2, 5, 3)
    expected[at_rows, at_columns] = mlp(hidden)[at_rows, at_columns]
    given = hidden.view(-1, 4) if in_one_row else hidden
    with only_at(mlp, 2, at_rows, at_columns):
        torch.testing.assert_close(mlp(given), expected.view(*given.shape[:-1], 3))
    assert "forward" not in mlp.__dict__


def test_the_attention_is_as_before_after_a_constant_prefix(tiny_llama: LanguageModel) -> None:
    config = tiny_llama.model.config
    before = config._attn_implementation
    keys = torch.zeros(1, 2, 3, 8)
    with pytest.raises(KeyError), constant_prefix(tiny_llama, [(keys, keys)] * 3) as cache:
        assert config._attn_implementation != before and cache.get_seq_length() == 3
        raise KeyError
    assert config._attn_implementation == before
