"""The seven findings of Gu et al. (2024), each with a criterion that was fixed before any cell was run.

A criterion is a pure function of the cells of one model with one seed. It decides whether the finding appears and lists
the figures; without the cells that it needs it is not decided. Of several seeds, at least two in three must show it.
The unit (`audit.workflows.grid.units`) says what a loss is, and when it is clear.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from statistics import fmean

from audit.reports.run_sentences import edits_phrase
from audit.reports.workflows.grid_cells import CellResult, Series, by_series
from audit.reports.workflows.grid_findings import Finding
from audit.reports.workflows.grid_shares import GridShares
from audit.workflows.grid.units import Unit, unit_of

COLLAPSED = 0.10  # "about 0": what is left of the abilities
HARM = 0.10  # of loss that counts as falling abilities; in shares the suites' own margin of 90 % kept
HIGH_EFFICACY = 0.80
KEPT_EFFICACY = 0.94  # RECT's share of the unrestrained efficacy, as the paper reports it
LARGE_CHANGE = 0.1  # |ΔW / W|
ENOUGH_SEEDS = 2 / 3
RECT, CONTROL, PRUNE = "rect:0.4", "random:0.4", "prune"


@dataclass(frozen=True)
class Curves:
    """The series of one model with one seed and one source of edits, and the unit that compares their cells."""

    series: dict[Series, tuple[CellResult, ...]]
    unit: Unit

    def of(self, editor: str, mode: str, restraint: str = "") -> tuple[CellResult, ...]:
        """The cells of one editor and mode in the order of their numbers of edits; none where the grid has none."""
        wanted = (editor, restraint, mode, ())
        found = (c for s, c in self.series.items() if (s.editor, s.restraint, s.mode, s.config) == wanted)
        return next(found, ())

    def trail(self, cells: Sequence[CellResult]) -> str:
        """The losses by number of edits."""
        return ", ".join(f"{result.cell.count}: {self.unit.shown(result)}" for result in cells)


def findings(results: Sequence[CellResult], shares: GridShares | None = None) -> tuple[Finding, ...]:
    """All seven for one model's cells, of the source of edits that most of them have.

    Raises:
        ValueError: the cells are of several models.
    """
    if len({result.cell.model for result in results}) > 1:
        raise ValueError("findings are those of one model")
    unit = unit_of(results, shares)
    ((edits, _),) = Counter(result.cell.edits for result in results).most_common(1)
    chosen = [result for result in results if result.cell.edits == edits]
    seeds = sorted({result.cell.seed for result in chosen})
    curves = {seed: Curves(by_series([one for one in chosen if one.cell.seed == seed]), unit) for seed in seeds}
    return tuple(_of_seeds({seed: judge(one) for seed, one in curves.items()}) for judge in JUDGES)


def _of_seeds(judged: dict[int, Finding]) -> Finding:
    """One finding from those of all seeds that have its cells."""
    decided = {seed: finding for seed, finding in judged.items() if finding.appears is not None}
    if len(decided) <= 1:
        return next(iter(decided.values()), next(iter(judged.values())))
    lines = [f"seed {seed}, {finding.word}: {line}" for seed, finding in decided.items() for line in finding.figures]
    appears = fmean(bool(finding.appears) for finding in decided.values()) >= ENOUGH_SEEDS - 1e-9
    return replace(next(iter(decided.values())), appears=appears, figures=tuple(lines))


def _drift(curves: Curves) -> Finding:
    cells, unit = curves.of("rome", "instance-sequential"), curves.unit
    appears: bool | None = None
    lines: tuple[str, ...] = ()
    if len(cells) >= 3:
        first, last = cells[0], cells[-1]
        fallen, of = unit.fallen(last)
        rises = [
            f"{rise} ({low.cell.count} to {high.cell.count} edits)"
            for low, high in pairwise(cells)
            for rise in unit.rises(low, high)
        ]
        appears = unit.clearly_more(last, first) and fallen >= of / 2 and bool(rises)
        lines = (
            f"ROME, edits and {unit.figure}: {curves.trail(cells)}.",
            f"After {edits_phrase(last.cell.count)} {fallen} of {of} abilities have certainly fallen.",
            f"On the way up again: {'; '.join(rises) or 'nothing'}.",
        )
    return Finding(
        1,
        "One instance at a time, abilities drift down as edits accumulate, and not smoothly.",
        f"ROME's {unit.loss} at the most edits exceeds that at the fewest {unit.certain}; at least half of the "
        f"abilities have certainly fallen ({unit.fall}); and some ability rises {unit.rise} between two "
        "neighboring numbers of edits.",
        appears,
        lines,
    )


def _kn_destroys(curves: Curves) -> Finding:
    cells = [cell for cell in curves.of("kn", "instance-sequential") if cell.cell.count == 1]
    lines: list[str] = []
    for result in [*cells, *(one for one in _variants(curves, "kn") if one.cell.count == 1)]:
        verdicts = {row.ability: row.verdict for row in result.report.abilities}
        scores = ", ".join(f"{name} {one.base:.2f} → {one.edited:.2f}" for name, one in verdicts.items())
        name = f"KN ({', '.join(result.cell.config)})" if result.cell.config else "KN"
        lines.append(f"{name}, one edit: {scores}; {curves.unit.collapse} {curves.unit.left_of(result):.3f}.")
    return Finding(
        2,
        "KN destroys the model at once.",
        f"After one KN edit the {curves.unit.collapse} is at most {COLLAPSED}.",
        curves.unit.left_of(cells[0]) <= COLLAPSED if cells else None,
        tuple(lines) if cells else (),
    )


def _larger_batches(curves: Curves) -> Finding:
    found = {editor: curves.of(editor, "batch-single") for editor in ("memit", "mend")}
    found = {editor: cells for editor, cells in found.items() if len(cells) >= 2}
    rising = [curves.unit.rising(cells) for cells in found.values()]
    both = len(found) == 2
    return Finding(
        3,
        "With one operation, larger batches hurt more.",
        f"The {curves.unit.loss} rises from each batch size to the next{curves.unit.steps}, for MEMIT and for MEND.",
        all(rising) if both else None,
        tuple(
            f"{editor.upper()}, batch size and {curves.unit.figure}: {curves.trail(cells)}."
            for editor, cells in (found.items() if both else ())
        ),
    )


def _compound(curves: Curves) -> Finding:
    lines: list[str] = []
    held: list[bool] = []
    editors: set[str] = set()
    shown = curves.unit.shown
    for series, cells in curves.series.items():
        if series.editor not in ("memit", "mend") or (series.restraint, series.mode) != ("", "batch-sequential"):
            continue
        last = cells[-1]
        single = _at(curves.of(series.editor, "batch-single"), last.cell.batch_size)
        instances = _at(curves.of(series.editor, "instance-sequential"), last.cell.steps)
        if single is None or instances is None:
            continue
        editors.add(series.editor)
        held.append(curves.unit.more(last, single) and curves.unit.more(last, instances))
        lines.append(
            f"{series.editor.upper()}, {last.cell.steps} operations of {last.cell.batch_size}: {curves.unit.figure} "
            f"{shown(last)}; one operation of {last.cell.batch_size}: {shown(single)}; "
            f"{last.cell.steps} operations of 1: {shown(instances)}."
        )
    decided = bool(held) and (editors == {"memit", "mend"} or not curves.unit.apart)
    return Finding(
        4,
        "Batch and sequence compound.",
        "For every editor and batch size, a sequence of batches loses more than one batch of that size and than as "
        f"many operations of one edit{curves.unit.apart}.",
        all(held) if decided else None,
        tuple(lines) if decided else (),
    )


def _factuality_hides_harm(curves: Curves) -> Finding:
    unit = curves.unit
    found = [
        cells[-1]
        for editor in ("rome", "memit", "mend")
        if (cells := curves.of(editor, "instance-sequential")) and cells[-1].immediate_efficacy is not None
    ]
    hidden = [one for one in found if (one.immediate_efficacy or 0) >= HIGH_EFFICACY and unit.loss_of(one) >= HARM]
    lines = tuple(
        f"{result.cell.editor.upper()}, {edits_phrase(result.cell.count)} one at a time: efficacy right after each "
        f"edit {result.immediate_efficacy:.2f}, at the end {result.edit_score('efficacy') or 0:.2f}, {unit.figure} "
        f"{unit.shown(result)}."
        for result in found
    )
    return Finding(
        5,
        "Factuality stays high while abilities fall.",
        f"At the most edits one at a time, some editor's efficacy right after the edit is at least {HIGH_EFFICACY} "
        f"while the {unit.loss} is at least {HARM}.",
        bool(hidden) if found else None,
        lines,
    )


def _sparse_and_growing(curves: Curves) -> Finding:
    cells = curves.of("rome", "instance-sequential")
    shares = [(cell.cell.count, cell.entry_shares.get(LARGE_CHANGE)) for cell in cells]
    known = [(count, share) for count, share in shares if share is not None]
    appears: bool | None = None
    if len(known) >= 2:
        growing = all(low[1] < high[1] for low, high in pairwise(known))
        appears = growing and known[0][1] < 0.5
    trail = ", ".join(f"{count}: {share:.3f}" for count, share in known)
    return Finding(
        6,
        "The update is sparse in relative terms and accumulates.",
        f"After ROME's first edit fewer than half of the matrix's entries have changed by more than {LARGE_CHANGE:.0%} "
        "of themselves, and that share grows with every further number of edits.",
        appears,
        (f"ROME, edits and share of entries with |ΔW/W| > {LARGE_CHANGE}: {trail}.",) if known else (),
    )


def _rect_buys_back(curves: Curves) -> Finding:
    unit = curves.unit
    lines: list[str] = []
    held: list[bool] = []
    for result in curves.of("rome", "instance-sequential", RECT):
        alone, control = _like(curves, result, ""), _like(curves, result, CONTROL)
        if alone is None or (control is None and unit.needs_control):
            continue
        if not alone.immediate_efficacy or result.immediate_efficacy is None:
            continue
        kept = result.immediate_efficacy / alone.immediate_efficacy
        if unit.loss_of(alone) >= HARM or not unit.only_harmed:
            held.append(unit.clearly_more(alone, result) and kept >= KEPT_EFFICACY)
        lines.append(_restrained(curves, alone, {"RECT": result, "as many entries at random": control}))
    for series, cells in curves.series.items():  # beside it
        if series.editor == "memit" and not series.restraint and not unit.needs_control:
            for one in cells:
                others = {"RECT": _like(curves, one, RECT), "PRUNE": _like(curves, one, PRUNE)}
                lines += [_restrained(curves, one, others)] if any(others.values()) else []
    where = f" at which it does harm ({unit.loss} of at least {HARM})" if unit.only_harmed else ""
    return Finding(
        7,
        "RECT buys abilities back at little cost in efficacy.",
        f"At most of the numbers of edits{where}, keeping the top 40 % of ROME's update lowers the {unit.loss} "
        f"{unit.certain} and keeps at least {KEPT_EFFICACY:.0%} of the efficacy right after the edit.",
        fmean(held) > 0.5 if held else None,
        tuple(lines) if held else (),
    )


def _restrained(curves: Curves, alone: CellResult, others: Mapping[str, CellResult | None]) -> str:
    """One line: a cell without restraint, and the same cell with others."""
    before, shown = alone.immediate_efficacy or 0.0, curves.unit.shown
    parts = [
        f"{alone.cell.editor.upper()}, {edits_phrase(alone.cell.count)}, {alone.cell.mode}: {curves.unit.figure} "
        f"{shown(alone)}, efficacy right after the edit {before:.2f}"
    ]
    for name, one in others.items():
        if one is not None:
            kept = f" ({(one.immediate_efficacy or 0) / before:.0%} kept)" if before else ""
            parts.append(f"with {name} {shown(one)}, efficacy {one.immediate_efficacy or 0:.2f}{kept}")
    return "; ".join(parts) + "."


JUDGES: tuple[Callable[[Curves], Finding], ...] = (
    _drift,
    _kn_destroys,
    _larger_batches,
    _compound,
    _factuality_hides_harm,
    _sparse_and_growing,
    _rect_buys_back,
)


def findings_by_model(
    results: Sequence[CellResult], shares: GridShares | None = None
) -> dict[str, tuple[Finding, ...]]:
    """The findings on each model of a grid."""
    models = dict.fromkeys(result.cell.model for result in results)
    return {model: findings([result for result in results if result.cell.model == model], shares) for model in models}


def _variants(curves: Curves, editor: str) -> list[CellResult]:
    """The cells of an editor with hyperparameters of their own."""
    return [result for s, cells in curves.series.items() if s.editor == editor and s.config for result in cells]


def _like(curves: Curves, result: CellResult, restraint: str) -> CellResult | None:
    """The cell that differs from a result in its restraint only."""
    wanted = replace(result.cell, restraint=restraint)
    return next((one for one in curves.series.get(wanted.series, ()) if one.cell == wanted), None)


def _at(cells: Sequence[CellResult], count: int) -> CellResult | None:
    return next((result for result in cells if result.cell.count == count), None)
