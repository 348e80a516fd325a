"""Made-up results of cells, with given numbers."""

from collections.abc import Mapping
from dataclasses import replace

from audit.reports.rows import EditScore
from audit.reports.workflows.grid_cells import Cell, CellResult
from tests.reports.sample import HEADER, PASSED, REPORT, row_with

ABILITIES = ("reasoning", "sentiment")


def made(
    editor: str,
    mode: str,
    count: int,
    edited: float | Mapping[str, float],
    *,
    batch_size: int = 1,
    restraint: str = "",
    efficacy: float = 1.0,
    shares: Mapping[float, float] | None = None,
    model: str = "pocket-gpt2",
) -> CellResult:
    """A cell whose abilities scored 0.9 before and `edited` after; their drops are certain to 0.02."""
    scores = edited if isinstance(edited, Mapping) else dict.fromkeys(ABILITIES, edited)
    rows = tuple(
        row_with(
            PASSED,
            ability=ability,
            base=0.9,
            edited=score,
            drop=0.9 - score,
            lower=0.9 - score - 0.02,
            upper=0.9 - score + 0.02,
            outcome="PASS" if score > 0.87 else "FAIL",
        )
        for ability, score in scores.items()
    )
    edit_scores = (
        EditScore("efficacy", "autoregressive", efficacy, count),
        EditScore("immediate efficacy", "autoregressive", efficacy, count),
    )
    report = replace(
        REPORT,
        header=replace(HEADER, model=model, editor=editor),
        abilities=rows,
        edit_scores=edit_scores,
        items=(),
        folder=None,
    )
    size = count if mode == "batch-single" else batch_size
    return CellResult(Cell(model, editor, restraint, mode, size, count), report, dict(shares or {0.1: 0.2}), "s")


def sequence(editor: str, edited: Mapping[int, float], **more: object) -> list[CellResult]:
    """Cells of one editor, one edit at a time, by number of edits."""
    return [made(editor, "instance-sequential", n, score, **more) for n, score in edited.items()]  # type: ignore[arg-type]
