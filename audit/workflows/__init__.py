"""Commands that look at one model many times: curve, budget, bisect, preflight, grid and others."""
