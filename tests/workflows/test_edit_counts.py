"""The numbers of edits to measure: doubling, the gaps with a change, and the largest number that passes."""

from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from audit.workflows.budget import largest_passing
from audit.workflows.curve import between, doubling, next_count

ALLOWED = st.integers(1, 120).flatmap(
    lambda step: st.integers(1, 60).map(lambda steps: tuple(range(step, step * steps + 1, step)))
)


@given(ALLOWED)
def test_doubling_reaches_the_end_in_few_allowed_numbers(allowed: tuple[int, ...]) -> None:
    found = doubling(allowed)
    assert found[0] == allowed[0] and found[-1] == allowed[-1]
    assert set(found) <= set(allowed) and sorted(set(found)) == list(found)
    assert len(found) <= allowed[-1].bit_length() + 1


def test_doubling_of_single_edits_and_of_batches() -> None:
    assert doubling(tuple(range(1, 21))) == (1, 2, 4, 8, 16, 20)
    assert doubling((10, 20, 30, 35)) == (10, 20, 35)
    assert doubling((1,)) == (1,)


def test_between_is_strictly_between() -> None:
    assert between((1, 2, 3, 4), 1, 4) == 3
    assert between((1, 2), 1, 2) is None


def test_the_widest_gap_with_a_change_is_next() -> None:
    allowed = tuple(range(1, 17))
    seen: dict[int, str] = {1: "a", 2: "a", 4: "b", 8: "b", 16: "c"}
    assert next_count(seen, allowed) == 3
    seen[3] = "b"
    assert next_count(seen, allowed) == 12
    assert next_count({1: "a", 2: "b"}, (1, 2)) is None
    assert next_count({1: "a"}, (1,)) is None


@given(ALLOWED, st.data())
def test_refining_ends_when_the_change_is_between_neighbors(allowed: tuple[int, ...], data: st.DataObject) -> None:
    change = data.draw(st.sampled_from(allowed))
    seen: dict[int, bool] = {}
    while (count := next_count(seen, allowed)) is not None:
        assert count not in seen
        seen[count] = count >= change
    assert change in seen
    before = [count for count in allowed if count < change]
    assert not before or before[-1] in seen
    assert len(seen) <= 2 * allowed[-1].bit_length() + 3


class Tried:
    """An oracle that records its answers."""

    def __init__(self, passes: Callable[[int], bool]) -> None:
        self.passes = passes
        self.looks: list[tuple[int, bool]] = []

    def __call__(self, count: int) -> bool:
        self.looks.append((count, self.passes(count)))
        return self.looks[-1][1]

    @property
    def first_failing(self) -> int | None:
        return min((count for count, passed in self.looks if not passed), default=None)


@given(ALLOWED, st.data(), st.integers(0, 4))
def test_the_largest_number_is_exact_if_passing_is_monotone(
    allowed: tuple[int, ...], data: st.DataObject, recheck: int
) -> None:
    most = data.draw(st.sampled_from((0, *allowed)))
    tried = Tried(lambda count: count <= most)
    assert largest_passing(allowed, tried, recheck) == most
    assert len(tried.looks) == len({count for count, _ in tried.looks}) <= 2 * allowed[-1].bit_length() + 3 + recheck
    assert tried.first_failing == min((count for count in allowed if count > most), default=None)


@given(ALLOWED, st.data(), st.integers(0, 4))
def test_all_smaller_numbers_that_were_tried_pass(allowed: tuple[int, ...], data: st.DataObject, recheck: int) -> None:
    good = data.draw(st.sets(st.sampled_from(allowed)))
    tried = Tried(lambda count: count in good)
    largest = largest_passing(allowed, tried, recheck)
    assert all(passed for count, passed in tried.looks if count <= largest)
    assert largest in (0, *good)
    if tried.first_failing is not None:
        assert between(allowed, largest, tried.first_failing) is None  # no better number is left


def test_rechecks_find_a_failure_below() -> None:
    def passes(count: int) -> bool:
        return count <= 13 and count != 10

    assert largest_passing(tuple(range(1, 17)), passes) == 13
    assert largest_passing(tuple(range(1, 17)), passes, recheck=6) == 9
