"""Measures besides the abilities: edit success, integrity, collapse, locality, flips, tracing, checkpoint changes."""
