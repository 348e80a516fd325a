import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audit.abilities.dialogue import Dialogue
from audit.abilities.readings.choices import best_choice
from audit.errors import AuditError

ABILITY = Dialogue()
ROW = {"article": " m : hi . f : hello . ", "options": [" m : a", "m : b", "m : c", "m : d"], "answers": "C", "id": "1"}


def item(letter: str = "C"):
    return ABILITY.item({**ROW, "answers": letter}, "dialogue/0")


def value(log_likelihoods: list[float], letter: str = "C") -> float:
    said = best_choice(item(letter), log_likelihoods)
    return ABILITY.score(item(letter), ABILITY.parse(said)).value


def test_the_options_continue_the_article():
    assert ABILITY.prompt(item()) == "m : hi . f : hello ."
    assert item().choices == ("m : a", "m : b", "m : c", "m : d")
    assert item().gold == ("2",)
    assert ABILITY.decoding is None


def test_the_most_likely_option_is_the_answer():
    assert value([-9.0, -8.0, -7.0, -8.5]) == 1.0
    assert value([-6.0, -8.0, -7.0, -8.5]) == 0.0


def test_a_tie_goes_against_the_model():
    assert value([-9.0, -9.0, -7.0, -7.0]) == 0.0
    # All equal: an argmax would score 1 wherever the first choice is right.
    assert [value([-1.0] * 4, letter) for letter in "ABCD"] == [0.0] * 4


@pytest.mark.parametrize("broken", [math.nan, math.inf, -math.inf])
def test_values_that_are_not_finite_are_wrong_and_unparseable(broken):
    assert not ABILITY.parse(best_choice(item(), [broken] * 4)).parseable
    assert [value([broken] * 4, letter) for letter in "ABCD"] == [0.0] * 4
    assert value([-9.0, -9.0, broken, -9.0]) == 0.0
    assert value([broken, -9.0, -1.0, -9.0]) == 0.0


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(-1e6, 0), min_size=4, max_size=4), st.permutations(range(4)))
def test_shuffling_the_options_does_not_change_the_score(log_likelihoods, order):
    moved = [log_likelihoods[place] for place in order]
    assert value(log_likelihoods, "C") == value(moved, "ABCD"[order.index(2)])


@pytest.mark.parametrize(("count", "letters"), [(3, "A, B, C"), (4, "A, B, C, D"), (5, "A, B, C, D")])
def test_the_letters_that_an_answer_may_be_are_listed(count, letters):
    row = {**ROW, "options": [f"m : {number}" for number in range(count)], "answers": "E"}
    with pytest.raises(AuditError, match=f"row dialogue/0 has answer 'E' for {count} options; use one of {letters}$"):
        ABILITY.item(row, "dialogue/0")


@pytest.mark.parametrize("letter", [" ", "", "E", "AB", "3"])
def test_a_blank_or_unknown_answer_is_refused(letter):
    # MuTual's test split has blank answers.
    with pytest.raises(AuditError, match="row dialogue/0"):
        item(letter)


def test_the_floor_is_chance_whatever_place_is_the_commonest():
    assert ABILITY.floor([item("A"), item("D"), item("D")]) == 0.25
    three = ABILITY.item({**ROW, "options": ROW["options"][:3]}, "dialogue/3")
    assert ABILITY.floor([item(), three]) == pytest.approx((1 / 4 + 1 / 3) / 2)
    assert ABILITY.floor([]) == 0.0


@pytest.mark.parametrize(
    ("log_likelihoods", "expected"),
    [
        ([math.nan] * 4, 0.0),
        ([math.nan, -1.0, -2.0, -3.0], 0.0),
        ([-1.0] * 4, 0.0),
        ([-1.0, -1.0, -2.0, -3.0], 0.0),  # always one of two places: 1/4, were a tie not wrong
        ([-4.0, -3.0, -2.0, -1.0], 0.25),  # always the last place
    ],
)
def test_a_ranking_that_ignores_the_content_does_not_score_above_the_floor(log_likelihoods, expected):
    """The mean over all places of the right option, which the content of an item does not tell."""
    scores = [value(log_likelihoods, letter) for letter in "ABCD"]
    assert sum(scores) / 4 == expected <= ABILITY.floor([item(letter) for letter in "ABCD"])


def test_the_place_of_an_option_is_no_part_of_what_the_model_reads():
    moved = ABILITY.item({**ROW, "options": ROW["options"][::-1], "answers": "B"}, "dialogue/0")
    assert ABILITY.prompt(moved) == ABILITY.prompt(item())
    assert moved.choices == item().choices[::-1]
    assert moved.choices[int(moved.gold[0])] == item().choices[2]


def test_items_of_one_article_share_a_cluster():
    other = ABILITY.item({**ROW, "article": "another"}, "k")
    assert item("A").cluster == item("B").cluster != other.cluster


def test_a_log_likelihood_is_needed_for_every_choice():
    with pytest.raises(ValueError, match="4 choices and 3"):
        best_choice(item(), [-1.0, -2.0, -3.0])
