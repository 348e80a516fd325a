"""Loads the plugin for tests and suites."""

pytest_plugins = ("audit.pytest_plugin",)
