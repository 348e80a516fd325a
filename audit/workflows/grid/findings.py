"""The seven findings of Gu et al. (2024), each with a criterion that was fixed before any cell was run.

A criterion is a pure function of the cells of one model. It decides whether the finding appears and lists the figures;
without the cells that it needs it is not decided.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean

from audit.reports.workflows.grid_cells import CellResult, Series, by_series

CLEAR_RISE = 0.01  # score points: less is not called a rise
COLLAPSED = 0.10  # "about 0": mean edited score
HARM = 0.10  # score points of mean drop that count as falling abilities
HIGH_EFFICACY = 0.80
KEPT_EFFICACY = 0.94  # RECT's share of the unrestrained efficacy, as the paper reports it
LARGE_CHANGE = 0.1  # |ΔW / W|

Curves = dict[Series, tuple[CellResult, ...]]


@dataclass(frozen=True)
class Finding:
    """`appears` is None where the cells that decide are missing; `figures` are lines of Markdown."""

    number: int
    statement: str
    criterion: str
    appears: bool | None
    figures: tuple[str, ...]


def findings(results: Sequence[CellResult]) -> tuple[Finding, ...]:
    """All seven for one model's cells.

    Raises:
        ValueError: the cells are of several models.
    """
    if len({result.cell.model for result in results}) > 1:
        raise ValueError("findings are those of one model")
    curves = by_series(results)
    return tuple(judge(curves) for judge in JUDGES)


def _drift(curves: Curves) -> Finding:
    cells = _curve(curves, "rome", "instance-sequential")
    appears: bool | None = None
    lines: tuple[str, ...] = ()
    if len(cells) >= 3:
        first, last = cells[0], cells[-1]
        fallen = sum(row.verdict.lower > 0 for row in last.report.abilities)
        rises = _rises(cells)
        appears = (
            last.mean_drop > first.mean_drop + CLEAR_RISE and fallen >= len(last.report.abilities) / 2 and bool(rises)
        )
        lines = (
            f"ROME, edits and mean drop: {_trail(cells)}.",
            f"After {last.cell.count} edits {fallen} of {len(last.report.abilities)} abilities have certainly fallen.",
            f"On the way up again: {'; '.join(rises) or 'nothing'}.",
        )
    return Finding(
        1,
        "One instance at a time, abilities drift down as edits accumulate, and not smoothly.",
        f"ROME's mean drop at the most edits exceeds that at the fewest by more than {CLEAR_RISE}, at least half of "
        f"the abilities have certainly fallen (lower limit of the drop above 0), and some ability rises by more than "
        f"{CLEAR_RISE} between two neighboring numbers of edits.",
        appears,
        lines,
    )


def _kn_destroys(curves: Curves) -> Finding:
    cells = [cell for cell in _curve(curves, "kn", "instance-sequential") if cell.cell.count == 1]
    lines: tuple[str, ...] = ()
    if cells:
        verdicts = {row.ability: row.verdict for row in cells[0].report.abilities}
        scores = ", ".join(f"{name} {one.base:.2f} → {one.edited:.2f}" for name, one in verdicts.items())
        lines = (f"KN, one edit: {scores}; mean score {cells[0].mean_base:.3f} → {cells[0].mean_score:.3f}.",)
    return Finding(
        2,
        "KN destroys the model at once.",
        f"After one KN edit the mean score of the abilities is at most {COLLAPSED}.",
        cells[0].mean_score <= COLLAPSED if cells else None,
        lines,
    )


def _larger_batches(curves: Curves) -> Finding:
    found = {editor: _curve(curves, editor, "batch-single") for editor in ("memit", "mend")}
    found = {editor: cells for editor, cells in found.items() if len(cells) >= 2}
    rising = [all(low.mean_drop < high.mean_drop for low, high in pairwise(cells)) for cells in found.values()]
    return Finding(
        3,
        "With one operation, larger batches hurt more.",
        "The mean drop rises from each batch size to the next, for MEMIT and for MEND.",
        all(rising) if len(found) == 2 else None,
        tuple(f"{editor.upper()}, batch size and mean drop: {_trail(cells)}." for editor, cells in found.items()),
    )


def _compound(curves: Curves) -> Finding:
    lines: list[str] = []
    held: list[bool] = []
    for editor in ("memit", "mend"):
        for series, cells in curves.items():
            if (series.editor, series.restraint, series.mode) != (editor, "", "batch-sequential"):
                continue
            last = cells[-1]
            single = _at(_curve(curves, editor, "batch-single"), last.cell.batch_size)
            instances = _at(_curve(curves, editor, "instance-sequential"), last.cell.steps)
            if single is None or instances is None:
                continue
            held.append(last.mean_drop > max(single.mean_drop, instances.mean_drop))
            lines.append(
                f"{editor.upper()}, {last.cell.steps} operations of {last.cell.batch_size}: mean drop "
                f"{last.mean_drop:.3f}; one operation of {last.cell.batch_size}: {single.mean_drop:.3f}; "
                f"{last.cell.steps} operations of 1: {instances.mean_drop:.3f}."
            )
    return Finding(
        4,
        "Batch and sequence compound.",
        "For every editor and batch size, a sequence of batches drops more than one batch of that size and more than "
        "as many operations of one edit.",
        all(held) if held else None,
        tuple(lines),
    )


def _factuality_hides_harm(curves: Curves) -> Finding:
    found = [
        cells[-1]
        for editor in ("rome", "memit", "mend")
        if (cells := _curve(curves, editor, "instance-sequential")) and cells[-1].immediate_efficacy is not None
    ]
    hidden = [
        result for result in found if (result.immediate_efficacy or 0) >= HIGH_EFFICACY and result.mean_drop >= HARM
    ]
    lines = tuple(
        f"{result.cell.editor.upper()}, {result.cell.count} edits one at a time: efficacy right after each edit "
        f"{result.immediate_efficacy:.2f}, at the end {result.edit_score('efficacy') or 0:.2f}, mean drop "
        f"{result.mean_drop:.3f}."
        for result in found
    )
    return Finding(
        5,
        "Factuality stays high while abilities fall.",
        f"At the most edits one at a time, some editor's efficacy right after the edit is at least {HIGH_EFFICACY} "
        f"while the mean drop is at least {HARM}.",
        bool(hidden) if found else None,
        lines,
    )


def _sparse_and_growing(curves: Curves) -> Finding:
    cells = _curve(curves, "rome", "instance-sequential")
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
    plain = _curve(curves, "rome", "instance-sequential")
    lines: list[str] = []
    held: list[bool] = []
    for result in _curve(curves, "rome", "instance-sequential", "rect:0.4"):
        alone = _at(plain, result.cell.count)
        control = _at(_curve(curves, "rome", "instance-sequential", "random:0.4"), result.cell.count)
        if alone is None or control is None or not alone.immediate_efficacy or result.immediate_efficacy is None:
            continue
        kept = result.immediate_efficacy / alone.immediate_efficacy
        saved = alone.mean_drop - result.mean_drop
        held.append(saved > CLEAR_RISE and kept >= KEPT_EFFICACY)
        lines.append(
            f"ROME, {result.cell.count} edits: mean drop {alone.mean_drop:.3f}, with RECT {result.mean_drop:.3f}, with "
            f"as many entries kept at random {control.mean_drop:.3f}; efficacy right after the edit "
            f"{alone.immediate_efficacy:.2f}, {result.immediate_efficacy:.2f} ({kept:.0%} kept) and "
            f"{control.immediate_efficacy or 0:.2f}."
        )
    return Finding(
        7,
        "RECT buys abilities back at little cost in efficacy.",
        f"At most of the numbers of edits, keeping the top 40 % of ROME's update lowers the mean drop by more than "
        f"{CLEAR_RISE} and keeps at least {KEPT_EFFICACY:.0%} of the efficacy right after the edit.",
        fmean(held) > 0.5 if held else None,
        tuple(lines),
    )


JUDGES: tuple[Callable[[Curves], Finding], ...] = (
    _drift,
    _kn_destroys,
    _larger_batches,
    _compound,
    _factuality_hides_harm,
    _sparse_and_growing,
    _rect_buys_back,
)


def findings_markdown(results: Sequence[CellResult]) -> str:
    """A page: finding by finding, whether it appears on each model, with the figures."""
    models = list(dict.fromkeys(result.cell.model for result in results))
    judged = [findings([result for result in results if result.cell.model == model]) for model in models]
    lines = ["| finding | " + " | ".join(models) + " |", "| --- |" + " --- |" * len(models)]
    for each in zip(*judged, strict=True):  # one finding on each model
        words = " | ".join(_word(finding.appears) for finding in each)
        lines.append(f"| {each[0].number}. {each[0].statement} | {words} |")
    for each in zip(*judged, strict=True):
        lines += ["", f"### {each[0].number}. {each[0].statement}", "", f"*Appears if:* {each[0].criterion}"]
        for model, finding in zip(models, each, strict=True):
            lines += ["", f"**{model}: {_word(finding.appears)}.**", "", *(f"- {line}" for line in finding.figures)]
    return "\n".join(lines) + "\n"


def _word(appears: bool | None) -> str:
    return {True: "appears", False: "does not appear", None: "not measured"}[appears]


def _curve(curves: Curves, editor: str, mode: str, restraint: str = "") -> tuple[CellResult, ...]:
    """The cells of one editor and mode, in the order of their numbers of edits; none where the grid has none."""
    wanted = (editor, restraint, mode)
    return next((c for s, c in curves.items() if (s.editor, s.restraint, s.mode) == wanted), ())


def _at(cells: Sequence[CellResult], count: int) -> CellResult | None:
    return next((result for result in cells if result.cell.count == count), None)


def _trail(cells: Sequence[CellResult]) -> str:
    return ", ".join(f"{result.cell.count}: {result.mean_drop:.3f}" for result in cells)


def _rises(cells: Sequence[CellResult]) -> list[str]:
    """Where an ability's edited score is higher at a larger number of edits."""
    found: list[str] = []
    for low, high in pairwise(cells):
        for row in high.report.abilities:
            before = low.report.ability(row.ability)
            if before is not None and row.verdict.edited > before.verdict.edited + CLEAR_RISE:
                edits = f"{low.cell.count} to {high.cell.count} edits"
                found.append(f"{row.ability} {before.verdict.edited:.2f} → {row.verdict.edited:.2f} ({edits})")
    return found
