"""Pure statistics: from paired scores to PASS, FAIL or INCONCLUSIVE."""
