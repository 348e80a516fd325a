"""Readings: how the engine's output becomes an answer and a score."""
