"""The cells of a grid: combinations of model, editor, restraint, mode and number of edits.

    cells = paper_cells(("pocket-gpt2", "pocket-llama"))
    cells = product_cells(models=("pocket-gpt2",), editors=("rome",), modes=("instance-sequential",), counts=(1, 10))

A cell is one audit and depends on no other cell, so cells can run in any order and in several processes.
"""

from collections.abc import Mapping, Sequence
from itertools import product

from audit.edits.plan import BATCH_MODES, MODES
from audit.errors import AuditError
from audit.reports.workflows.grid import Cell


def paper_cells(models: Sequence[str]) -> tuple[Cell, ...]:
    """The grid of Gu et al. (2024) in miniature: four editors with their modes, and RECT with its controls."""
    cells: list[Cell] = []
    for model in models:
        cells += [Cell(model, "kn", "", "instance-single", 1, 5)]
        cells += [Cell(model, "kn", "", "instance-sequential", 1, count) for count in (1, 5, 10)]
        cells += [Cell(model, "rome", "", "instance-single", 1, 5)]
        cells += [Cell(model, "rome", "", "instance-sequential", 1, count) for count in (1, 5, 10, 20, 50, 100)]
        for editor in ("mend", "memit"):
            cells += [Cell(model, editor, "", "instance-single", 1, 5)]
            cells += [Cell(model, editor, "", "instance-sequential", 1, count) for count in (1, 4, 10, 20, 50)]
            cells += [Cell(model, editor, "", "batch-single", count, count) for count in (10, 50, 100)]
            cells += [Cell(model, editor, "", "batch-sequential", 10, count) for count in (20, 50, 100)]
            cells += [Cell(model, editor, "", "batch-sequential", 50, count) for count in (100, 200)]
        for restraint in ("rect:0.4", "rect:0.2", "random:0.4", "prune"):
            cells += [Cell(model, "rome", restraint, "instance-sequential", 1, count) for count in (20, 50, 100)]
            cells += [Cell(model, "memit", restraint, "batch-sequential", 10, 100)]
    return tuple(cells)


def product_cells(
    *,
    models: Sequence[str],
    editors: Mapping[str, bool],
    counts: Sequence[int],
    modes: Sequence[str] = (),
    batch_sizes: Sequence[int] = (10,),
    restraints: Sequence[str] = ("",),
) -> tuple[Cell, ...]:
    """Every combination that can be run; `editors` maps the name of each editor to whether it takes batches.

    Without `modes`: instance-sequential, and batch-single for editors that take batches. Batch sizes apply to
    batch-sequential mode, where they are smaller than the number of edits.

    Raises:
        AuditError: a mode is unknown, a number is below 1, or no combination can be run.
    """
    for mode in modes:
        if mode not in MODES:
            raise AuditError(f"--modes {mode!r} is unknown; give some of {', '.join(MODES)}.")
    for flag, numbers in (("--counts", counts), ("--batch-sizes", batch_sizes)):
        for number in numbers:
            if number < 1:
                raise AuditError(f"{flag} {number}: give whole numbers of at least 1.")
    cells: dict[Cell, None] = {}
    for model, editor, restraint, count in product(models, editors, restraints, counts):
        for mode in modes or ("instance-sequential", "batch-single"):
            if mode in BATCH_MODES and not editors[editor]:
                continue
            sizes = [size for size in batch_sizes if size < count] if mode == "batch-sequential" else [0]
            for size in sizes:
                batch_size = size or (count if mode == "batch-single" else 1)
                cells[Cell(model, editor, restraint, mode, batch_size, count)] = None
    if not cells:
        raise AuditError(
            f"no combination of editors {', '.join(editors)} and modes {', '.join(modes)} can be run: "
            "batch modes need an editor that batches, such as memit, and batch-sequential counts above its batch size."
        )
    return tuple(cells)
