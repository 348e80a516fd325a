"""The noise floor of each ability: data, table, sentences and files of `audit calibrate`.

The noise floor is the drop of the unedited model against itself, when it is asked the same items twice.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.table import Table

from audit.answering.noise_floors import HALF, Calibration
from audit.reports.folder import write_findings
from audit.reports.html.findings_page import Findings, FindingsTable, findings_html
from audit.reports.markdown import table_lines
from audit.reports.terminal import plain_table
from audit.reports.verdict_sentences import rounded_up

LEGEND = (
    "A flip is an item whose score differs when the same weights are asked twice. The floor is the one-sided "
    "95 % limit of the drop if all flips went in one direction; a margin may not be smaller."
)


@dataclass(frozen=True)
class Calibrated:
    """The calibrations of a model on at least one ability. `lines` describe the run.

    `unasked` says why abilities could not be asked, `without` why nothing was asked in the other dtype.
    """

    model: str
    lines: tuple[str, ...]
    abilities: tuple[Calibration, ...]
    unasked: Mapping[str, str]
    without: str = ""

    def sentences(self) -> list[str]:
        """The smallest margins, and the changes by the other dtype."""
        sentences = [f"{ability} was not asked: {reason}" for ability, reason in self.unasked.items()]
        worst = max(self.abilities, key=lambda one: one.held.floor)
        least = min(self.abilities, key=lambda one: one.held.floor)
        smaller = ""
        if worst.held.floor > least.held.floor:
            smaller = f" ({worst.ability} has the highest floor; other abilities allow margins down to their own)"
        sentences.append(
            f"On {self.model} a margin of {rounded_up(worst.held.floor)} or more is possible for every ability"
            f"{smaller}. An audit of this model and data refuses a margin below the floor."
        )
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
            return [f"In {one.other} the same weights change {changed}; the floors include this."]
        return [
            f"For information: in {one.other} instead of {one.dtype} the same weights change {changed}, and the floor "
            f"is {rounded_up(noise.floor)}."
        ]


def calibration_rows(found: Calibrated) -> tuple[list[str], list[list[str]]]:
    """Headings and one line per ability."""
    headings = ["ability", "base", "items", "flips by batches", f"flips by {found.abilities[0].other}", "floor"]
    lines = [
        [
            one.ability,
            f"{one.base:.3f}",
            str(one.batches.n),
            str(one.batches.flips),
            "-" if one.arithmetic is None else str(one.arithmetic.flips),
            rounded_up(one.held.floor),
        ]
        for one in found.abilities
    ]
    return headings, lines


def calibration_table(found: Calibrated) -> Table:
    """The same for a terminal."""
    return plain_table(*calibration_rows(found), space=2)


def calibration_markdown(found: Calibrated) -> str:
    """The description of the run, the table and the sentences."""
    headings, lines = calibration_rows(found)
    return "\n".join(
        [
            f"# Noise floor of {found.model}",
            "",
            *(f"- {line}" for line in found.lines),
            "",
            *table_lines(headings, lines),
            "",
            LEGEND,
            "",
            *(f"{sentence}\n" for sentence in found.sentences()),
        ]
    )


def calibration_html(found: Calibrated) -> str:
    """The same as a page."""
    table = FindingsTable("The noise floor of each ability", *calibration_rows(found))
    return findings_html(Findings(f"Noise floor of {found.model}", found.sentences(), found.lines, [table], [LEGEND]))


def write_calibration(found: Calibrated, folder: Path) -> tuple[Path, ...]:
    """Write `calibration.json`, `calibration.md` and `calibration.html` into `folder`, and return the files."""
    document = {**asdict(found), "sentences": found.sentences()}
    return write_findings(folder, "calibration", document, calibration_markdown(found), calibration_html(found))
