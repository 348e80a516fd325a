"""Closed-domain question answering: yes or no, from a passage (BoolQ)."""

from audit.verdicts import PASS

MAX_DROP = 0.05  # an eighth of the way from always saying "yes" (0.62 on BoolQ) to perfect
KEEP = "80%"  # by likelihood: an AUC of 200 questions is known to about 10 % of what lies above 0.5


def test_accuracy_is_retained(degradation):
    assert degradation("closed_qa", max_drop=MAX_DROP, keep=KEEP) == PASS
