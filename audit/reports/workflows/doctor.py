"""What `audit doctor` found: facts by section, and problems as sentences with a remedy."""

import textwrap
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class Problem:
    """One sentence with what is wrong, the value and the remedy. If it `breaks`, audits fail until it is solved."""

    sentence: str
    breaks: bool = False


@dataclass(frozen=True)
class Section:
    """One part of the checkup: its facts by name, as JSON values, and what is wrong with them."""

    title: str
    facts: Mapping[str, Any] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()


@dataclass(frozen=True)
class Checkup:
    """All sections."""

    sections: tuple[Section, ...]

    @property
    def problems(self) -> tuple[Problem, ...]:
        """Those of all sections, those that break audits first."""
        found = [problem for section in self.sections for problem in section.problems]
        return tuple(sorted(found, key=lambda problem: not problem.breaks))

    @property
    def usable(self) -> bool:
        """Whether audits can run."""
        return not any(problem.breaks for problem in self.problems)


def checkup_lines(checkup: Checkup, width: int) -> list[str]:
    """The sections, the problems, and a line that says whether audits can run."""
    lines: list[str] = []
    for section in checkup.sections:
        names = max((len(name) for name in section.facts), default=0)
        lines += [section.title]
        for name, value in section.facts.items():
            head = f"  {name:<{names}}  "
            lines += _wrapped(head, _shown(value), width)
        lines += [""]
    for problem in checkup.problems:
        lines += _wrapped("broken: " if problem.breaks else "note: ", problem.sentence, width)
    breaking = sum(problem.breaks for problem in checkup.problems)
    found = "1 problem keeps" if breaking == 1 else f"{breaking} problems keep"
    return [*lines, "doctor: audits can run" if checkup.usable else f"doctor: {found} audits from running"]


def checkup_document(checkup: Checkup) -> dict[str, Any]:
    """The checkup as data for JSON."""
    return {
        "usable": checkup.usable,
        "problems": [asdict(problem) for problem in checkup.problems],
        **{section.title: dict(section.facts) for section in checkup.sections},
    }


def _wrapped(head: str, text: str, width: int) -> list[str]:
    """The text behind its head, on lines that break between words only."""
    indent = " " * len(head)
    return textwrap.wrap(
        text, width, initial_indent=head, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return ", ".join(f"{name}={one}" for name, one in value.items()) or "none"
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value)) or "none"
    return "none" if value is None or value == "" else str(value)
