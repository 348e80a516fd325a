"""Which items a page shows, in which order, and what it says of them."""

import math
from dataclasses import replace

from audit.measures.flips import REPEATED, RIGHT_TO_WRONG, WRONG_TO_RIGHT
from audit.reports.html.changed_items import changed, shortened, shown, token_losses
from tests.reports.html.pages import record, scored
from tests.reports.sample import answer


def test_an_item_changed_if_its_score_or_its_written_text_did() -> None:
    same = record("nli/1", " yes", " yes", flips=())
    other_words = record("nli/2", " yes", " yes, sure", flips=())
    likelihood = replace(record(flips=()), base=scored((-1, -1, -1), 0.8), edited=(scored((-1, -1, -1.1), 0.799),))
    assert changed([same, other_words, likelihood]) == (other_words,)
    assert changed([replace(likelihood, flips=(RIGHT_TO_WRONG,))]) != ()


def test_lost_won_and_others_come_in_turn_from_the_largest_change_on() -> None:
    items = [
        replace(record("a/lost-little"), edited=(answer("x", 0.9),)),
        record("a/won", flips=(WRONG_TO_RIGHT,)),
        record("a/same", flips=(REPEATED,)),
        record("a/lost-much"),
    ]
    assert [item.key for item in changed(items)] == ["a/lost-much", "a/won", "a/same", "a/lost-little"]


def test_of_several_edited_models_the_one_that_changed_most_is_shown() -> None:
    item = replace(record(), edited=(answer(" 10", 1.0), answer(" 12", 0.0), answer(" 13", 0.0)))
    found = shown(item)
    assert found.model == "2 of 3"
    assert "".join(span.text for span in found.edited) == " 12"
    assert found.edited_score == item.edited_score == 1 / 3


def test_a_choice_is_shown_in_its_words() -> None:
    item = replace(record(), choices=("m : hello .", "f : bye ."), gold=("1",), base=answer("1", 1.0))
    found = shown(replace(item, edited=(answer("0", 0.0),)))
    assert found.gold == "f : bye ."
    assert "".join(span.text for span in found.base) == "f : bye ."
    assert "".join(span.text for span in found.edited) == "m : hello ."


def test_the_tokens_that_lost_most_come_first_with_their_nats() -> None:
    item = replace(record(), base=scored((-1.0, -2.0, -0.5), 0.8), edited=(scored((-1.5, -9.25, -0.5), 0.1),))
    losses = token_losses(item, item.edited[0])
    assert [(loss.context, loss.token, loss.nats) for loss in losses] == [(" the", " Arch", 7.25), ("", " the", 0.5)]
    assert not any(span.differs for span in shown(item).base)


def test_of_options_only_the_right_one_is_looked_at() -> None:
    base = replace(scored((-1.0, -2.0, -0.5), 0.8), tokens=((" a",), (" b",)), log_probabilities=((-1.0,), (-2.0,)))
    edited = replace(base, log_probabilities=((-5.0,), (-3.0,)))
    item = replace(record(), choices=("a", "b"), gold=("1",), base=base, edited=(edited,))
    assert [loss.token for loss in token_losses(item, edited)] == [" b"]
    labels = replace(item, choices=(), gold=("True",))
    assert [loss.token for loss in token_losses(labels, edited)] == [" a", " b"]


def test_what_is_not_a_number_is_no_loss() -> None:
    item = replace(record(), base=scored((-1.0, -2.0, -0.5), 0.8))
    assert token_losses(item, scored((math.nan, -math.inf, -0.7), 0.0))[0].token == "ies"
    assert token_losses(item, answer("", 0.0)) == ()
    assert token_losses(record(), record().edited[0]) == ()


def test_a_long_text_says_how_much_is_left_out() -> None:
    assert shortened("abcdefghij", 10) == "abcdefghij"
    assert shortened("abcdefghijk", 4) == "ab[... 7 characters left out ...]jk"
    assert shortened("abcdefghijk", 4, head=0) == "[... 7 characters left out ...]hijk"
