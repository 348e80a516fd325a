"""Abilities without code: a .toml file with a prompt template, and a file of rows beside it."""
