"""The abilities of a run: the built-in ones, and those that are added by file, class, entry point or object.

    abilities = Abilities((load_entry("triage.toml"), load_entry("nli")))
    abilities.asked                        # ("triage", "nli")
    abilities.load("triage").prompt(item)
    abilities.identity("triage")           # the name with the fingerprint of the definition, for keys

Nothing is registered in the process: the settings of a run hold its entries. `load_entry` alone decides what a text of
`--ability` means. A source of many abilities, such as the tasks of another tool, is one line in `PREFIXES`.
"""

import difflib
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from audit.abilities import ABILITIES, load_ability
from audit.abilities.classes import ability_of_class, checked, class_fingerprint
from audit.abilities.contract import Ability, items_of
from audit.abilities.data import Source
from audit.errors import AuditError, first_line
from audit.store.content import content_fingerprint

ENTRY_POINT_GROUP = "audit.abilities"
# By prefix of "prefix:NAME", the function "module:function" that makes the ability of a name.
PREFIXES: dict[str, str] = {"lm-eval": "audit.abilities.lm_eval.ability:harness_ability"}
FEWEST_ROWS = 20  # of an ability that brings its rows; fewer certify nothing


@dataclass(frozen=True)
class AbilityEntry:
    """An ability as it was given: its text, its name, and the object with the fingerprint of its definition.

    `ability` is None for a built-in one, which every protocol has its own object of.
    """

    text: str
    name: str
    fingerprint: str = ""
    ability: Ability | None = field(default=None, compare=False, repr=False)

    def __str__(self) -> str:
        return self.text

    @property
    def source(self) -> Source | None:
        """Where its rows come from, if it brings its own."""
        return getattr(self.ability, "source", None)

    def check(self) -> None:
        """Check the rows that the ability brings.

        Raises:
            AuditError: there are too few, or one of them makes no item.
        """
        if self.ability is None or self.source is None:
            return
        rows, place = self.source.rows(self.name), self.source.origin(self.name).place
        for number, row in enumerate(rows):
            key = f"{self.name}/{number}"
            try:
                for item in items_of(self.ability, row, key):
                    self.ability.prompt(item)
            except AuditError as error:
                raise AuditError(f"{place}: {error}") from error
            except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:  # of a user's class
                what = f"{type(error).__name__}: {first_line(error)}"
                raise AuditError(
                    f"{place}: row {key} makes no item of {self.text} ({what}); correct one of the two."
                ) from error
        if len(rows) < FEWEST_ROWS:
            raise AuditError(
                f"{place} has {len(rows)} rows for {self.name}, and at least {FEWEST_ROWS} are needed; add rows."
            )


def load_entry(given: "str | Ability | AbilityEntry") -> AbilityEntry:
    """The entry of a built-in name, a .toml file, an entry point, a class or an object.

    Raises:
        AuditError: there is no such ability, or it is malformed.
    """
    if isinstance(given, AbilityEntry):
        return given
    if not isinstance(given, str):
        kind = type(given)
        return _entry(f"{kind.__module__}:{kind.__qualname__}", checked(given, f"the object {kind.__qualname__}"))
    text, (prefix, colon, rest) = given.strip(), given.strip().partition(":")
    registered = _registered()
    if text in ABILITIES:
        return AbilityEntry(text, text)
    if text.endswith(".toml"):
        from audit.abilities.toml.ability import TomlAbility
        from audit.abilities.toml.description import read_description

        described = TomlAbility(read_description(Path(text).expanduser()))
        return _entry(text, described, described.fingerprint)
    if colon and prefix in PREFIXES:
        module, _, function = PREFIXES[prefix].partition(":")
        made = getattr(import_module(module), function)(rest)
        return _entry(text, made, getattr(made, "fingerprint", ""))
    if text in registered or colon:
        return _entry(text, ability_of_class(registered.get(text, text)))
    raise unknown(text, [*ABILITIES, *sorted(registered)])


def entry_point_names() -> list[str]:
    """The names that installed packages register."""
    return sorted(_registered())


def unknown(name: str, known: Iterable[str], said: str = "") -> AuditError:
    """The error about an unknown ability; `said` is where it was named."""
    names = list(known)
    close = difflib.get_close_matches(name, names, n=1)
    guess = f" (did you mean {close[0]!r}?)" if close else ""
    return AuditError(
        f"{said}{': ' if said else ''}there is no ability {name!r}; give one of {', '.join(names)}, or your own with "
        f"--ability FILE.toml or --ability package.module:Class{guess}."
    )


@dataclass(frozen=True)
class Abilities:
    """The abilities of a run; the entries are those that were given, in their order.

    Raises:
        AuditError: two entries have the same name.
    """

    entries: tuple[AbilityEntry, ...] = ()

    def __post_init__(self) -> None:
        for entry in self.entries:
            first = self._by_name[entry.name]
            if entry.fingerprint != first.fingerprint:
                raise AuditError(f"{first} and {entry} are both named {entry.name}; rename one of them.")

    @cached_property
    def _by_name(self) -> dict[str, AbilityEntry]:
        found: dict[str, AbilityEntry] = {}
        for entry in self.entries:
            found.setdefault(entry.name, entry)
        return found

    @property
    def names(self) -> tuple[str, ...]:
        """All abilities: the built-in ones, then the others."""
        return tuple(dict.fromkeys((*ABILITIES, *self._by_name)))

    @property
    def asked(self) -> tuple[str, ...]:
        """The abilities that were given, or else the built-in ones."""
        return tuple(self._by_name) or tuple(ABILITIES)

    @property
    def added(self) -> tuple[AbilityEntry, ...]:
        """The entries that are not built in."""
        return tuple(entry for entry in self._by_name.values() if entry.ability is not None)

    def entry(self, text: str) -> AbilityEntry | None:
        """The entry of this name, or that was given by this text; None if there is none."""
        return self._by_name.get(text) or next((one for one in self.entries if one.text == text), None)

    def name_of(self, text: str) -> str | None:
        """The name of the ability that a text names; None if it is not known."""
        entry = self.entry(text)
        return entry.name if entry is not None else text if text in ABILITIES else None

    def origin(self, name: str) -> str:
        """The text by which an ability was given; "" if it is built in."""
        entry = self._by_name.get(name)
        return "" if entry is None or entry.ability is None else entry.text

    def load(self, name: str, protocol: str = "standard") -> Ability:
        """The ability of a name. One that was added is the same under every protocol.

        Raises:
            AuditError: there is no such ability or protocol.
        """
        entry = self._by_name.get(name)
        return load_ability(name, protocol) if entry is None or entry.ability is None else entry.ability

    def identity(self, name: str) -> str:
        """What an ability is called in keys: its name, with a fingerprint unless it is built in."""
        entry = self._by_name.get(name)
        return name if entry is None or not entry.fingerprint else f"{name} {entry.fingerprint}"

    def definitions(self, names: Iterable[str]) -> dict[str, str]:
        """The fingerprints of those of the abilities that are not built in, by "ability NAME"."""
        found = {name: self._by_name[name].fingerprint for name in names if name in self._by_name}
        return {f"ability {name}": fingerprint for name, fingerprint in found.items() if fingerprint}


def _registered() -> dict[str, str]:
    """The classes of the entry points, by name."""
    return {entry.name: entry.value for entry in entry_points(group=ENTRY_POINT_GROUP)}


def _entry(text: str, ability: Any, definition: str = "") -> AbilityEntry:
    """The entry of an ability that is not built in; its definition is that of its class, unless given."""
    if ability.name in ABILITIES:
        raise AuditError(f"{text} is named {ability.name}, like a built-in ability; choose another name.")
    if "=" in ability.name or not ability.name.strip():
        raise AuditError(f"{text} has the name {ability.name!r}; give a name without =.")
    source: Source | None = getattr(ability, "source", None)
    made = definition or class_fingerprint(ability)
    data = None if source is None else source.origin(ability.name).revision
    return AbilityEntry(text, ability.name, content_fingerprint([made, data]), ability)
