"""Closed-domain question answering: yes or no, from a passage (BoolQ)."""

from audit.verdicts import PASS

MAX_DROP = 0.05  # an eighth of the way from always saying "yes" (0.62 on BoolQ) to perfect


def test_accuracy_is_retained(degradation):
    assert degradation("closed_qa", max_drop=MAX_DROP) == PASS
