"""The chart of all abilities: every place is on it, in the order of its number."""

from hypothesis import given
from hypothesis import strategies as st

from audit.reports.html.chart import chart
from tests.reports.sample import FAILED, PASSED, UNDECIDED, row_with

numbers = st.floats(-1, 1)


def test_the_drop_of_a_verdict_is_on_its_side_of_the_margin() -> None:
    found = chart([FAILED, PASSED, UNDECIDED])
    failed, passed, undecided = found.strips
    assert failed.lower is not None and failed.lower > found.margin
    assert passed.upper is not None and passed.upper < found.margin
    assert undecided.lower is not None and undecided.upper is not None
    assert undecided.lower < found.zero < found.margin < undecided.upper
    assert found.ticks == ()


def test_abilities_with_margins_of_their_own_have_one_line() -> None:
    narrow = row_with(PASSED, margin=0.005, drop=0.005)
    found = chart([PASSED, narrow])
    assert found.strips[1].drop == found.margin


def test_a_ruined_model_fits_and_a_margin_of_0_has_no_scale() -> None:
    found = chart([row_with(FAILED, margin=0.008, drop=0.79, lower=0.787, upper=0.8), row_with(PASSED, margin=0.0)])
    assert [label for _, label in found.ticks] == ["10×"]
    assert found.strips[0].drop is not None and found.strips[0].drop > found.ticks[0][0]
    assert found.strips[1].drop is None


@given(st.lists(st.tuples(st.tuples(numbers, numbers, numbers).map(sorted), st.floats(1e-6, 1)), min_size=1))
def test_places_are_on_the_chart_and_in_order(rows: list[tuple[list[float], float]]) -> None:
    found = chart([row_with(PASSED, lower=a, drop=b, upper=c, margin=margin) for (a, b, c), margin in rows])
    assert 0 < found.zero < found.margin < 100
    for strip in found.strips:
        assert strip.lower is not None and strip.drop is not None and strip.upper is not None
        assert 0 < strip.lower <= strip.drop <= strip.upper < 100


def test_without_abilities_there_is_nothing_to_draw() -> None:
    assert chart([]).strips == ()
