"""Sentiment: positive or negative (SST-2)."""

from audit.verdicts import PASS

MAX_DROP = 0.05  # a tenth of the way from guessing to perfect


def test_accuracy_is_retained(degradation):
    assert degradation("sentiment", max_drop=MAX_DROP) == PASS
