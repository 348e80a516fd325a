"""The edit itself: it took, it carries over to other wordings, and it stays where it belongs.

Read beside the abilities: an editor that does nothing harms nothing. All rates are autoregressive, the model speaks for
itself; the teacher-forced ones stand in the report under their own names.
"""

import pytest

MIN_EFFICACY = 0.95  # the edit's own prompt is answered with the new target
MIN_GENERALIZATION = 0.80  # so are paraphrases that the editor never saw
MIN_LOCALITY = 0.90  # neighbors of the subject are answered as before


def test_the_new_facts_are_said(edit_scores):
    rate = edit_scores.efficacy_autoregressive
    assert rate.value >= MIN_EFFICACY, f"efficacy {rate}"


def test_the_new_facts_carry_over_to_paraphrases(edit_scores):
    rate = edit_scores.generalization_autoregressive
    if rate is None:
        pytest.skip("no edit request has a paraphrase")
    assert rate.value >= MIN_GENERALIZATION, f"generalization {rate}"


def test_the_neighborhood_is_left_alone(edit_scores):
    rate = edit_scores.locality_autoregressive
    if rate is None:
        pytest.skip("no edit request has a neighborhood probe")
    assert rate.value >= MIN_LOCALITY, f"locality {rate}"
