"""Flips of answers, and loops."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit.measures.flips import ScoredAnswer, count_flips, flips_of, repeats


@pytest.mark.parametrize(
    ("text", "loops"),
    [
        ("Velden Velden Velden", True),
        ("He said that he said that he said that he", True),
        ("the cat sat the cat sat the cat sat the c", True),
        ("aaaaaaaaaaaaaaaa", True),
        ("12121212121212", True),
        ("Velden", False),
        ("no, no", False),
        ("3*4=12. 12-2=10. #### 10", False),
        ("", False),
        ("100000", False),
    ],
)
def test_a_loop_at_the_end_is_seen(text: str, loops: bool) -> None:
    assert repeats(text) == loops


@given(st.lists(st.text("abcdefgh", min_size=1, max_size=6), min_size=1, max_size=8), st.integers(3, 6))
def test_any_short_phrase_three_times_in_a_row_is_a_loop(phrase: list[str], copies: int) -> None:
    assert repeats(" ".join(["Well:", *phrase * copies]))


def test_a_flip_needs_an_edited_answer() -> None:
    with pytest.raises(ValueError, match=r"^there is no edited answer; give that of at least one edited model$"):
        flips_of(ScoredAnswer(1.0, True, "yes"), [])


def test_an_answer_flips_as_the_mean_over_the_edited_models_does() -> None:
    right, wrong, lost = (
        ScoredAnswer(1.0, True, "yes"),
        ScoredAnswer(0.0, True, "no"),
        ScoredAnswer(0.0, False, "so so so so"),
    )
    assert flips_of(right, [right]) == ()
    assert flips_of(right, [wrong]) == ("right to wrong",)
    assert flips_of(wrong, [right, wrong]) == ("wrong to right",)
    assert flips_of(right, [right, lost]) == ("right to wrong", "parsed to unparseable", "repeated text")
    assert flips_of(lost, [lost]) == ()
    counts = count_flips([flips_of(right, [wrong]), flips_of(right, [lost]), ()])
    assert (counts.items, counts.right_to_wrong, counts.wrong_to_right) == (3, 2, 0)
    assert (counts.parsed_to_unparseable, counts.repeated) == (1, 1)
