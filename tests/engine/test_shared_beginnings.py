"""Beginnings that rows share: as few tokens as can be, and the states of whole rows."""

from collections.abc import Callable
from itertools import product

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from audit.engine.sequences import EditSequence, prompt_sequence, rewriting_sequence
from audit.engine.shared_beginnings import begin, shared_lengths
from audit.engine.taps import tapped
from audit.engine.upper_blocks import UpperBlocks
from audit.models.language_model import LanguageModel
from tests.editors.plain import CONTEXTS, REQUESTS, perturbed_logits, states_at
from tests.editors.tiny_families import FAMILIES

PREFIX = "In 1998 the company moved from Calton to New Avaria. "


def tokens_run(beginnings: list[tuple[int, ...]], lengths: tuple[int, ...]) -> int:
    """Tokens of the distinct beginnings and of what is left of each row."""
    texts = {beginning[:length] for beginning, length in zip(beginnings, lengths, strict=True)}
    return sum(map(len, texts)) + sum(map(len, beginnings)) - sum(lengths)


@given(st.lists(st.lists(st.integers(0, 1), max_size=3).map(tuple), min_size=1, max_size=5))
def test_no_other_cut_runs_fewer_tokens(beginnings: list[tuple[int, ...]]) -> None:
    found = tokens_run(beginnings, tuple(shared_lengths(beginnings)))
    every = product(*(range(len(beginning) + 1) for beginning in beginnings))
    assert found == min(tokens_run(beginnings, lengths) for lengths in every)


def sequences_of(lm: LanguageModel) -> list[EditSequence]:
    """Rows with one long beginning in common, rows with none, and one that has nothing before its lookup."""
    rows = [rewriting_sequence(lm, case, prefix) for case in REQUESTS for prefix in (PREFIX, *CONTEXTS.prefixes)]
    alone = EditSequence(rows[1].ids[1:], 0)
    return [*rows, alone]


@pytest.mark.parametrize("family", FAMILIES)
def test_what_follows_a_shared_beginning_has_the_states_of_whole_rows(
    family: str, families: Callable[[str], LanguageModel]
) -> None:
    lm = families(family)
    block, down = lm.anatomy.blocks[1], lm.anatomy.down_projections[1]
    sequences = sequences_of(lm)
    begun = begin(lm, sequences, stop=block)
    windowed = getattr(lm.model.config, "sliding_window", None) is not None
    assert (not begun.texts) == windowed  # padding would widen what a window looks back over
    with tapped(lm, len(sequences), inputs=[down], outputs=[block], stop=block, column=begun.rows.lookup) as taps:
        begun.run(lm)
    for row, sequence in enumerate(sequences):
        torch.testing.assert_close(taps.inputs[down][row], states_at(lm, down, sequence)[0], rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(taps.outputs[block][row], states_at(lm, block, sequence)[1], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("start", [1, 2, 3])
def test_the_upper_blocks_go_on_from_shared_beginnings(
    family: str, start: int, families: Callable[[str], LanguageModel]
) -> None:
    lm = families(family)
    sequences = sequences_of(lm)
    upper = UpperBlocks.prepared(lm, begin(lm, sequences, stop=lm.anatomy.mlps[-1]), start)
    nothing = torch.zeros(lm.anatomy.hidden_size)
    for row in (0, 1, 6, len(sequences) - 1):
        expected = perturbed_logits(lm, lm.anatomy.blocks[0], sequences[row], nothing)[sequences[row].lookup :]
        columns = torch.arange(len(expected))
        found = upper.logits(upper.entering, torch.full_like(columns, row), columns)
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_rows_that_share_little_are_run_whole(tiny_llama: LanguageModel) -> None:
    sequences = [prompt_sequence(tiny_llama, case) for case in REQUESTS]
    begun = begin(tiny_llama, sequences, stop=tiny_llama.anatomy.blocks[1])
    assert not begun.texts and begun.rows.ids.shape == begun.rows.mask.shape


def test_beginnings_may_be_as_long_as_a_context() -> None:
    assert shared_lengths([tuple(range(5000))] * 3 + [tuple(range(2500))]) == [5000, 5000, 5000, 2500]
