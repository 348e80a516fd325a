"""Content-addressed storage, and the log of what was measured."""
