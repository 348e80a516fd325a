"""What the declaration of an option holds: how it is typed, what it does, and what it affects."""

from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from audit.settings.values import Text


class Effect(Enum):
    """What changes with an option."""

    MODEL = "the model that is audited"
    EDITS = "the edits that are made"
    ABILITIES = "which abilities there are; each is part of the keys of its own results"
    ANSWERS = "the answers to items: what an item is, and how it is asked and scored"
    ITEMS = "which items are asked"
    COMPUTATION = "how answers are computed, and how long that takes"
    VERDICTS = "what is concluded from the answers"
    OUTPUT = "what is kept and where, and what is shown"


@dataclass(frozen=True)
class Option:
    """One option: `field` of `AuditSettings`, and `name` as the user types it, with underscores.

    `replaces` are options of the project that do not apply where this one is typed. `editor_only`: the option says how
    to edit, so it contradicts --edited. `in_project`: `[tool.audit]` may set it.
    """

    effect: Effect
    kind: Text
    metavar: str
    help: str
    default: Any
    field: str
    name: str
    replaces: tuple[str, ...]
    editor_only: bool
    in_project: bool

    @property
    def flag(self) -> str:
        return "--" + self.name.replace("_", "-")

    @property
    def stated_default(self) -> str | None:
        """The default as a user would type it; None for switches, repeatable options and those without a default."""
        return (
            None if self.default is None or self.kind.switch or self.kind.repeatable else self.kind.shown(self.default)
        )

    @property
    def help_line(self) -> str:
        """The help text, with its default where there is one."""
        return self.help if self.stated_default is None else f"{self.help} (default: {self.stated_default})"

    def value(self, typed: Any) -> Any:
        """The value of the field from what was typed: a string, a list of strings or, for a switch, a boolean."""
        if self.kind.switch:
            return (not self.default) if typed else self.default
        return self.kind.parse(self.flag, typed)


def option(
    effect: Effect,
    kind: Text,
    metavar: str,
    help_text: str,
    *,
    default: Any = None,
    name: str | None = None,
    replaces: tuple[str, ...] = (),
    editor_only: bool = False,
    in_project: bool = True,
) -> Any:
    """A field of `AuditSettings` with its option, whose `name` is that of the field if left out."""
    declared = Option(effect, kind, metavar, help_text, default, "", name or "", replaces, editor_only, in_project)
    if kind.repeatable and default is None:
        return field(default_factory=dict, metadata={"option": declared})
    return field(default=default, metadata={"option": declared})
