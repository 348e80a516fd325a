"""Measures other than the abilities: edit success, integrity, collapse, locality, causal tracing, checkpoint
difference.
"""
