"""The grid: many audits, one for each combination of model, editor, mode and number of edits."""
