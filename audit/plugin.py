"""The former name of `audit.pytest_plugin`, which a conftest.py may still load."""

pytest_plugins = ("audit.pytest_plugin",)
