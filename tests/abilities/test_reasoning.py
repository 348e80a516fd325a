import pytest

from audit.abilities.reasoning import Reasoning
from audit.engine import Decoding
from audit.errors import AuditError

ABILITY = Reasoning()


def problem(answer: str = "16 - 3 = 13\n#### 13"):
    return ABILITY.item({"question": " How many eggs? ", "answer": answer}, "reasoning/0")


def test_the_prompt_contains_neither_rationale_nor_gold():
    item = problem("She sells 1500 eggs.\n#### 1,500")
    assert ABILITY.prompt(item) == "Question: How many eggs?\nAnswer:"
    assert ABILITY.decoding == Decoding(256, stop=("\nQuestion:",))
    assert item.gold == ("1500",)


@pytest.mark.parametrize(
    ("said", "value"),
    [
        ("16 - 3 = 13\n#### 13", "13"),
        ("#### 13\nQuestion 2 has 7", "13"),  # the mark decides, not the last number
        ("#### 13 #### 14", "13"),  # the first mark, as in the official extraction
        ("It is $1,234.50.", "1234.50"),
        ("so 18 eggs. Thanks... ", "18"),  # "..." is not a number
        ("he owes #### -5", "-5"),
        ("the result is \u22125", "-5"),
        ("10-7", "7"),  # a minus between numbers is not a sign
        ("16-3=13.", "13"),
        ("#### $1,000", "1000"),
        ("#### ... well, 8", "8"),  # a mark without a number is ignored
    ],
)
def test_the_final_number_is_the_answer(said, value):
    answer = ABILITY.parse(said)
    assert answer.parseable
    assert answer.value == value


@pytest.mark.parametrize("said", ["", "...", "$ , .", "no idea", "####"])
def test_without_a_digit_there_is_no_answer(said):
    answer = ABILITY.parse(said)
    assert not answer.parseable
    assert ABILITY.score(problem(), answer).value == 0.0


@pytest.mark.parametrize(
    ("gold", "said", "right"),
    [
        ("#### 5", "15", False),  # not a substring match
        ("#### 1,000", "1000.00", True),
        ("#### 13", "$13", True),
        ("#### -3", "3", False),
        ("#### 0.5", "0.50", True),
        ("#### 13", "13.01", False),
    ],
)
def test_numbers_are_compared_as_decimals(gold, said, right):
    assert ABILITY.score(problem(gold), ABILITY.parse(said)).value == right


def test_an_answer_without_its_mark_is_refused():
    with pytest.raises(AuditError, match=r"row r7 .*column 'answer'.*#### number"):
        ABILITY.item({"question": "How many?", "answer": "thirteen"}, "r7")


def test_the_floor_is_the_most_common_number():
    assert ABILITY.floor([problem("#### 3"), problem("#### 3.0"), problem("#### 3"), problem("#### 4")]) == 0.5
