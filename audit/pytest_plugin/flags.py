"""The audit's flags on pytest's command line, beside those of other plugins.

Every option has a flag with a prefix, such as `--audit-device`, and a short one, `--device`. A short flag belongs to
another plugin that has it as well, whichever of the two is loaded first.
"""

import argparse
from functools import partial
from typing import Any

import pytest

from audit.settings.declaration import Option
from audit.settings.options import OPTIONS

NAME = "audit-flags"  # under which `Flags` is registered as a plugin
PREFIX = "--audit-"


def prefixed(option: Option) -> str:
    """The flag of an option that no other plugin has."""
    return PREFIX + option.flag.removeprefix("--")


class Flags:
    """Adds all options, as text, to one group of the parser; `taken` are those whose short flag another plugin has.

    Args:
        parser: pytest's parser, with the options of the plugins that were loaded before this one.
    """

    def __init__(self, parser: pytest.Parser) -> None:
        self.taken: dict[str, Option] = {}  # by short flag
        self._parser = parser
        self._group: Any = parser.getgroup(NAME, "side-effect audit of an edited language model")
        theirs = self._flags_of_others()
        for option in OPTIONS:
            if option.flag not in theirs:
                self._add(option, option.flag, option.help_line)
            # Not listed by --help, which would be twice as long, unless it is the only flag of the option.
            self._add(option, prefixed(option), option.help_line if option.flag in theirs else argparse.SUPPRESS)
        self._give_way(theirs)
        self._let_later_plugins_replace()

    def notes(self) -> list[str]:
        """A sentence for each short flag that another plugin has."""
        return [
            f"audit: {flag} belongs to another plugin here; the audit's own is {prefixed(option)}"
            for flag, option in self.taken.items()
        ]

    def pytest_plugin_registered(self) -> None:
        """Drop the short flags that the plugin has added; pytest 8 compares flags only when it parses."""
        self._give_way(self._flags_of_others())

    def _add(self, option: Option, flag: str, text: str) -> None:
        how: dict[str, Any] = {"action": "append" if option.kind.repeatable else "store", "metavar": option.metavar}
        if option.kind.switch:
            how = {"action": "store_true"}
        text = text.replace("%", "%%")
        self._group.addoption(flag, dest=f"audit_{option.name}", help=text, default=None, **how)

    def _flags_of_others(self) -> set[str]:
        groups: Any = (self._parser._anonymous, *self._parser._groups)
        return {name for group in groups if group is not self._group for one in group.options for name in one.names()}

    def _give_way(self, theirs: set[str]) -> None:
        for option in OPTIONS:
            if option.flag in theirs and option.flag not in self.taken:
                self.taken[option.flag] = option
                self._group.options = [one for one in self._group.options if option.flag not in one.names()]
                for one in self._group.options:
                    if prefixed(option) in one.names():
                        one.attrs()["help"] = option.help_line.replace("%", "%%")
                self._parser.extra_info["audit"] = "; ".join(self.notes())

    def _let_later_plugins_replace(self) -> None:
        """From pytest 9 on, argparse refuses a flag when it is added twice; let it drop the audit's short flag instead.

        Conflicts between other plugins remain errors.
        """
        parser: Any = getattr(self._parser, "optparser", None)
        if parser is None:
            return
        short = {option.flag for option in OPTIONS}

        def resolve(container: Any, action: Any, conflicts: list[tuple[str, Any]]) -> None:
            ours = [(flag, one) for flag, one in conflicts if flag in short and one.dest.startswith("audit_")]
            container._handle_conflict_resolve(action, ours)
            if len(ours) < len(conflicts):
                type(container)._handle_conflict_error(container, action, [one for one in conflicts if one not in ours])

        def watched(container: Any) -> Any:
            container._handle_conflict_error = partial(resolve, container)
            return container

        new_group = parser.add_argument_group
        parser.add_argument_group = lambda *words, **named: watched(new_group(*words, **named))
        for container in (parser, *parser._action_groups):
            watched(container)
