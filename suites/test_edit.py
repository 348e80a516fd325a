"""The edit itself: it succeeds, it generalizes to paraphrases, and it stays local.

Read these results with those of the abilities, since an editor that does nothing harms nothing. All rates are
autoregressive: the model generates the answer. The report also has teacher-forced rates, under their own names.
"""

import pytest

MIN_EFFICACY = 0.95  # the edit's own prompt is answered with the new target
MIN_GENERALIZATION = 0.80  # so are paraphrases that the editor did not see
MIN_LOCALITY = 0.90  # prompts about neighboring subjects are answered as before


def test_efficacy(edit_scores):
    rate = edit_scores.efficacy_autoregressive
    assert rate.value >= MIN_EFFICACY, f"efficacy {rate}"


def test_generalization(edit_scores):
    rate = edit_scores.generalization_autoregressive
    if rate is None:
        pytest.skip("no edit request has a paraphrase")
    assert rate.value >= MIN_GENERALIZATION, f"generalization {rate}"


def test_locality(edit_scores):
    rate = edit_scores.locality_autoregressive
    if rate is None:
        pytest.skip("no edit request has a neighborhood probe")
    assert rate.value >= MIN_LOCALITY, f"locality {rate}"
