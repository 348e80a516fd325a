"""Pure statistics: from paired scores to PASS, FAIL or INCONCLUSIVE.

Only the outcomes are exported here; `audit.verdicts.verdict.judge` computes verdicts and imports numpy.
"""

from audit.verdicts.outcome import Outcome, Verdict

PASS = Outcome.PASS
FAIL = Outcome.FAIL
INCONCLUSIVE = Outcome.INCONCLUSIVE

__all__ = ["FAIL", "INCONCLUSIVE", "PASS", "Outcome", "Verdict"]
