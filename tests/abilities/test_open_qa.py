import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audit.abilities.open_qa import OpenQA
from audit.abilities.readings.words import exact_match, squad_normalized, token_f1
from audit.errors import AuditError

ABILITY = OpenQA()


def item(*golds: str):
    return ABILITY.item({"question": "who wrote it", "answer": list(golds)}, "open_qa/0")


def score(said: str, *golds: str):
    return ABILITY.score(item(*golds), ABILITY.parse(said))


def test_the_prompt_adds_one_question_mark_and_only_a_line_break_stops():
    assert ABILITY.prompt(item("x")) == "Question: who wrote it?\nAnswer:"
    assert ABILITY.decoding is not None
    assert ABILITY.decoding.stop == ("\n",)  # golds such as "U.S. Senate" contain "." and ","


@pytest.mark.parametrize(
    ("said", "golds"),
    [
        (" The Beatles", ["beatles"]),
        ("14 December, 1972 UTC", ["14 December 1972 UTC", "December 1972"]),
        ("december 1972", ["14 December 1972 UTC", "December 1972"]),
        ("U.S. Senate", ["US Senate"]),
        ("Washington , D.C.", ["washington, dc"]),
    ],
)
def test_exact_match_after_normalization_over_all_golds(said, golds):
    assert score(said, *golds).value == 1.0
    assert score(said, *golds).beside["f1"] == 1.0


def test_a_longer_answer_is_wrong_but_has_f1():
    got = score("it was Bobby Scott", "Bobby Scott", "Bob Russell")
    assert got.value == 0.0
    assert got.beside["f1"] == pytest.approx(2 * 2 / (4 + 2))  # the better gold


def test_the_order_of_normalization_is_squads():
    # Punctuation is removed before articles, so "a." is an article, and the "s" of "Cat's" stays.
    assert squad_normalized("A. The  Cat's,an (owl)!") == "catsan owl"
    assert squad_normalized("theatre another") == "theatre another"


@pytest.mark.parametrize("said", ["", "...", " the ", "a, an!"])
def test_an_empty_answer_matches_no_gold(said):
    assert not ABILITY.parse(said).parseable
    # SQuAD v1.1: no common token is 0, even when the gold is empty after normalization too.
    got = score(said, "The")
    assert (got.value, got.beside["f1"]) == (0.0, 0.0)


@pytest.mark.parametrize("answer", [[], ["ok", " "], "a text", None, [3]])
def test_golds_must_be_a_list_of_texts(answer):
    with pytest.raises(AuditError, match="column 'answer'"):
        ABILITY.item({"question": "who", "answer": answer}, "r")


def test_the_floor_is_the_most_common_gold():
    assert ABILITY.floor([item("Kelm"), item("Kelm", "x"), item("Velden"), item("Oslo")]) == 0.5


@settings(max_examples=40, deadline=None)
@given(st.text(max_size=30), st.lists(st.text(min_size=1, max_size=30), min_size=1, max_size=4))
def test_exact_match_implies_full_f1_and_both_ignore_the_order_of_golds(said, golds):
    f1 = token_f1(said, golds)
    assert 0 <= f1 <= 1
    assert f1 == token_f1(said, golds[::-1])
    if exact_match(said, golds):
        assert f1 == 1.0
