"""The folders of a store. Values and tensors are beside them, in folders named by two digits of their key's hash."""

ANSWERS = "answers"  # a log for each model state
PLANS = "plans"  # a folder for each edit plan
MODELS = "models"  # a folder for each converted model
PROMPTS = "hypothesis"  # the disturbed prompts that a search found, in the format of Hypothesis
