"""Shared prefixes run the fewest tokens and give whole rows' states; constant prefixes equal an ordinary cache."""

from collections.abc import Callable
from itertools import product

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from transformers import DynamicCache

from audit.engine.prefix_cache import constant_prefix, shared_lengths, split
from audit.engine.sequences import EditSequence, prompt_sequence, rewriting_sequence
from audit.engine.taps import tapped
from audit.engine.upper_blocks import UpperBlocks
from audit.models.language_model import LanguageModel
from tests.editors.plain import CONTEXTS, REQUESTS, perturbed_logits, relative_error, states_at
from tests.editors.tiny_families import FAMILIES

PREFIX = "In 1998 the company moved from Calton to New Avaria. "


def tokens_run(beginnings: list[tuple[int, ...]], lengths: tuple[int, ...]) -> int:
    """The number of tokens in the distinct prefixes and in the rest of each row."""
    texts = {beginning[:length] for beginning, length in zip(beginnings, lengths, strict=True)}
    return sum(map(len, texts)) + sum(map(len, beginnings)) - sum(lengths)


@given(st.lists(st.lists(st.integers(0, 1), max_size=3).map(tuple), min_size=1, max_size=5))
def test_no_other_lengths_run_fewer_tokens(beginnings: list[tuple[int, ...]]) -> None:
    found = tokens_run(beginnings, tuple(shared_lengths(beginnings)))
    every = product(*(range(len(beginning) + 1) for beginning in beginnings))
    assert found == min(tokens_run(beginnings, lengths) for lengths in every)


def sequences_of(lm: LanguageModel) -> list[EditSequence]:
    """Rows that share a long prefix, rows that share none, and a row with no tokens before its lookup."""
    rows = [rewriting_sequence(lm, case, prefix) for case in REQUESTS for prefix in (PREFIX, *CONTEXTS.prefixes)]
    alone = EditSequence(rows[1].ids[1:], 0)
    return [*rows, alone]


@pytest.mark.parametrize("family", FAMILIES)
def test_the_rest_of_split_rows_has_the_states_of_whole_rows(
    family: str, families: Callable[[str], LanguageModel]
) -> None:
    lm = families(family)
    block, down = lm.anatomy.blocks[1], lm.anatomy.down_projections[1]
    sequences = sequences_of(lm)
    rows = split(lm, sequences, stop=block)
    windowed = getattr(lm.model.config, "sliding_window", None) is not None
    assert (not rows.prefixes) == windowed  # padding would lengthen the distances in a window
    with tapped(lm, len(sequences), inputs=[down], outputs=[block], stop=block, column=rows.rest.lookup) as taps:
        rows.run(lm)
    for row, sequence in enumerate(sequences):
        torch.testing.assert_close(taps.inputs[down][row], states_at(lm, down, sequence)[0], rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(taps.outputs[block][row], states_at(lm, block, sequence)[1], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("start", [1, 2, 3])
def test_the_upper_blocks_run_on_split_rows(family: str, start: int, families: Callable[[str], LanguageModel]) -> None:
    lm = families(family)
    sequences = sequences_of(lm)
    upper = UpperBlocks.prepared(lm, split(lm, sequences, stop=lm.anatomy.mlps[-1]), start)
    nothing = torch.zeros(lm.anatomy.hidden_size)
    for row in (0, 1, 6, len(sequences) - 1):
        expected = perturbed_logits(lm, lm.anatomy.blocks[0], sequences[row], nothing)[sequences[row].lookup :]
        columns = torch.arange(len(expected))
        found = upper.logits(upper.entering, torch.full_like(columns, row), columns)
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_rows_that_share_little_are_not_split(tiny_llama: LanguageModel) -> None:
    sequences = [prompt_sequence(tiny_llama, case) for case in REQUESTS]
    rows = split(tiny_llama, sequences, stop=tiny_llama.anatomy.blocks[1])
    assert not rows.prefixes and rows.rest.ids.shape == rows.rest.mask.shape


def test_prefixes_may_be_as_long_as_a_context() -> None:
    assert shared_lengths([tuple(range(5000))] * 3 + [tuple(range(2500))]) == [5000, 5000, 5000, 2500]


BEFORE, COLUMNS = 4, 3


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("joined_below", [0, 1 << 16])
def test_a_constant_prefix_equals_an_ordinary_cache(
    family: str, joined_below: int, families: Callable[[str], LanguageModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("audit.engine.prefix_cache._SMALL", joined_below)
    lm = families(family)
    ids = torch.randint(3, 200, (3, BEFORE + COLUMNS), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(ids)
    mask[1, :2] = 0  # padding on the left
    mask[2, -1] = 0  # and on the right
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    ran = DynamicCache()
    with torch.no_grad():
        lm.model(
            input_ids=ids[:, :BEFORE],
            attention_mask=mask[:, :BEFORE],
            position_ids=positions[:, :BEFORE],
            past_key_values=ran,
            use_cache=True,
        )
    prefix = [(layer.keys.clone(), layer.values.clone()) for layer in ran.layers]
    embedded = lm.model.get_input_embeddings()(ids[:, BEFORE:]).detach()

    def answer(cache: DynamicCache) -> tuple[Tensor, Tensor]:
        entering = embedded.clone().requires_grad_()
        logits = lm.model(
            inputs_embeds=entering,
            attention_mask=mask,
            position_ids=positions[:, BEFORE:],
            past_key_values=cache,
            use_cache=True,
        ).logits[mask[:, BEFORE:].bool()]
        return logits.detach(), torch.autograd.grad(logits.square().sum(), entering)[0]

    expected = answer(ran)
    with constant_prefix(lm, prefix) as cache:
        found = answer(cache)
    for left, right in zip(found, expected, strict=True):
        assert relative_error(left, right) < 1e-5


def test_the_attention_implementation_is_restored_after_a_constant_prefix(tiny_llama: LanguageModel) -> None:
    config = tiny_llama.model.config
    before = config._attn_implementation
    keys = torch.zeros(1, 2, 3, 8)
    with pytest.raises(KeyError), constant_prefix(tiny_llama, [(keys, keys)] * 3) as cache:
        assert config._attn_implementation != before and cache.get_seq_length() == 3
        raise KeyError
    assert config._attn_implementation == before
