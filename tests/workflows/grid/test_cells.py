"""The cells of the paper's grid and of a product, and their file names."""

import pytest

from audit.edits.plan import EditPlan
from audit.errors import AuditError
from audit.workflows.grid.cells import Cell, paper_cells, product_cells

MODELS = ("pocket-gpt2", "pocket-llama")


def test_the_papers_grid_has_its_editors_modes_and_restraints_on_both_models() -> None:
    cells = paper_cells(MODELS)
    for model in MODELS:
        own = [cell for cell in cells if cell.model == model]
        modes = {
            editor: {cell.mode for cell in own if cell.editor == editor} for editor in ("kn", "rome", "mend", "memit")
        }
        assert modes["kn"] == modes["rome"] == {"instance-single", "instance-sequential"}
        assert modes["mend"] == modes["memit"]
        assert len(modes["memit"]) == 4
        restraints = {cell.restraint for cell in own if cell.editor == "rome"}
        assert restraints == {"", "rect:0.4", "rect:0.2", "random:0.4", "prune"}


def test_every_cell_of_the_papers_grid_has_valid_settings_and_its_own_file() -> None:
    cells = paper_cells(MODELS)
    for cell in cells:
        plan = EditPlan(cell.mode, cell.count, cell.batch_size)
        assert len(plan.steps([None] * cell.count)) == (cell.steps)  # type: ignore[list-item]
    assert len({cell.name for cell in cells}) == len(set(cells)) == len(cells)


def test_a_product_leaves_out_impossible_combinations() -> None:
    cells = product_cells(
        models=["m"],
        editors={"rome": False, "memit": True},
        counts=[1, 20],
        modes=["batch-single", "batch-sequential", "instance-sequential"],
        batch_sizes=[5, 50],
    )
    assert {cell.mode for cell in cells if cell.editor == "rome"} == {"instance-sequential"}
    batches = [(cell.batch_size, cell.count) for cell in cells if cell.mode == "batch-sequential"]
    assert batches == [(5, 20)]


def test_a_series_has_the_cells_that_differ_in_the_number_of_edits_only() -> None:
    ten, twenty = (Cell("m", "memit", "", "batch-single", n, n) for n in (10, 20))
    assert ten.series == twenty.series
    assert (
        Cell("m", "memit", "", "batch-sequential", 5, 20).series
        != Cell("m", "memit", "", "batch-sequential", 10, 20).series
    )
    assert (
        Cell("m", "rome", "rect:0.4", "instance-sequential", 1, 5).series.title
        == "rome + rect:0.4, instance-sequential"
    )


def test_a_name_is_a_valid_file_name_for_every_model() -> None:
    name = Cell("some org/model: v1/", "my.lab:Surgeon", "rect:0.4", "batch-single", 3, 3).name
    assert name == "model-v1_Surgeon_rect-0.4_batch-single_3x3"


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        ({"modes": ["both"]}, "--modes 'both' is unknown"),
        ({"counts": [0]}, "--counts 0"),
        ({"batch_sizes": [0]}, "--batch-sizes 0"),
        ({"modes": ["batch-single"]}, "no combination of editors rome and modes batch-single"),
    ],
)
def test_impossible_grids_are_one_error(more: dict[str, list[int]], sentence: str) -> None:
    with pytest.raises(AuditError, match=sentence):
        product_cells(**{"models": ["m"], "editors": {"rome": False}, "counts": [1], **more})  # type: ignore[arg-type]
