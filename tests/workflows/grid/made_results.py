"""Made-up results of cells, with given numbers."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from audit.answering.paired_answers import PairedScores
from audit.reports.rows import EditScore
from audit.reports.workflows.grid_cells import Cell, CellResult
from audit.reports.workflows.grid_scores import AbilityScores
from audit.verdicts.alarm import harm_p_value
from audit.verdicts.margins import Retained
from audit.verdicts.noise import NoiseFloor
from audit.verdicts.verdict import judge
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


def graded(
    editor: str,
    mode: str,
    count: int,
    kept: Mapping[str, float] | float,
    *,
    seed: int = 0,
    changed: Mapping[float, float] | None = None,
    **more: object,
) -> CellResult:
    """A cell read by likelihood, with the scores of 40 items: each keeps the share of its height, about 0.2."""
    result = made(editor, mode, count, 0.9, shares=changed, **more)  # type: ignore[arg-type]
    by_ability = kept if isinstance(kept, Mapping) else dict.fromkeys(ABILITIES, kept)
    rows, scores = [], []
    for place, (row, share) in enumerate(zip(result.report.abilities, by_ability.values(), strict=True)):
        rng = np.random.default_rng(place)
        floors = rng.uniform(0.2, 0.5, 40)
        base = floors + rng.normal(0.2, 0.05, 40)
        edited = np.clip(floors + share * (base - floors) + rng.normal(0, 0.005, 40), 0, 1)
        paired = PairedScores(
            *(values.tolist() for values in (base, edited)),
            clusters=[str(item) for item in range(40)],
            base_counts=None,
            edited_counts=None,
            floors=floors.tolist(),
        )
        verdict = judge(**vars(paired), margin=Retained(0.9), floor=0.0)
        rows.append(
            replace(row, verdict=verdict, harm_p=harm_p_value(**vars(paired)), reading="likelihood", prompting="plain")
        )
        keys = tuple(f"{row.ability}/{item}" for item in range(40))
        scores.append(AbilityScores(row.ability, 0.0, keys, paired))
    return replace(
        result,
        cell=replace(result.cell, seed=seed),
        report=replace(result.report, abilities=tuple(rows)),
        scores=tuple(scores),
        noise={ability: NoiseFloor(40, 0, 1e-7, 2e-7) for ability in ABILITIES},
        processor_seconds=3600.0,
        asked="a",
    )


def graded_sequence(editor: str, shares: Mapping[int, Mapping[str, float] | float], **more: object) -> list[CellResult]:
    """Such cells of one editor, one edit at a time, by number of edits."""
    return [graded(editor, "instance-sequential", n, share, **more) for n, share in shares.items()]  # type: ignore[arg-type]
