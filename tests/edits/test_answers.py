"""Comparison of short answers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit.edits.answers import answer_words, begins_with, same_answer, same_opening


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (" St. Louis.", ("st", "louis")),
        ("U.S.A.", ("usa",)),
        ("“Hello,” she said", ("hello", "she", "said")),
        ("O'Neil", ("oneil",)),
        ("non-partisan", ("non", "partisan")),
        ("1,000,000 men", ("1000000", "men")),
        ("Straße", ("strasse",)),
        ("Paris.It is", ("paris", "it", "is")),
        ("???", ("???",)),
        ("", ()),
    ],
)
def test_words_of_an_answer(text: str, words: tuple[str, ...]) -> None:
    assert answer_words(text) == words


@pytest.mark.parametrize(
    ("one", "other"), [("English", "english."), ("The Who", "Who"), ("St. Louis", "St Louis"), (" a  b ", "A b")]
)
def test_same_answers(one: str, other: str) -> None:
    assert same_answer(one, other)


@pytest.mark.parametrize(
    ("one", "other"),
    [("C++", "C"), ("C#", "C"), ("3.5", "35"), ("-5", "5"), ("5%", "5"), ("Vitamin A", "Vitamin"), ("A", "The")],
)
def test_answers_that_differ(one: str, other: str) -> None:
    assert not same_answer(one, other)


@pytest.mark.parametrize(
    ("text", "target"),
    [
        (" English, of course", "english"),
        (" the Beatles", "Beatles"),
        ("A minor", "A"),
        ("Who, again", "The Who"),
        ("纽约是美国的城市", "纽约"),
        ("“纽约”是", "纽约"),
        ("東京です。", "東京"),
        ("アメリカ合衆国", "アメリカ"),
        ("とうきょうです", "とうきょう"),
        ("กรุงเทพเป็นเมืองหลวง", "กรุงเทพ"),
        ("ວຽງຈັນແມ່ນ", "ວຽງຈັນ"),
        ("ភ្នំពេញជា", "ភ្នំពេញ"),
        ("约翰·史密斯是", "约翰史密斯"),
        ("2020年1月", "2020年"),
        ("Apple公司", "Apple"),
        ("서울 시", "서울"),
    ],
)
def test_begins_with(text: str, target: str) -> None:
    assert begins_with(text, target)


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("Englishman", "English"),
        ("not English", "English"),
        ("Vitamin C", "Vitamin A"),
        ("C is", "C++"),
        ("New", "New York"),
        ("", "English"),
        ("English", ""),
        ("北京是", "纽约"),
        ("是纽约", "纽约"),
        ("纽", "纽约"),
        ("서울시", "서울"),
        ("カー", "カ"),
        ("กิน", "ก"),
        ("Applefruit公司", "Apple"),
    ],
)
def test_does_not_begin_with(text: str, target: str) -> None:
    assert not begins_with(text, target)


def test_openings_are_compared_up_to_a_number_of_words() -> None:
    assert same_opening("French and German", "French, but", 1)
    assert not same_opening("French and German", "French, but", 2)
    assert same_opening("", "", 3)
    assert same_opening("纽约是城市", "纽约在美国", 2)
    assert not same_opening("纽约是城市", "纽约在美国", 3)
    assert not same_opening("French", "", 1)


@given(st.text(min_size=1).filter(str.strip), st.text())
def test_an_answer_begins_with_itself(target: str, rest: str) -> None:
    assert same_answer(target, target)
    assert begins_with(f"{target} \n", target)
    if answer_words(target)[0].isalnum() and answer_words(f"{target} {rest}")[: len(answer_words(target))] == (
        answer_words(target)
    ):
        assert begins_with(f"{target} {rest}", target)
