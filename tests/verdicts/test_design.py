import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audit.verdicts.rehearsal import Design, drawn_changes


def drawn(design: Design, drop: float):
    return drawn_changes(design, drop, np.random.default_rng(0))


@settings(max_examples=30, deadline=None)
@given(
    discordance=st.floats(0.005, 1),
    change=st.floats(0.05, 1),
    drop=st.floats(0, 0.3),
    size=st.integers(1, 4),
    weighted=st.booleans(),
    loss=st.none() | st.floats(0.3, 1),
)
def test_what_is_drawn_drops_by_what_was_asked(discordance, change, drop, size, weighted, loss):
    design = Design(
        120,
        discordance,
        change,
        clusters=tuple(str(k // size) for k in range(120)),
        weights=(1.0, 2.0, 4.0) * 40 if weighted else None,
        loss=loss,
    )
    changes = drawn(design, drop)
    mean = changes.share * float(changes.chance @ (changes.lost - changes.gained)) / changes.every.mean()
    assert mean == pytest.approx(drop, abs=0.01 + 0.1 * drop)
    assert changes.every.sum() == pytest.approx(120)
    assert changes.chance.min() >= 0 and changes.chance.sum() == pytest.approx(1)


@pytest.mark.parametrize("change", [0.1, 0.5, 0.8, 1.0])
def test_changes_have_the_root_mean_square_that_is_expected_and_are_none_above_one(change):
    changes = drawn(Design(100, 0.1, change), 0.0)
    moved = changes.lost - changes.gained
    assert np.sqrt(np.square(moved).mean()) == pytest.approx(change, rel=0.02)
    assert np.abs(moved).max() <= 1


def test_changes_of_an_earlier_run_are_drawn_as_they_were():
    changes = drawn(Design(100, 0.1, (0.2, -0.7)), 0.0)
    assert set(np.round(changes.lost + changes.gained, 6)) == {0.2, 0.7}


def test_items_of_a_source_correlate_as_much_as_is_said():
    names = tuple(str(k // 2) for k in range(100))
    for alike in (0.0, 0.25, 1.0):
        changes = drawn(Design(100, 0.2, binary=True, clusters=names, alike=alike), 0.0)
        square = changes.share * float(changes.chance @ np.square(changes.lost - changes.gained))  # of a pair's sum
        assert square == pytest.approx(2 * 0.2 * (1 + alike), rel=0.05)


def test_where_all_changes_are_losses_more_items_change():
    assert drawn(Design(100, 0.1, binary=True), 0.05).share == 0.1
    assert drawn(Design(100, 0.1, binary=True), 0.3).share == pytest.approx(0.3)


def test_a_drop_is_made_of_whole_losses_where_their_size_is_given():
    design = Design(100, 0.1, (0.02,), weights=(1.0, 3.0) * 50, loss=0.8)
    for drop, losing in ((0.0, 0.0), (0.04, 0.05)):
        changes = drawn(design, drop)
        lost = np.isin(np.round(changes.lost, 6), [0.4, 1.2])  # 0.8 points of an item of mean weight
        assert changes.share * float(changes.chance[lost].sum()) == pytest.approx(losing, abs=0.003)


def test_nothing_changes_where_nothing_is_expected_to():
    changes = drawn(Design(100, 0.0), 0.0)
    assert changes.share == 0 and not changes.lost.any()
