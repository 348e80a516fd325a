"""What the same weights lose against themselves, ability by ability: plain data, a table, sentences and files."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from math import ceil
from pathlib import Path
from typing import Any

from rich.table import Table

from audit.errors import AuditError
from audit.reports.files import write_findings
from audit.verdicts.margins import Margin, Retained
from audit.verdicts.noise import NoiseFloor

HALF = ("bfloat16", "float16")


@dataclass(frozen=True)
class Calibration:
    """One ability of a model, asked twice.

    `base` is its score at the first asking and `chance` what no knowledge scores. `batches` compares with the same
    questions in other batches, `arithmetic` with the same weights computed in `other` in place of `dtype` (None: that
    could not be had).
    """

    ability: str
    base: float
    chance: float
    dtype: str
    other: str
    batches: NoiseFloor
    arithmetic: NoiseFloor | None = None

    @property
    def held(self) -> NoiseFloor:
        """The floor that margins are held to: in half precision, near ties are decided by rounding in the audit too."""
        if self.dtype in HALF and self.arithmetic is not None:
            return max(self.batches, self.arithmetic, key=lambda noise: noise.floor)
        return self.batches

    def require(self, margin: Margin) -> NoiseFloor:
        """The floor, under which the margin does not lie.

        A share to be retained of nothing (the base score is no better than chance) is left to its verdict.

        Raises:
            AuditError: the margin is smaller than what the same weights lose against themselves.
        """
        points, shared = margin.at(self.base, self.chance), isinstance(margin, Retained)
        refusal = self.held.refusal(self.ability, points, str(margin) if shared else None)
        if refusal is not None and not (shared and points == 0):
            raise AuditError(refusal)
        return self.held

    def plain(self) -> dict[str, Any]:
        """As JSON holds it."""
        return asdict(self)

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> "Calibration":
        """What `plain` gave."""
        arithmetic = plain["arithmetic"]
        floors = {
            "batches": NoiseFloor(**plain["batches"]),
            "arithmetic": None if arithmetic is None else NoiseFloor(**arithmetic),
        }
        return cls(**{**plain, **floors})


@dataclass(frozen=True)
class Calibrated:
    """A model and its data, calibrated on at least one ability. `lines` say what was asked and how.

    `unasked` are abilities that could not be asked, `without` says why nothing was asked in the other arithmetic.
    """

    model: str
    lines: tuple[str, ...]
    abilities: tuple[Calibration, ...]
    unasked: Mapping[str, str]
    without: str = ""

    def sentences(self) -> list[str]:
        """Which margins may be asked for, and what the other arithmetic changes."""
        sentences = [f"{ability} was not asked: {reason}" for ability, reason in self.unasked.items()]
        worst = max(self.abilities, key=lambda one: one.held.floor)
        least = min(self.abilities, key=lambda one: one.held.floor)
        told = f"{_up(worst.held.floor)} may be asked for on {self.model}"
        if worst.held.floor > least.held.floor:
            told += (
                f" for every ability (the highest floor is {worst.ability}'s), smaller ones from each one's floor on"
            )
        sentences.append(f"Margins of at least {told}; an audit of this model and data refuses what is under a floor.")
        return [*sentences, *self._arithmetic()]

    def _arithmetic(self) -> list[str]:
        if self.without:
            return [f"Nothing was asked in {self.abilities[0].other}: {self.without}"]
        found = [(one, one.arithmetic) for one in self.abilities if one.arithmetic is not None]
        if not found:
            return []
        one, noise = max(found, key=lambda pair: pair[1].floor)
        changed = f"up to {noise.flips} of {noise.n} scores ({one.ability})" if noise.flips else "no score"
        if one.dtype in HALF:
            return [f"Computed in {one.other}, the same weights change {changed}; that counts for the floors."]
        return [
            f"A run in {one.other} would change {changed} and have a floor of {_up(noise.floor)} there; this one is in "
            f"{one.dtype}, so that is for information."
        ]


def calibration_rows(found: Calibrated) -> tuple[list[str], list[list[str]]]:
    """Headings and one line an ability."""
    headings = ["ability", "base", "items", "flips by batches", f"flips by {found.abilities[0].other}", "floor"]
    lines = [
        [
            one.ability,
            f"{one.base:.3f}",
            str(one.batches.n),
            str(one.batches.flips),
            "-" if one.arithmetic is None else str(one.arithmetic.flips),
            _up(one.held.floor),
        ]
        for one in found.abilities
    ]
    return headings, lines


def calibration_table(found: Calibrated) -> Table:
    """The same for a terminal."""
    headings, lines = calibration_rows(found)
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for number, heading in enumerate(headings):
        table.add_column(heading, justify="right" if number else "left")
    for line in lines:
        table.add_row(*line)
    return table


def calibration_markdown(found: Calibrated) -> str:
    """What was asked, the table, and what follows."""
    headings, lines = calibration_rows(found)
    table = [headings, ["---", *["--:"] * (len(headings) - 1)], *lines]
    return "\n".join(
        [
            f"# {found.model} against itself",
            "",
            *(f"- {line}" for line in found.lines),
            "",
            *(f"| {' | '.join(cells)} |" for cells in table),
            "",
            "A flip is a score that the same weights did not get twice. The floor is the 95 % limit of the drop if all "
            "flips went one way; no margin may be smaller.",
            "",
            *(f"{sentence}\n" for sentence in found.sentences()),
        ]
    )


def write_calibration(found: Calibrated, folder: Path) -> tuple[Path, ...]:
    """Write `calibration.json` and `calibration.md` into `folder`; the files written."""
    document = {**asdict(found), "sentences": found.sentences()}
    return write_findings(folder, "calibration", document, calibration_markdown(found))


def _up(points: float) -> str:
    # Rounded up, so that the number that is shown may be asked for.
    return f"{ceil(points * 1000) / 1000:.3f}"
