"""The searches over synthetic oracles find the culprit wherever it is, in few evaluations, and always end."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit.workflows.bisect import first_failing, halved, minimized


@pytest.mark.parametrize("n", [1, 2, 3, 64, 65, 100])
def test_prefix_search_and_halving_find_every_position(n: int) -> None:
    most = math.ceil(math.log2(n))
    for culprit in range(n):
        asked: list[object] = []

        def prefix_fails(count: int, culprit: int = culprit, asked: list[object] = asked) -> bool:
            asked.append(count)
            return culprit < count

        assert first_failing(range(1, n + 1), prefix_fails) == culprit + 1
        assert len(asked) <= most
        asked.clear()

        def part_fails(part: tuple[int, ...], culprit: int = culprit, asked: list[object] = asked) -> bool:
            asked.append(part)
            return culprit in part

        assert halved(range(n), part_fails) == (culprit,)
        assert len(asked) <= most


@given(st.integers(1, 40), st.data())
def test_ddmin_finds_exactly_the_edits_that_fail_together(n: int, data: st.DataObject) -> None:
    guilty = data.draw(st.sets(st.integers(0, n - 1), min_size=1, max_size=4))
    asked: list[tuple[int, ...]] = []

    def fails(part: tuple[int, ...]) -> bool:
        asked.append(part)
        return guilty <= set(part)

    assert set(minimized(range(n), fails)) == guilty
    assert len(asked) == len(set(asked)) <= n * n + 3 * n
    assert all(list(part) == sorted(part) for part in asked)  # the order of the plan is kept


@given(st.integers(2, 30), st.floats(0.1, 1.0))
def test_ddmin_of_spread_harm_leaves_the_smallest_number_that_fails(n: int, share: float) -> None:
    need = math.ceil(share * n)
    assert len(minimized(range(n), lambda part: len(part) >= need)) == max(1, need)


@given(st.integers(1, 24), st.randoms(use_true_random=False))
def test_ddmin_ends_with_an_oracle_that_errs_at_random(n: int, random: object) -> None:
    def coin(part: object) -> bool:
        return random.random() < 0.5  # type: ignore[attr-defined, no-any-return]

    assert set(minimized(range(n), coin)) <= set(range(n))
    assert len(halved(range(n), coin)) == 1
    assert first_failing(range(1, n + 1), coin) in range(1, n + 1)


@given(st.integers(2, 40), st.data())
def test_prefix_search_finds_a_border_if_failing_is_not_monotone(n: int, data: st.DataObject) -> None:
    bad = data.draw(st.sets(st.integers(1, n))) | {n}
    found = first_failing(range(1, n + 1), lambda count: count in bad)
    assert found in bad
    assert found == 1 or found - 1 not in bad
