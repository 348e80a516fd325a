from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from audit.engine.batching import Load, context_length, pack, pack_loads, padded, require_room, run_batches
from audit.errors import AuditError

CPU = torch.device("cpu")


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(1, 60), st.integers(1, 5)), max_size=40), st.integers(1, 300), st.integers(1, 30))
def test_every_item_is_packed_once_and_batches_keep_to_both_budgets(
    items: list[tuple[int, int]], budget: int, places: int
) -> None:
    sizes, scored = [size for size, _ in items], [count for _, count in items]
    batches = pack(sizes, budget, scored, places)
    assert sorted(i for batch in batches for i in batch) == list(range(len(items)))
    for batch in batches:
        tokens = max(sizes[i] for i in batch) * len(batch)
        assert (tokens <= budget and sum(scored[i] for i in batch) <= places) or len(batch) == 1


@settings(deadline=None)
@given(st.lists(st.integers(1, 60), max_size=40), st.integers(1, 300))
def test_batches_go_from_long_to_short(sizes: list[int], budget: int) -> None:
    order = [sizes[i] for batch in pack(sizes, budget) for i in batch]
    assert order == sorted(sizes, reverse=True)


LOADS = st.builds(
    Load, shared=st.integers(0, 60), rows=st.integers(1, 4), longest=st.integers(1, 60), scored=st.integers(1, 5)
)


@settings(deadline=None)
@given(st.lists(LOADS, max_size=40), st.integers(1, 600), st.integers(1, 30), st.none() | st.integers(0, 40))
def test_batches_of_two_calls_keep_to_both_budgets_and_have_little_padding(
    loads: list[Load], budget: int, places: int, most_padding: int | None
) -> None:
    batches = pack_loads(loads, budget, places, most_padding)
    assert sorted(i for batch in batches for i in batch) == list(range(len(loads)))
    for batch in batches:
        members = [loads[i] for i in batch]
        first = len(members) * max(load.shared for load in members)
        second = sum(load.rows for load in members) * max(load.longest for load in members)
        own = sum(load.tokens for load in members)
        assert most_padding is None or first + second - own <= most_padding * (len(batch) - 1)
        assert len(batch) == 1 or (first + second <= budget and sum(load.scored for load in members) <= places)


def test_long_beginnings_and_long_ends_are_not_padded_to_each_other() -> None:
    beginnings = [Load(shared=90, rows=2, longest=5, scored=2)] * 3
    ends = [Load(shared=5, rows=1, longest=95, scored=2)] * 3
    assert pack_loads([*beginnings, *ends], 1000, 100, most_padding=32) == [[0, 1, 2], [3, 4, 5]]


@pytest.mark.parametrize("packed", [lambda budget: pack([3], budget), lambda budget: pack_loads([], budget, 1)])
def test_a_budget_of_zero_is_refused(packed: Callable[[int], object]) -> None:
    with pytest.raises(AuditError, match="token budget must be at least 1, not 0"):
        packed(0)


@pytest.mark.parametrize(
    ("side", "ids", "mask"),
    [
        ("left", [[7, 8, 9], [0, 0, 5]], [[1, 1, 1], [0, 0, 1]]),
        ("right", [[7, 8, 9], [5, 0, 0]], [[1, 1, 1], [1, 0, 0]]),
    ],
)
def test_rows_are_padded_on_their_side(side: str, ids: list[list[int]], mask: list[list[int]]) -> None:
    padded_ids, padded_mask = padded([[7, 8, 9], [5]], side, CPU)
    assert padded_ids.tolist() == ids
    assert padded_mask.tolist() == mask


def test_a_batch_that_exceeds_the_memory_and_all_that_follow_are_halved_until_they_fit() -> None:
    done: list[list[int]] = []

    def run(batch: list[int]) -> None:
        if len(batch) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        done.append(batch)

    run_batches([[0, 1, 2, 3, 4], [5, 6]], run)
    assert done == [[0, 1], [2], [3, 4], [5], [6]]


def test_an_item_that_exceeds_the_memory_gives_an_error_with_a_remedy() -> None:
    def run(batch: list[int]) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(AuditError, match="use a smaller dtype"):
        run_batches([[0, 1]], run)


def _language_model(**config: Any) -> Any:
    text = SimpleNamespace(**config)
    return SimpleNamespace(name="toy", model=SimpleNamespace(config=SimpleNamespace(get_text_config=lambda: text)))


@pytest.mark.parametrize(
    ("config", "length"), [({"max_position_embeddings": 12}, 12), ({"max_seq_len": 9}, 9), ({"alibi": True}, None)]
)
def test_context_length_is_read_from_the_configuration(config: dict[str, Any], length: int | None) -> None:
    assert context_length(_language_model(**config)) == length


def test_room_is_checked_to_the_token() -> None:
    lm = _language_model(max_position_embeddings=12)
    require_room(lm, [1] * 11, "Prompt 3", "a b", new_tokens=1)
    with pytest.raises(AuditError, match=r"Prompt 3 .* has 12 tokens and needs room for 1 more, but .* toy holds 12"):
        require_room(lm, [1] * 12, "Prompt 3", "a b", new_tokens=1)
    require_room(_language_model(), [1] * 9999, "Prompt 3", "a b", new_tokens=1)
