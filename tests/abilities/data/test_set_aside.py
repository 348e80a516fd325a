"""Rows set aside: never judged, in no source of a judged item, and always the same."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audit.abilities import load_ability
from audit.abilities.contract import Item, Row
from audit.abilities.data import Origin
from audit.abilities.data.set_aside import EXAMPLES, FEWEST, LARGEST_SHARE, PILOT, SetAside, set_aside
from audit.abilities.data.sources import items
from audit.errors import AuditError

WANTED = EXAMPLES + PILOT


@dataclass(frozen=True)
class Pairs:
    """Rows like those of RTE. `test` and `training` are (premise, hypothesis) by number; None is a row without text."""

    test: Sequence[tuple[int, int] | None]
    training: Sequence[tuple[int, int] | None] = field(default=())
    name: str = "pairs"

    def rows(self, ability_name: str) -> Sequence[Row]:
        return [_row(pair) for pair in self.test]

    def training_rows(self, ability_name: str) -> Sequence[Row]:
        if not self.training:
            raise AuditError("pairs has no training split")
        return [_row(pair) for pair in self.training]

    def origin(self, ability_name: str) -> Origin:
        return Origin(self.name)

    def check(self) -> None:
        pass


def _row(pair: tuple[int, int] | None) -> Row:
    if pair is None:
        return {"sentence1": "", "sentence2": "", "label": 0}
    return {"sentence1": f"Premise {pair[0]}.", "sentence2": f"Hypothesis {pair[1]}.", "label": pair[1] % 2}


def apart(count: int, start: int = 0) -> list[tuple[int, int] | None]:
    """Rows of a source each."""
    return [(number, number) for number in range(start, start + count)]


def drawn(source: Pairs, limit: int, seed: int = 0) -> tuple[SetAside, tuple[Item, ...]]:
    """What is set aside, and the items that are then judged."""
    ability = load_ability("nli")
    found = set_aside(ability, source, limit, seed)
    return found, items(ability, source, limit, seed, found.judged)


pairs = st.tuples(st.integers(0, 60), st.integers(0, 60))


@settings(max_examples=60)
@given(
    st.lists(pairs, min_size=1, max_size=150),
    st.lists(pairs, max_size=100),
    st.integers(1, 120),
    st.integers(0, 3),
)
def test_nothing_that_is_judged_is_set_aside(
    test: list[tuple[int, int] | None], training: list[tuple[int, int] | None], limit: int, seed: int
) -> None:
    ability, source = load_ability("nli"), Pairs(test, training)
    found, judged = drawn(source, limit, seed)
    aside = [*found.examples, *found.pilot]
    assert {one.key for one in aside}.isdisjoint(one.key for one in judged)
    assert {one.cluster for one in aside}.isdisjoint(one.cluster for one in judged)
    assert {ability.prompt(one) for one in aside}.isdisjoint(ability.prompt(one) for one in judged)
    assert {one.cluster for one in found.examples}.isdisjoint(one.cluster for one in found.pilot)
    assert len({one.key for one in aside}) == len(aside)
    assert len(judged) == found.judged <= limit
    assert len(found.examples) <= EXAMPLES and len(found.pilot) <= PILOT
    assert found.enough == (len(found.pilot) >= FEWEST)


@settings(max_examples=30)
@given(st.lists(pairs, min_size=1, max_size=120), st.lists(pairs, max_size=100), st.integers(1, 60), st.integers(0, 3))
def test_the_same_seed_gives_the_same_rows(
    test: list[tuple[int, int] | None], training: list[tuple[int, int] | None], limit: int, seed: int
) -> None:
    ability = load_ability("nli")
    first, again = (set_aside(ability, Pairs(test, training), limit, seed) for _ in range(2))
    assert first == again


def test_another_seed_gives_other_rows() -> None:
    first, second = (set_aside(load_ability("nli"), Pairs(apart(300)), 100, seed) for seed in (0, 1))
    assert {one.key for one in first.pilot} != {one.key for one in second.pilot}


def places(aside: SetAside) -> set[str]:
    """Which split the rows are of."""
    return {"training" if "training" in one.key else "test" for one in (*aside.examples, *aside.pilot)}


def test_rows_beyond_the_limit_come_first() -> None:
    found, judged = drawn(Pairs(apart(200 + WANTED), apart(300, 1000)), 200)
    assert (found.judged, len(judged), len(found.examples), len(found.pilot)) == (200, 200, EXAMPLES, PILOT)
    assert places(found) == {"test"}


def test_then_training_rows() -> None:
    found, judged = drawn(Pairs(apart(200 + WANTED - 1), apart(300, 1000)), 200)
    assert (found.judged, len(judged), len(found.examples), len(found.pilot)) == (200, 200, EXAMPLES, PILOT)
    assert places(found) == {"training"}


@pytest.mark.parametrize("training", [0, EXAMPLES + FEWEST - 1])
def test_then_a_part_of_the_test_rows_which_are_not_judged(training: int) -> None:
    found, judged = drawn(Pairs(apart(100), apart(training, 1000)), 200)
    aside = int(LARGEST_SHARE * 100)
    assert found.judged == len(judged) == 100 - aside
    assert places(found) == {"test"}
    assert len(found.examples) == min(EXAMPLES, aside // 4)
    assert len(found.examples) + len(found.pilot) == aside
    assert found.enough


def test_a_part_takes_the_rows_beyond_the_limit_before_any_that_would_be_judged() -> None:
    """60 rows of which 10 are judged leave 50, which are enough for a choice."""
    found, judged = drawn(Pairs(apart(60)), 10)
    assert (found.judged, len(judged)) == (10, 10)
    assert len(found.examples) + len(found.pilot) == 50
    assert found.enough


@pytest.mark.parametrize("count", [1, 2, 12, 50])
def test_too_few_rows_are_too_few_for_a_choice(count: int) -> None:
    found, judged = drawn(Pairs(apart(count)), 200)
    assert not found.enough
    assert len(judged) == count - int(LARGEST_SHARE * count)


def test_rows_of_a_judged_source_are_left_out() -> None:
    """Each premise has two hypotheses; of most of those set aside, one is judged."""
    test = [(number // 2, number) for number in range(400)]
    found, judged = drawn(Pairs(test), 300)
    sources = {one.cluster for one in judged}
    free = {number // 2 for number in range(400)} - {int(one.fields["sentence1"][8:-1]) for one in judged}
    assert 0 < len(found.examples) + len(found.pilot) <= 2 * len(free) < WANTED
    assert sources.isdisjoint(one.cluster for one in (*found.examples, *found.pilot))


def test_unusable_rows_are_left_out() -> None:
    training: list[tuple[int, int] | None] = [None if k % 3 == 0 else (1000 + k, k) for k in range(300)]
    found, _ = drawn(Pairs(apart(50), training), 200)
    assert len(found.pilot) == PILOT and places(found) == {"training"}
    assert all(one.fields["sentence1"].startswith("Premise 1") for one in found.pilot)


def test_examples_show_both_labels_in_turn() -> None:
    found, _ = drawn(Pairs(apart(400)), 200)
    labels = [one.gold[0] for one in found.examples]
    assert len(labels) == EXAMPLES
    assert set(labels[::2]) != set(labels[1::2]) and len(set(labels[::2])) == len(set(labels[1::2])) == 1


def test_examples_of_one_label_are_those_there_are() -> None:
    rows = [(number, 2 * number) for number in range(400)]
    found, _ = drawn(Pairs(rows), 200)
    assert len(found.examples) == EXAMPLES
    assert len({one.gold for one in found.examples}) == 1
