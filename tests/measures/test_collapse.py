"""A model counts as collapsed only if the strict rule holds."""

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit.measures.collapse import FEWEST_ANSWERS, LEAST_RATIO, CollapseSigns, WrittenAnswer, signs_of
from audit.measures.integrity import Integrity

VOCABULARY = 1728
PROPER = WrittenAnswer(" Velden", parseable=True, ended=True)
ENDLESS = WrittenAnswer(" home but will office chair", parseable=True, ended=False)
GARBLED = (
    WrittenAnswer("", parseable=False, ended=True),
    WrittenAnswer("run run run run", parseable=True, ended=True),
    ENDLESS,
)


def integrity(**change: object) -> Integrity:
    values: dict[str, object] = {
        "finite_weights": True,
        "finite_logits": True,
        "update_norms": {"a": 64.0},
        "perplexity_base": 1.7,
        "perplexity_edited": 9000.0,
    }
    return Integrity(**(values | change))  # type: ignore[arg-type]


def collapsed() -> CollapseSigns:
    return signs_of(integrity(), VOCABULARY).after([(PROPER, GARBLED[0])] * FEWEST_ANSWERS)


def test_perplexity_worse_than_guessing_and_garbled_answers_are_a_collapse() -> None:
    signs = collapsed()
    assert signs.collapsed
    assert signs.sentence == (
        "The edited model has collapsed: it predicts plain text worse than a random guess among 1,728 tokens "
        "(perplexity 1.7 before, 9000 after), and 12 of 12 answers that were readable before do not end, repeat "
        "themselves or cannot be parsed; the largest update is 64 times the norm of the weight."
    )


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"finite_weights": False}, "some of its weights"),
        ({"finite_weights": False, "finite_logits": False}, "some of its weights"),
        ({"finite_logits": False}, "its logits on plain text"),
        ({"perplexity_edited": math.nan}, "its logits on plain text"),
    ],
)
def test_numbers_that_are_not_finite_decide_alone(change: dict[str, object], what: str) -> None:
    signs = signs_of(integrity(**change), VOCABULARY)
    assert signs.collapsed
    assert not signs.suspicious  # nothing need be asked
    assert signs.sentence == f"The edited model has collapsed: {what} are NaN or infinite."


@pytest.mark.parametrize("base", [math.nan, math.inf])
@pytest.mark.parametrize("finite", [True, False])
def test_a_broken_base_model_is_no_collapse(base: float, finite: bool) -> None:
    told = integrity(perplexity_base=base, perplexity_edited=math.inf, finite_logits=finite, finite_weights=finite)
    signs = signs_of(told, VOCABULARY)
    assert not signs.after([(PROPER, GARBLED[0])] * 20).collapsed


def test_an_infinite_perplexity_is_worse_than_any_guess() -> None:
    assert signs_of(integrity(perplexity_edited=math.inf), VOCABULARY).suspicious


def test_without_a_text_no_model_is_suspicious() -> None:
    assert not signs_of(integrity(perplexity_base=None, perplexity_edited=None), VOCABULARY).suspicious


@given(st.floats(1.0, 1e6), st.floats(1.0, 1e9), st.integers(2, 300_000))
def test_perplexity_is_suspicious_only_beyond_guessing_and_far_from_the_base(
    base: float, edited: float, vocabulary: int
) -> None:
    signs = signs_of(integrity(perplexity_base=base, perplexity_edited=edited), vocabulary)
    assert signs.suspicious == (edited >= vocabulary and edited >= LEAST_RATIO * base)


@given(st.lists(st.tuples(st.sampled_from((PROPER, *GARBLED)), st.sampled_from((PROPER, *GARBLED))), max_size=40))
def test_only_answers_that_were_readable_before_count_and_most_must_be_lost(
    pairs: list[tuple[WrittenAnswer, WrittenAnswer]],
) -> None:
    compared = [pair for pair in pairs if pair[0] in (PROPER, ENDLESS)]
    lost = len(compared) - sum(pair in ((PROPER, PROPER), (ENDLESS, PROPER), (ENDLESS, ENDLESS)) for pair in compared)
    signs = signs_of(integrity(), VOCABULARY).after(pairs)
    assert (signs.answers, signs.garbled) == (len(compared), lost)
    assert signs.collapsed == (len(compared) >= 12 and lost >= len(compared) / 2)


@pytest.mark.parametrize("garbled", GARBLED)
def test_every_kind_of_garbled_answer_counts(garbled: WrittenAnswer) -> None:
    assert signs_of(integrity(), VOCABULARY).after([(PROPER, garbled)] * 12).collapsed


def test_one_kind_of_sign_is_not_enough() -> None:
    signs = collapsed()
    assert not replace(signs, perplexity_edited=VOCABULARY - 1.0).collapsed
    assert not replace(signs, garbled=signs.answers // 2 - 1).collapsed
    assert not replace(signs, perplexity_edited=2.0, garbled=0, largest_update=1e6).collapsed
