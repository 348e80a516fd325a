"""Reasoning: multi-step arithmetic word problems (GSM8K)."""

from audit.verdicts import PASS

MAX_DROP = 0.05  # one problem in twenty; about what 400 problems can certify. Override: --margin reasoning=0.03
KEEP = "90%"  # by likelihood: the likelihood of 200 rationales is known to 1 or 2 %


def test_solve_rate_is_retained(degradation):
    assert degradation("reasoning", max_drop=MAX_DROP, keep=KEEP) == PASS
