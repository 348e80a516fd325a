"""`pytest --help` shows every option, in one group, with its default."""

import re

from audit.settings.options import OPTIONS
from tests.pytest_plugin.conftest import Suites

pytest_plugins = ("pytester",)


def test_all_options_are_in_one_group(suites: Suites) -> None:
    text = suites.run("sentiment", "--help").stdout.str()
    group = text.split("side-effect audit of an edited language model:\n", 1)[1].split("\n\n", 1)[0]
    for option in OPTIONS:
        assert len(re.findall(rf"^  {option.flag}(?![\w-])", text, re.MULTILINE)) == 1
        assert re.search(rf"^  {option.flag}(?![\w-])", group, re.MULTILINE)


def test_defaults_are_stated(suites: Suites) -> None:
    text = " ".join(suites.run("sentiment", "--help").stdout.str().split())
    for stated in (
        "(default: memit)",
        "(default: pocket-llama)",
        "(default: pocket)",
        "standard, gu2024 (default: standard)",
        "asked per ability (default: 200)",
    ):
        assert stated in text
