"""Editors, one file a method, and the stages they share."""
