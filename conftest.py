"""Tests and suites share one plugin: `audit.plugin`."""

pytest_plugins = ("audit.plugin",)
