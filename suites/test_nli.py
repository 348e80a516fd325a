"""Natural language inference: does one sentence entail another (RTE)."""

from audit.verdicts import PASS

MAX_DROP = 0.05  # RTE's 277 validation pairs cannot certify less when one answer in ten changes
KEEP = "80%"  # by likelihood: an AUC of 200 pairs is known to about 10 % of what lies above 0.5


def test_accuracy_is_retained(degradation):
    assert degradation("nli", max_drop=MAX_DROP, keep=KEEP) == PASS
