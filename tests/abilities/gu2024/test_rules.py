"""Answers that the paper's rules count as right, defects included, and the accidents that are left out."""

import pytest

from audit.abilities import load_ability
from audit.abilities.contract import Row, Score, items_of
from audit.errors import AbilityError, AuditError

ROWS: dict[str, Row] = {
    "reasoning": {"question": "How many?", "answer": "1 + 4 = 5\n#### 5"},
    "nli": {"sentence1": "a", "sentence2": "b", "label": 0},
    "open_qa": {"question": "where", "answer": ["The U.S. Senate", "Velden"], "document": "d"},
    "closed_qa": {"passage": "p", "question": "q", "answer": True},
    "dialogue": {"article": "m : hi", "options": ["a", "b", "c", "d"], "answers": "B"},
    "summarization": {"dialogue": "A: lunch?", "summary": "They have lunch."},
    "sentiment": {"sentence": "fine", "label": 1},
}


def score(name: str, said: str, **more: object) -> Score:
    ability = load_ability(name, "gu2024")
    return ability.score(ability.item({**ROWS[name], **more}, "k"), ability.parse(said))


@pytest.mark.parametrize(
    ("name", "said", "value"),
    [
        ("reasoning", " 5", 1),
        ("reasoning", " 15", 1),  # containment
        ("reasoning", " five", 0),
        ("nli", " True", 1),
        ("nli", "untrue", 1),
        ("nli", " I", 0),
        ("open_qa", " It sits in the US\nSenate, I think", 1),
        ("open_qa", " us", 0),  # a part of a gold
        ("open_qa", " Veldenburg", 0),  # n-grams are of whole words
        ("open_qa", "...", 0),
        ("closed_qa", " Yes", 1),
        ("closed_qa", "yes", 1),  # a tokenizer that does not give the blank back
        ("closed_qa", " yes,", 0),
        ("closed_qa", " 'yes", 0),
        ("closed_qa", " no", 0),
        ("dialogue", " B", 1),
        ("dialogue", " Bob", 1),
        ("dialogue", " ABC", 1),
        ("dialogue", " b", 0),
        ("sentiment", " Positive", 1),
        ("sentiment", " neg", 0),
        ("summarization", " They have lunch.", 1),
    ],
)
def test_right_and_wrong(name: str, said: str, value: float) -> None:
    assert score(name, said).value == pytest.approx(value)


def test_a_gold_number_must_be_spelled_as_in_the_data() -> None:
    answer = "So it is 1450.\n#### 1,450"
    assert score("reasoning", " 1,450.", answer=answer).value == 1
    assert score("reasoning", " 1450.", answer=answer).value == 0


def test_the_gold_rationale_leaks_only_in_this_protocol() -> None:
    row = {"question": "How many?", "answer": "It takes 1 + 4 = 5 of them.\n#### 5"}
    leaks = {p: load_ability("reasoning", p) for p in ("standard", "gu2024")}
    held = {p: "1 + 4 = 5" in ability.prompt(ability.item(row, "k")) for p, ability in leaks.items()}
    assert held == {"standard": False, "gu2024": True}
    assert "LEAKS" in str(type(leaks["gu2024"]).__doc__)


def test_the_floor_of_reasoning_is_one_long_constant_number() -> None:
    ability = load_ability("reasoning", "gu2024")
    items = [ability.item({"question": "q", "answer": f"#### {gold}"}, "k") for gold in (5, 15, 1, 7)]
    assert ability.floor(items) == 0.75  # 15 holds 5, 15 and 1
    assert ability.floor([]) == 0.0


def test_the_floor_of_dialogue_is_the_most_common_letter() -> None:
    ability = load_ability("dialogue", "gu2024")
    assert ability.floor([ability.item({**ROWS["dialogue"], "answers": letter}, "k") for letter in "BDDA"]) == 0.5


def test_an_item_counts_once_and_does_not_depend_on_earlier_items() -> None:
    # The scripts counted a question up to three times, and left later ones only the n-grams from the first word.
    ability = load_ability("open_qa", "gu2024")
    twice = [ability.score(ability.item(ROWS["open_qa"], "k"), ability.parse(" Velden and Velden")) for _ in range(2)]
    assert [one.value for one in twice] == [1, 1]


def test_a_summary_is_not_cut() -> None:
    assert score("summarization", " They have lunch.").beside["rouge1"] == 1.0


def test_a_missing_passage_gives_an_error_of_one_sentence() -> None:
    ability = load_ability("open_qa", "gu2024")
    with pytest.raises(AbilityError, match=r"row open_qa/3 has no column 'document' or 'passage'.*--protocol standard"):
        ability.item({"question": "who", "answer": ["x"]}, "open_qa/3")
    for empty in ("", [], None, [" "]):
        with pytest.raises(AuditError, match="in column 'document'; give a passage"):
            ability.item({**ROWS["open_qa"], "document": empty}, "k")


def test_dialogue_needs_four_options() -> None:
    with pytest.raises(AuditError, match="row k has 3 options; the protocol gu2024 needs four"):
        score("dialogue", " A", options=["a", "b", "c"])


# Two places side by side, one at the end of the sentence, one with a comma in it, one said twice.
SENTENCE = {
    "tokens": ["Mara", "met", "Mara", "in", "Velden", "Kelm", "and", "Fe", ",", "N.M."],
    "ner_tags": [1, 0, 1, 0, 5, 5, 0, 5, 6, 6],
}


def entity_scores(*said: str) -> list[Score]:
    ability = load_ability("ner", "gu2024")
    items = items_of(ability, SENTENCE, "ner/0")
    return [ability.score(item, ability.parse(text)) for item, text in zip(items, said, strict=True)]


def test_entities_are_found_anywhere_in_the_answer_for_their_type() -> None:
    found = entity_scores(" Mara.", " Kelm Velden Fe, N.M. and Oslo", " Mara", "")
    assert [one.counts for one in found] == [
        (2, 2, 0, 0, 0, 0, 0, 0),  # said once, there twice: containment finds both
        (0, 0, 3, 3, 0, 0, 0, 0),  # neighbors apart, the last one there, and the spurious Oslo costs nothing
        (0,) * 8,
        (0,) * 8,
    ]
    assert [one.value for one in found] == [1.0, 1.0, 1.0, 1.0]
    partly = entity_scores(" mara", " Velden", "", "")
    assert [(one.value, one.counts[:4]) for one in partly[:2]] == [
        (0.0, (0, 2, 0, 0)),  # upper and lower case count
        (pytest.approx(1 / 3), (0, 0, 1, 3)),
    ]


def test_the_four_items_of_a_sentence_share_its_cluster() -> None:
    items = items_of(load_ability("ner", "gu2024"), SENTENCE, "ner/7")
    assert [item.key for item in items] == ["ner/7/person", "ner/7/location", "ner/7/organization", "ner/7/misc"]
    assert {item.cluster for item in items} == {"ner/7"}
    assert [item.gold for item in items] == [("Mara", "Mara"), ("Velden", "Kelm", "Fe, N.M."), (), ()]
