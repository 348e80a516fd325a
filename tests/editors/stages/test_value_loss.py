"""The rows of the value optimization: no row twice, and batches of similar shape."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from audit.editors.stages.keys import Contexts
from audit.editors.stages.value_loss import LossPlaces, ValueSettings, ValueTask, chunks
from audit.editors.stages.values import optimize_values
from audit.edits.requests import EditRequest
from audit.engine.sequences import EditSequence, essence_sequence, rewriting_sequence
from audit.models.language_model import LanguageModel
from tests.editors.plain import CONTEXTS, REQUESTS, optimize_plainly, relative_error

SETTINGS = ValueSettings(steps=6, learning_rate=0.1)
TWICE = Contexts((("", "In 1998, no. ", "In 1998, no. ", "In 1998, no. "),))
AT_FRONT, INSIDE = REQUESTS[1], REQUESTS[0]  # "{} was born in", "The mother tongue of {} is"


def test_equal_contexts_are_one_row_with_the_sum_of_their_weights(tiny_gpt2: LanguageModel) -> None:
    task = ValueTask.of(tiny_gpt2, INSIDE, TWICE, SETTINGS)
    assert len(task.rows) == 3 and task.weights == (0.25, 0.75, 0.0)


def test_the_kl_sequence_shares_the_bare_prompts_row_where_both_begin_alike(tiny_gpt2: LanguageModel) -> None:
    task = ValueTask.of(tiny_gpt2, AT_FRONT, CONTEXTS, SETTINGS)
    assert len(task.rows) == len(CONTEXTS.prefixes) and task.essence == (0, 0)


def test_the_kl_sequence_ends_at_the_place_that_is_read(tiny_gpt2: LanguageModel) -> None:
    essence = essence_sequence(tiny_gpt2, INSIDE)
    cut = ValueTask.of(tiny_gpt2, INSIDE, CONTEXTS, SETTINGS)
    assert cut.rows[-1] == essence.until_lookup() and cut.essence == (3, 0)
    whole = ValueTask.of(tiny_gpt2, INSIDE, CONTEXTS, replace(SETTINGS, kl_position="last"))
    assert whole.rows[-1] == essence and whole.essence == (3, len(essence.ids) - 1 - essence.lookup)


def test_without_a_kl_factor_there_is_no_kl_sequence(tiny_gpt2: LanguageModel) -> None:
    task = ValueTask.of(tiny_gpt2, INSIDE, CONTEXTS, replace(SETTINGS, kl_factor=0.0))
    assert task.essence is None and len(task.rows) == len(CONTEXTS.prefixes)


@pytest.mark.parametrize("kl_factor", [0.0, 2.0])
@pytest.mark.parametrize("family", ["tiny_gpt2", "tiny_llama"])
def test_shared_and_omitted_rows_give_the_plain_result(
    family: str, kl_factor: float, request: pytest.FixtureRequest
) -> None:
    lm: LanguageModel = request.getfixturevalue(family)
    settings = replace(SETTINGS, kl_factor=kl_factor)
    values = optimize_values(lm, REQUESTS, TWICE, layer=1, site="block", settings=settings)
    for row, case in enumerate(REQUESTS):
        _, delta, updates = optimize_plainly(lm, case, TWICE, lm.anatomy.blocks[1], settings)
        assert relative_error(values.delta[row], delta) < 1e-3 and values.updates[row] == updates


shapes = st.lists(st.tuples(st.integers(0, 9), st.integers(1, 6), st.integers(1, 4)), min_size=1, max_size=12)


@given(shapes=shapes, budget=st.integers(1, 200))
def test_chunks_hold_every_task_once_within_the_budget(shapes: list[tuple[int, int, int]], budget: int) -> None:
    tasks = [
        ValueTask("x", (EditSequence((0,) * (before + after), before),) * rows, (1 / rows,) * rows, None)
        for before, after, rows in shapes
    ]
    parts = list(chunks(tasks, budget))
    assert sorted(index for part in parts for index in part) == list(range(len(tasks)))
    for part in parts:
        chosen = [tasks[index] for index in part]
        columns = max(task.before for task in chosen) + max(task.after for task in chosen)
        assert len(part) == 1 or columns * sum(len(task.rows) for task in chosen) <= budget


def test_the_weights_of_each_request_sum_to_one(tiny_llama: LanguageModel) -> None:
    requests: tuple[EditRequest, ...] = REQUESTS
    tasks = [ValueTask.of(tiny_llama, case, TWICE, SETTINGS) for case in requests]
    active = torch.tensor([0, 2, 3])
    places = LossPlaces.of(tasks, active)
    torch.testing.assert_close(torch.zeros(3).index_add(0, places.owners, places.weights), torch.ones(3))
    assert len(places.rows) == len(places.ids) + 3
    label_count = sum(
        len(rewriting_sequence(tiny_llama, requests[index], prefix).labels)
        for index in active.tolist()
        for prefix in ("", "In 1998, no. ")
    )
    assert len(places.ids) == label_count
