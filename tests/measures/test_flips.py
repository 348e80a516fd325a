"""Flips of answers, loops, and items that mention an edit."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit.abilities.contract import Item
from audit.edits.requests import EditRequest
from audit.measures.flips import Mentions, ScoredAnswer, count_flips, flips_of, repeats

LIND = EditRequest("1", "Mara Lind", "{} lives in the city of", "New Avaria", "Velden")
SHORT = EditRequest("2", "Ann Bo", "{} has so many cats:", "2", "no")
MENTIONS = Mentions([LIND, SHORT])


def item(**fields: object) -> Item:
    return Item("k", "closed_qa", fields, ("yes",), "c", (" yes", " no"))


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Where does Mara Lind live?", ("Mara Lind",)),
        ("MARA LIND's house in velden.", ("Mara Lind", "Velden")),
        ("Mara Lindberg lives in Veldenburg, new Avarian.", ()),
        ("mara\nlind", ("Mara Lind",)),
        ("She has 2 cats, no dogs.", ()),
        ("Mara Lind lives in the city of", ("Mara Lind",)),
    ],
)
def test_whole_words_are_found_in_upper_and_lower_case(text: str, found: tuple[str, ...]) -> None:
    assert MENTIONS.in_text(text) == found


@pytest.mark.parametrize(("text", "found"), [("他住在北京的东边", ("北京",)), ("東京にいる", ("東京",)), ("北方", ())])
def test_phrases_are_found_in_scripts_without_spaces(text: str, found: tuple[str, ...]) -> None:
    requests = [EditRequest("a", "北京", "{}是", "东"), EditRequest("b", "東京", "{}は", "京")]
    assert Mentions(requests).in_text(text) == found


def test_all_columns_and_gold_answers_are_searched() -> None:
    assert MENTIONS.in_item(item(tokens=["In", "New", "Avaria", "."], tags=[0, 1, 2, 0])) == ("New Avaria",)
    assert MENTIONS.in_item(item(turns={"a": ["hello", "Velden"]}, label=1)) == ("Velden",)
    assert MENTIONS.in_item(item(question="who")) == ()
    assert MENTIONS.in_item(Item("k", "open_qa", {"question": "where"}, ("Velden",), "c")) == ("Velden",)


def test_without_requests_nothing_is_mentioned() -> None:
    assert Mentions([]).in_text("Mara Lind lives in Velden") == ()


@given(st.text(), st.text(), st.sampled_from(["Mara Lind", "New Avaria", "Velden"]))
def test_a_phrase_is_found_in_any_context(before: str, after: str, phrase: str) -> None:
    assert phrase in MENTIONS.in_text(f"{before} {phrase} {after}")


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
