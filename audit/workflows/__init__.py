"""The work behind the subcommands: curve, budget, bisect, calibrate, selfcheck, preflight, rescore and grid."""
