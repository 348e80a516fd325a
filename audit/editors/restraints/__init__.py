"""Restraints on an update: RECT, its random control, and PRUNE."""
