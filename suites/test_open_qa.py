"""Open-domain question answering: facts recalled without a passage (NQ-open)."""

from audit.verdicts import PASS

MAX_DROP = 0.05  # facts that no edit request names; an edit that affects other subjects shows here first
KEEP = "90%"  # by likelihood: the likelihood of 200 short answers is known to about 3 %


def test_exact_match_is_retained(degradation):
    assert degradation("open_qa", max_drop=MAX_DROP, keep=KEEP) == PASS
