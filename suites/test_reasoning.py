"""Reasoning: multi-step arithmetic word problems (GSM8K)."""

from audit.verdicts import PASS

MAX_DROP = 0.05  # one problem in twenty; about what 400 problems can certify. Override: --margin reasoning=0.03


def test_solve_rate_is_retained(degradation):
    assert degradation("reasoning", max_drop=MAX_DROP) == PASS
