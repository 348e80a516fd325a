"""The lines under a failing assertion stay short enough for pytest to show all of them."""

from dataclasses import replace

from audit.reports.rows import Example
from audit.reports.run_sentences import examples, explanation
from tests.reports.sample import FAILED, row_with

LONG = Example("k", "Passage. " * 100 + "Is it so?\nAnswer:", "yes " * 50, "because " * 50 + "yes", "no\n" * 50)


def test_long_questions_and_answers_are_cut_in_the_middle() -> None:
    lines = explanation(replace(FAILED, examples=(LONG, LONG, LONG)), "PASS")
    assert len(lines) <= 8
    assert len(lines) == 6
    assert sum(map(len, lines)) <= 640 + 47
    assert "Is it so? Answer:" in lines[4]
    assert "yes'" in lines[4]
    assert not any("\n" in line for line in lines)


def test_a_long_sentence_leaves_out_examples_rather_than_being_cut() -> None:
    long = row_with(FAILED, ability="reasoning" * 30, examples=(LONG, LONG))
    lines = explanation(long, "PASS")
    assert len(lines) == 4
    assert lines[-1] == long.sentence


def test_without_examples_the_numbers_stand_alone() -> None:
    assert len(explanation(replace(FAILED, examples=()), "PASS")) == 4


def test_in_full_nothing_is_cut() -> None:
    text = examples(replace(FAILED, examples=(LONG,)))
    assert text.count("Passage.") == 100
    assert repr(LONG.edited.strip()) in text
