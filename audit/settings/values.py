"""The kinds of value that an option can have: how each is parsed from text, and how a value from Python is checked.

Every error is an `AuditError` that names the flag, the value and the remedy.
"""

import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from audit.abilities import ABILITIES
from audit.abilities.registry import Abilities, load_entry, unknown
from audit.editors.restraints.choice import parse_restraint
from audit.errors import AuditError
from audit.verdicts.margins import Margin, margin_of, parse_margin

READINGS = ("auto", "answers", "choices", "calibrated", "likelihood")
PROMPTINGS = ("auto", "plain", "examples", "chat")
DEVICES = ("auto", "cpu", "cuda", "cuda:N", "mps", "map")


class Text:
    """Any text. The base of the other kinds, which override `parse` and `check`."""

    repeatable: ClassVar[bool] = False  # the option may be given several times, and a project sets it as a table
    switch: ClassVar[bool] = False  # the option takes no value
    by_ability: ClassVar[bool] = False  # a repeatable option whose values are for single abilities
    takes_one: ClassVar[bool] = False  # a repeatable option that a project may also set to one value
    listed: ClassVar[bool] = False  # a repeatable option that a project sets as a list, to which typed values are added

    def parse(self, flag: str, typed: Any) -> Any:
        """The value of what was typed: a string, or a list of strings if `repeatable`."""
        return typed.strip()

    def check(self, flag: str, value: Any) -> Any:
        """The value in its one canonical form; raises `AuditError` if it is out of range."""
        return value

    def shown(self, value: Any) -> str:
        """The value as a user would type it."""
        return str(value)

    def from_folder(self, folder: Path, text: str) -> str:
        """The text that a pyproject.toml in `folder` holds, with a relative path resolved against `folder`."""
        return text


class Name(Text):
    """The name of something, or a path to it; not empty."""

    def check(self, flag: str, value: Any) -> Any:
        if not value.strip():
            raise AuditError(f"{flag} is empty: give a name, or leave the option out for its default.")
        return value

    def from_folder(self, folder: Path, text: str) -> str:
        return str(folder / text) if text.startswith(".") else text


@dataclass(frozen=True)
class Choice(Text):
    """One of a few words."""

    choices: tuple[str, ...]

    def check(self, flag: str, value: Any) -> Any:
        return parse_choice(flag, value, self.choices)


class Device(Text):
    """A device in torch's words; loading the model checks whether the machine has it."""

    def check(self, flag: str, value: Any) -> Any:
        kind, _, index = value.partition(":")
        if (value in DEVICES and value != "cuda:N") or (kind == "cuda" and index.isascii() and index.isdigit()):
            return value
        raise AuditError(f"{flag} {value!r}: give one of {', '.join(DEVICES)}{suggestion(value, DEVICES)}.")


@dataclass(frozen=True)
class Whole(Text):
    """A whole number of at least `least`, typed in ASCII digits only: 1e3 and 10.0 are errors."""

    least: int

    def parse(self, flag: str, typed: Any) -> Any:
        cleaned = typed.strip()
        digits = cleaned.removeprefix("-")
        if not (digits.isascii() and digits.isdigit()) or int(cleaned) < self.least:
            raise AuditError(f"{flag} {typed!r}: give a whole number of at least {self.least}.")
        return int(cleaned)

    def check(self, flag: str, value: Any) -> Any:
        if value < self.least:
            raise AuditError(f"{flag} {value}: give a whole number of at least {self.least}.")
        return value


class Folder(Text):
    """A folder, as text or as a path."""

    def check(self, flag: str, value: Any) -> Any:
        return parse_folder(flag, str(value))

    def shown(self, value: Any) -> str:
        return f"{value}/"

    def from_folder(self, folder: Path, text: str) -> str:
        return str(folder / text) if text.strip() else text


class RestraintText(Text):
    """A restraint of the editor, such as rect:0.4."""

    def check(self, flag: str, value: Any) -> Any:
        return str(parse_restraint(value))  # one spelling for each


class Margins(Text):
    """Margins by ability."""

    repeatable = by_ability = True

    def parse(self, flag: str, typed: Any) -> Any:
        return parse_margins(typed)

    def check(self, flag: str, value: Any) -> Any:
        return {name: _margin(margin, f"{name}={margin}") for name, margin in value.items()}


class Readings(Text):
    """Readings by ability; under "" that of all other abilities."""

    repeatable = by_ability = takes_one = True

    def parse(self, flag: str, typed: Any) -> Any:
        return parse_readings(flag, typed)

    def check(self, flag: str, value: Any) -> Any:
        return parse_readings(flag, [f"{name}={one}" if name else one for name, one in value.items()])


class GivenAbilities(Text):
    """Abilities by built-in name, file, entry point or class; in Python also as objects."""

    repeatable = takes_one = listed = True

    def parse(self, flag: str, typed: Any) -> Any:
        return [one.strip() if isinstance(one, str) else one for one in typed]

    def check(self, flag: str, value: Any) -> Any:
        given = [value] if isinstance(value, str) else list(value)
        # A bare name may be that of an ability whose file or class is given as well.
        entries = [None if _is_bare(one) else load_entry(one) for one in given]
        known = {entry.name for entry in entries if entry is not None}
        pairs = zip(given, entries, strict=True)
        return Abilities(tuple(entry or load_entry(one) for one, entry in pairs if entry or one not in known)).entries

    def from_folder(self, folder: Path, text: str) -> str:
        return str(folder / text) if text.startswith(".") else text


def _is_bare(given: Any) -> bool:
    return isinstance(given, str) and ":" not in given and not given.endswith(".toml")


class EditorConfig(Text):
    """Hyperparameters of the editor by name."""

    repeatable = True

    def parse(self, flag: str, typed: Any) -> Any:
        return parse_pairs(flag, typed, example="layers=3,4")


class Switch(Text):
    """On or off, without a value. Typing it turns the setting away from its default."""

    switch = True


def parse_choice(flag: str, text: str, choices: tuple[str, ...]) -> str:
    """One of `choices`; the error lists them and suggests the closest."""
    if text in choices:
        return text
    raise AuditError(f"{flag} {text!r}: give one of {', '.join(choices)}{suggestion(text, choices)}.")


def parse_margins(texts: Iterable[str]) -> dict[str, Margin]:
    """`ABILITY=MARGIN` strings as margins by ability: 'ner=0.03' and 'ner=3pp' are both {'ner': Points(0.03)}."""
    margins: dict[str, Margin] = {}
    for text in texts:
        ability, equals, margin = (part.strip() for part in text.partition("="))
        if not equals or not ability or not margin:
            raise AuditError(f"--margin {text!r}: write ABILITY=MARGIN, for example reasoning=0.03 or reasoning=90%.")
        if ability in margins:
            raise AuditError(f"--margin {text!r}: {ability} already has a margin ({margins[ability]}); give one.")
        margins[ability] = _margin(margin, text)
    return margins


def parse_named(flag: str, texts: Iterable[str]) -> dict[str, str]:
    """`VALUE` and `NAME=VALUE` strings as values by name; "" is every other name."""
    found: dict[str, str] = {}
    for text in texts:
        first, equals, last = (part.strip() for part in text.partition("="))
        name, value = (first, last) if equals else ("", first)
        if not value or (equals and not name):
            raise AuditError(f"{flag} {text!r}: write {flag} VALUE, or {flag} NAME=VALUE for one ability.")
        if name in found:
            raise AuditError(
                f"{flag} {text!r}: {name or 'every ability'} already has the value {found[name]}; give one."
            )
        found[name] = value
    return found


def parse_readings(flag: str, texts: Iterable[str]) -> dict[str, str]:
    """`READING` and `ABILITY=READING` strings as readings by ability; "" is every other ability."""
    found: dict[str, str] = {}
    for text in texts:
        name, equals, reading = (part.strip() for part in text.partition("="))
        ability = name if equals else ""
        if equals and not ability:
            raise unknown("", ABILITIES, f"{flag} {text!r}")
        if ability in found:
            raise AuditError(f"{flag} {text!r}: {ability or 'every ability'} already has a reading; give one.")
        found[ability] = parse_choice(flag, reading if equals else name, READINGS)
    return found


def _margin(margin: float | str | Margin, text: str) -> Margin:
    """A margin; errors quote `text`."""
    if isinstance(margin, float | int | str):  # both as text, so that the same bounds apply
        return parse_margin(str(margin), f"--margin {text!r}")
    return margin_of(margin)


def parse_pairs(flag: str, texts: Iterable[str], *, example: str) -> dict[str, str]:
    """`KEY=VALUE` strings as a mapping."""
    pairs: dict[str, str] = {}
    for text in texts:
        key, equals, value = (part.strip() for part in text.partition("="))
        if not equals or not key or not value:
            raise AuditError(f"{flag} {text!r}: write KEY=VALUE, for example {example}.")
        if key in pairs:
            raise AuditError(f"{flag} {text!r}: {key} is already set to {pairs[key]!r}; set it once.")
        pairs[key] = value
    return pairs


def parse_folder(flag: str, text: str) -> Path:
    """A folder that exists or can be made; a file there, or in place of one of its parents, is an error."""
    if not text.strip():
        raise AuditError(f"{flag} is empty: give a folder, or leave the option out for its default.")
    folder = Path(text).expanduser()
    existing = next((place for place in (folder, *folder.parents) if place.exists()), folder)
    if existing.is_file():
        raise AuditError(f"{flag} {text}: that is a file, not a folder; give a folder.")
    return folder


def short_name(text: str) -> str:
    """The last part of a path or Hub id."""
    return text.rstrip("/").rsplit("/", 1)[-1]


def file_name(text: str) -> str:
    """The text with only characters that every file system accepts."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text)


def suggestion(text: str, choices: Iterable[str]) -> str:
    """ " (did you mean 'nli'?)" for the choice closest to `text`; "" if none is close."""
    close = difflib.get_close_matches(text, list(choices), n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""


def written(value: Any) -> Any:
    """A value as JSON holds it: paths and margins as text, mappings as dictionaries."""
    if isinstance(value, Mapping):
        return {key: written(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [written(one) for one in value]
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)
