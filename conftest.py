"""Tests and suites share one plugin: `audit.pytest_plugin`."""

pytest_plugins = ("audit.pytest_plugin",)
