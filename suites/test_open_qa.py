"""Open-domain question answering: facts recalled without a passage (NQ-open)."""

from audit.verdicts import PASS

MAX_DROP = 0.05  # facts nobody asked to change; an edit that bleeds into other subjects shows here first


def test_exact_match_is_retained(degradation):
    assert degradation("open_qa", max_drop=MAX_DROP) == PASS
