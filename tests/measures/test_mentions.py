"""Items that mention an edit."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit.abilities.contract import Item
from audit.edits.requests import EditRequest
from audit.measures.mentions import Mentions

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
