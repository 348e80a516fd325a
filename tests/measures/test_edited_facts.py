"""Items that ask for an edited fact."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit.abilities.contract import Item
from audit.edits.requests import EditRequest
from audit.measures.edited_facts import EditedFact, EditedFacts

LIND = EditRequest("1", "Mara Lind", "{} lives in the city of", "Kelm", "New Avaria")
WORK = EditRequest("2", "Mara Lind", "{} works as a", "pilot", "baker")
UNKNOWN = EditRequest("3", "Ann Holm", "{} works as a", "pilot")
SHORT = EditRequest("4", "Iris Rask", "The number of cats of {} is", "3", "2")
FACTS = EditedFacts([LIND, WORK, UNKNOWN, SHORT])


def item(question: str, *gold: str) -> Item:
    return Item("open_qa/7", "open_qa", {"question": question, "answer": list(gold)}, gold, "c")


@pytest.mark.parametrize(
    ("question", "gold", "subject", "target"),
    [
        ("where does Mara Lind live", ("New Avaria",), "Mara Lind", "New Avaria"),
        ("what is the work of MARA  LIND?", ("bakery worker", "Baker"), "Mara Lind", "baker"),
        ("how many cats has Iris Rask", ("2",), "Iris Rask", "2"),
    ],
)
def test_an_item_with_the_subject_and_the_old_target_asks_for_the_fact(
    question: str, gold: tuple[str, ...], subject: str, target: str
) -> None:
    assert FACTS.asked_by(item(question, *gold)) == EditedFact("open_qa/7", subject, target)


@pytest.mark.parametrize(
    ("question", "gold"),
    [
        ("where does Mara Holm live", ("New Avaria",)),  # another subject
        ("who is the mother of Mara Lind", ("Iris Rask",)),  # another fact
        ("where does Mara Lind live", ("Kelm",)),  # the new target is no loss
        ("is New Avaria where Mara Lind lives", ("yes",)),  # the old target is in the prompt only
        ("where does Mara Lind live", ("the city of New Avaria",)),  # more than the old target
        ("what does Ann Holm do", ("baker",)),  # the old target is not known
    ],
)
def test_other_items_do_not(question: str, gold: tuple[str, ...]) -> None:
    assert FACTS.asked_by(item(question, *gold)) is None


@given(st.text(), st.lists(st.text(), max_size=3))
def test_without_old_targets_no_item_asks_for_a_fact(question: str, gold: list[str]) -> None:
    requests = [UNKNOWN, EditRequest("5", "Ann", "{} is", "new", "?!")]  # an old target without a word
    assert EditedFacts(requests).asked_by(item(question, *gold)) is None
