"""Tasks of lm-evaluation-harness as abilities: `--ability lm-eval:TASK`."""
