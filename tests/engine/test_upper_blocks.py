"""The upper part of a model gives the logits of the whole model."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from audit.engine.sequences import align, essence_sequence, rewriting_sequence
from audit.engine.upper_blocks import UpperBlocks, only_at
from audit.models.language_model import LanguageModel
from tests.editors.plain import REQUESTS, perturbed_logits
from tests.editors.tiny_families import FAMILIES

ROWS = ("rewriting b", "rewriting a, prefixed", "essence d")


def prepared(lm: LanguageModel, start: int) -> tuple[list, UpperBlocks]:
    sequences = [
        rewriting_sequence(lm, REQUESTS[1]),
        rewriting_sequence(lm, REQUESTS[0], "The harbour lies there. "),
        essence_sequence(lm, REQUESTS[3]),
    ]
    return sequences, UpperBlocks.prepared(lm, align(sequences, lm.device), start)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("start", [1, 2, 3])
def test_logits_equal_those_of_the_whole_model(
    family: str, start: int, families: Callable[[str], LanguageModel]
) -> None:
    lm = families(family)
    sequences, upper = prepared(lm, start)
    deltas = torch.randn(3, lm.anatomy.hidden_size, generator=torch.Generator().manual_seed(1))
    entering = upper.entering.clone()
    entering[:, 0] += deltas
    for row, sequence in enumerate(sequences):
        expected = perturbed_logits(lm, lm.anatomy.blocks[start - 1], sequence, deltas[row])[sequence.lookup :]
        columns = torch.arange(len(expected))
        found = upper.logits(entering, torch.full_like(columns, row), columns)
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_one_pass_serves_every_start(family: str, families: Callable[[str], LanguageModel]) -> None:
    lm = families(family)
    _, whole = prepared(lm, 0)
    places = torch.arange(3)
    for start in (1, 2, 3):
        _, own = prepared(lm, start)
        shared = whole.entered_at(start, own.entering)
        expected = own.logits(own.entering, places, torch.zeros_like(places))
        torch.testing.assert_close(shared.logits(own.entering, places, torch.zeros_like(places)), expected)


@pytest.mark.parametrize("family", ["tiny_gpt2", "tiny_llama"])
def test_selected_rows_have_the_same_logits(family: str, request: pytest.FixtureRequest) -> None:
    lm: LanguageModel = request.getfixturevalue(family)
    _, upper = prepared(lm, 2)
    chosen = torch.tensor([2, 0])
    fewer = upper.select(chosen)
    columns = torch.tensor([0, 1])
    torch.testing.assert_close(
        fewer.logits(fewer.entering, torch.tensor([0, 1]), columns), upper.logits(upper.entering, chosen, columns)
    )


def test_without_columns_before_the_lookup(tiny_gpt2: LanguageModel) -> None:
    lm = tiny_gpt2
    sequence = rewriting_sequence(lm, REQUESTS[1])
    at_start = type(sequence)(sequence.ids, 0, sequence.first_label, sequence.labels)
    upper = UpperBlocks.prepared(lm, align([at_start], lm.device), 1)
    columns = torch.arange(len(at_start.ids))
    expected = perturbed_logits(lm, lm.anatomy.blocks[0], at_start, torch.zeros(lm.anatomy.hidden_size))
    found = upper.logits(upper.entering, torch.zeros_like(columns), columns)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("in_one_row", [False, True])
def test_an_mlp_runs_at_the_given_places_only(in_one_row: bool) -> None:
    mlp = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3))
    hidden = torch.randn(2, 5, 4)
    at_rows, at_columns = torch.tensor([0, 1, 1]), torch.tensor([4, 0, 2])
    expected = torch.zeros(2, 5, 3)
    expected[at_rows, at_columns] = mlp(hidden)[at_rows, at_columns]
    given = hidden.view(-1, 4) if in_one_row else hidden
    with only_at(mlp, 2, at_rows, at_columns):
        torch.testing.assert_close(mlp(given), expected.view(*given.shape[:-1], 3))
    assert "forward" not in mlp.__dict__
