"""The words that differ between two answers."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from audit.reports.html.word_diff import Span, word_diff


def test_only_the_words_that_differ_are_marked() -> None:
    base, edited = word_diff("3*4=12. The answer is 10", "3*4=12. The answer is 12 pears")
    assert base == (Span("3*4=12. The answer is ", False), Span("10", True))
    assert edited == (Span("3*4=12. The answer is ", False), Span("12 pears", True))
    base, _ = word_diff("one two three", "four five, six")
    assert base == (Span("one two three", True),)


@given(st.text(), st.text())
def test_the_spans_are_the_texts_again_and_take_turns(base: str, edited: str) -> None:
    for text, spans in zip((base, edited), word_diff(base, edited), strict=True):
        assert "".join(span.text for span in spans) == text
        assert all(one.differs != other.differs for one, other in pairwise(spans))
    same, again = word_diff(base, base)
    assert same == again == ((Span(base, False),) if base else ())
