"""Sentiment: positive or negative (SST-2)."""

from audit.verdicts import PASS

MAX_DROP = 0.05  # a tenth of the way from guessing to perfect
KEEP = "80%"  # by likelihood: an AUC of 200 sentences is known to 5 or 10 % of what lies above 0.5


def test_accuracy_is_retained(degradation):
    assert degradation("sentiment", max_drop=MAX_DROP, keep=KEEP) == PASS
