"""`grid.html`: a whole grid as one file: the findings, a chart of each model, and all cells with their abilities.

It has verdicts, scores and settings, and nothing of the items.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from audit.reports.html.grid_chart import GridChart, grid_chart
from audit.reports.html.page import page
from audit.reports.rows import AbilityRow
from audit.reports.verdict_sentences import interval, limits, points
from audit.reports.workflows.grid import Column, asked_rows, cell_columns, differing_edits
from audit.reports.workflows.grid_cells import CELLS_FOLDER, Cell, CellResult, main_curves
from audit.reports.workflows.grid_findings import Finding
from audit.reports.workflows.grid_shares import GridShares
from audit.verdicts.evidence import Kept

NOT_RUN = "not run"
LEGEND = (
    "*Kept* is the share of the base score above the floor that is left, with its 90 % interval (one-sided limits at "
    "95 %). *Mean kept* is its mean over the abilities whose base is clear of the floor; a negative share counts as "
    "0. *Harmed* counts abilities with harm of any size, by Holm over the abilities of the cell, at 5 %. *From fewer "
    "edits* and *from no restraint* are mean kept minus that of the neighboring cell, paired by item. *Efficacy* is "
    "measured right after each edit (at once) and after the last one (at the end). *Nats* are per token of the new "
    "answer, edited minus base. ES, PS and NS are the shares of requests in which the right answer is the more "
    "probable one."
)


@dataclass(frozen=True)
class AbilityLine:
    """One ability of a cell, as its table shows it."""

    row: AbilityRow
    kept: str
    drop: str
    scores: str
    harm: str


@dataclass(frozen=True)
class CellSection:
    """One cell that opens: what its line shows, what filters and sorting need, and what is inside.

    `keys` are what cells are sorted by, `reason` says why a cell has no result.
    """

    cell: Cell
    reason: str = ""
    line: tuple[tuple[str, str], ...] = ()
    keys: tuple[tuple[str, float], ...] = ()
    abilities: tuple[AbilityLine, ...] = ()
    facts: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()
    command: str = ""
    file: str = ""

    @property
    def state(self) -> str:
        """Whether there is a result: "done", "failed" or "not run"."""
        return self.reason.partition(":")[0] or "done"


@dataclass(frozen=True)
class ModelSection:
    """One model: how its abilities were asked, and its chart."""

    name: str
    asked: tuple[list[str], list[list[str]]]
    chart: GridChart | None
    edits: tuple[str, int]  # of the chart: the source of the requests, and their seed


def grid_html(
    results: Sequence[CellResult],
    findings: Mapping[str, Sequence[Finding]],
    shares: GridShares | None = None,
    absent: Mapping[Cell, str] | None = None,
) -> str:
    """The page of these cells; `findings` are by model, `absent` says of cells without a result why ("not run")."""
    shares, absent = shares or GridShares(), absent or {}
    by_model: dict[str, list[CellResult]] = {}
    for result in results:
        by_model.setdefault(result.cell.model, []).append(result)
    sections = [CellSection(cell, reason) for cell, reason in absent.items()]
    for some in by_model.values():
        columns = cell_columns(some, shares)
        sections += [_section(result, columns, shares) for result in some]
    order = {model: place for place, model in enumerate(dict.fromkeys((*by_model, *(one.model for one in absent))))}
    sections.sort(key=lambda one: (order[one.cell.model], one.cell.series, one.cell.count))
    return page(
        "grid.html",
        title=f"Grid of {len(sections)} cells on {', '.join(dict.fromkeys(one.cell.model for one in sections))}",
        sentences=_sentences(results, absent),
        findings=list(zip(*findings.values(), strict=True)),
        judged=list(findings),
        models=[_model(name, some, shares) for name, some in by_model.items()],
        cells=sections,
        choices=_choices(sections),
        scored=any(result.scores for result in results),  # else no share was measured
        legend=LEGEND,
        notes=differing_edits(results),
    )


def _model(name: str, results: Sequence[CellResult], shares: GridShares) -> ModelSection:
    chart = grid_chart(results, shares)
    first = next(iter(main_curves(results)), None)
    return ModelSection(name, asked_rows(results), chart, ("", 0) if first is None else (first.edits, first.seed))


def _sentences(results: Sequence[CellResult], absent: Mapping[Cell, str]) -> Iterator[str]:
    """What is there, and what is not."""
    total = len(results) + len(absent)
    yield f"{len(results)} of {total} cells have results." if absent else f"All {total} cells have results."
    waiting = sum(reason == NOT_RUN for reason in absent.values())
    if waiting:
        yield f"{waiting} are not run, so findings can still change."
    if len(absent) > waiting:
        yield f"{len(absent) - waiting} failed; each says why."


def _section(result: CellResult, columns: Sequence[Column], shares: GridShares) -> CellSection:
    report, cell = result.report, result.cell
    found = shares.of(result)
    told = {name: text(result) for name, text in columns}
    end, at_once = result.edit_score("efficacy"), result.immediate_efficacy
    measured = found.mean.share == found.mean.share
    line = {
        "edits": str(cell.count),
        "kept": told["mean kept"] if measured else "",
        "drop": points(result.mean_drop) if report.abilities else "",
        "harmed": told["harmed"] if measured else "",
        "efficacy at once": told["efficacy at once"],
        "at the end": "" if end is None else f"{end:.2f}",
    }
    keys = {
        "edits": float(cell.count),
        "kept": found.mean.share,
        "drop": result.mean_drop,
        "once": math.nan if at_once is None else at_once,
        "end": math.nan if end is None else end,
        "minutes": result.seconds / 60,
    }
    holm = {alarm.name: f"{alarm.adjusted:.2g}" for alarm in report.alarms}
    unsound = [row.sentence for row in report.integrity if row.sound is False]
    unasked = [f"Not asked: {', '.join(report.unasked)}; the file of the cell says why."] if report.unasked else []
    return CellSection(
        cell,
        line=tuple(line.items()),
        keys=tuple((name, value) for name, value in keys.items() if value == value),
        abilities=tuple(
            AbilityLine(
                row,
                _share(found.kept.get(row.ability)),
                f"{points(row.verdict.drop)} {interval(row.verdict)}",
                f"{row.verdict.base:.3f} to {row.verdict.edited:.3f}",
                holm.get(row.ability, ""),
            )
            for row in report.abilities
        ),
        facts=tuple((name, value) for name, value in _facts(result, told) if value),
        notes=(*([report.collapse] if report.collapse else []), *unsound, *unasked),
        command=report.command,
        file=f"{CELLS_FOLDER}/{cell.name}.json",
    )


def _facts(result: CellResult, told: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """The numbers of a cell that its line does not have, by name; rates of edits with their 95 % intervals."""
    yield "mean drop", points(result.mean_drop) if result.report.abilities else ""
    for name, measure in (
        ("efficacy at once", "immediate efficacy"),
        ("efficacy at the end", "efficacy"),
        ("generalization", "generalization"),
        ("locality", "locality"),
    ):
        score = result.report.edit_score(measure)
        yield name, "" if score is None else f"{score.shown} {score.interval}, n\N{NO-BREAK SPACE}{score.n}"
    shown = ("mean kept", "harmed", "efficacy at once", "at the end", "generalization", "locality")
    yield from ((name, value) for name, value in told.items() if name not in shown)
    yield "fingerprint of the edits", result.report.fingerprints.get("edits", "")[:16]


def _choices(sections: Sequence[CellSection]) -> dict[str, list[str]]:
    """What the filters offer, by the name of the filter."""
    cells = [one.cell for one in sections]
    found = {
        "result": [one.state for one in sections],
        "model": [cell.model for cell in cells],
        "editor": [cell.editor for cell in cells],
        "mode": [cell.mode for cell in cells],
        "restraint": [cell.restraint or "none" for cell in cells],
    }
    return {name: list(dict.fromkeys(values)) for name, values in found.items()}


def _share(share: Kept | None) -> str:
    return "" if share is None else f"{share.share:.3f} {limits(share.lower, share.upper)}"
