"""The file of a grid: settings, cells, paths, and one sentence for each mistake."""

from pathlib import Path

import pytest

from audit.errors import AuditError
from audit.workflows.grid.grid_file import GridFile, read_grid_file

GRID = """
limit = 20
seed = 3
data = "${ROWS}"
reading = { nli = "choices" }
edits = { facts = "edits/facts.json", more = "${ROWS}/more.json" }
editors.memit.layers = "1,2"

[models.small]
path = "../small"
editors.memit = { covariance = "${ROWS}/texts.txt", clamp_norm_factor = 2 }

[models.pocket-llama]

[[cells]]
tag = "sequences"
editors = ["rome"]
models = ["small"]
edits = ["facts"]
modes = ["instance-sequential"]
counts = [1, 10]
restraints = ["none", "prune"]

[[cells]]
tag = "batches"
editors = ["memit"]
edits = ["facts", "more"]
modes = ["batch-single", "batch-sequential"]
counts = [20]
batch_sizes = [5]
seeds = [0, 1]
config = { layers = "3" }
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("small", "rows", "plans/edits"):
        (tmp_path / name).mkdir(parents=True)
    for name in ("rows/more.json", "rows/texts.txt", "plans/edits/facts.json"):
        (tmp_path / name).touch()
    monkeypatch.setenv("ROWS", str(tmp_path / "rows"))
    return tmp_path


def read(folder: Path, text: str = GRID) -> GridFile:
    path = folder / "plans" / "grid.toml"
    path.write_text(text, encoding="utf-8")
    return read_grid_file(path)


def test_cells_are_products_with_tags(folder: Path) -> None:
    found = read(folder)
    sequences, batches = found.tagged(["sequences"]), found.tagged(["batches"])
    assert [(cell.count, cell.restraint, cell.seed) for cell in sequences] == [
        (1, "", 3),
        (10, "", 3),
        (1, "prune", 3),
        (10, "prune", 3),
    ]
    assert len(batches) == 2 * 2 * 2 * 2  # models, sources, seeds, modes
    assert {cell.config for cell in batches} == {("layers=3",)}
    assert found.tagged([]) == (*sequences, *batches)
    with pytest.raises(AuditError, match="--tags 'other': no cell has it; give some of sequences, batches"):
        found.tagged(["other"])


def test_a_cell_of_two_tables_has_the_tags_of_both_and_is_there_once(folder: Path) -> None:
    short = """
[[cells]]
tag = "short"
editors = ["rome"]
models = ["small"]
edits = ["facts"]
modes = ["instance-sequential"]
counts = [1]
"""
    found = read(folder, GRID + short)
    (one,) = found.tagged(["short"])
    assert one in found.tagged(["sequences"])
    assert found.cells == read(folder).cells


def test_settings_of_a_cell_are_those_of_file_model_and_cell(folder: Path) -> None:
    found = read(folder)
    grid = found.settings(folder / "out", limit=5)
    memit = next(cell for cell in found.cells if (cell.editor, cell.model, cell.edits) == ("memit", "small", "more"))
    wanted = grid.audit_settings(memit)
    assert (wanted.limit, wanted.seed, wanted.edit_seed) == (5, 3, 0)
    assert wanted.reading == {"nli": "choices"}
    assert wanted.model == str(folder / "small")
    assert wanted.edits == str(folder / "rows/more.json")
    assert wanted.editor_config == {
        "layers": "3",
        "covariance": str(folder / "rows/texts.txt"),
        "clamp_norm_factor": "2",
    }
    assert grid.audit_settings(found.cells[0]).edit_seed is None  # the seed of the grid


def test_what_a_cell_asks_is_the_same_in_every_folder(
    folder: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fingerprints(text: str = GRID) -> list[str]:
        found = read(folder, text)
        return [found.settings(folder / "out").asked(cell) for cell in found.cells]

    here = fingerprints()
    assert len(set(here)) == len(here)
    assert fingerprints(GRID.replace("seed = 3", "seed = 4")) != here
    folder = folder.rename(tmp_path_factory.mktemp("other") / "place")
    monkeypatch.setenv("ROWS", str(folder / "rows"))
    assert fingerprints() == here


def test_paths_are_spelled_as_in_the_file_with_the_longest_first(folder: Path) -> None:
    spellings = read(folder).spellings
    assert dict(spellings)[str(folder / "small")] == "../small"
    assert dict(spellings)[str(folder / "rows/texts.txt")] == "${ROWS}/texts.txt"
    assert [len(path) for path, _ in spellings] == sorted((len(path) for path, _ in spellings), reverse=True)


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("limit = 20", "limits = 20", r"grid.toml: 'limits' is unknown \(did you mean 'limit'\?\); give some of limit"),
        ("limit = 20", "limit = 0", "limit: 0 is not usable here; give a whole number of at least 1"),
        ("limit = 20", "limit = true", "limit: True is not usable here"),
        ("limit = 20", "limit = ", "is not TOML"),
        ("${ROWS}/more", "${NOWHERE}/more", r"\$\{NOWHERE\} is not set; export NOWHERE="),
        ("facts.json", "fact.json", r"edits.facts: there is no edits/fact.json \(.*\); correct the path"),
        ('reading = { nli = "choices" }', 'reading = "guesses"', "reading 'guesses': give one of auto"),
        ("editors.memit.layers", "editors.memitt.layers", "there is no editor 'memitt'"),
        ("counts = [1, 10]", "counts = 10", r"cells 1, counts: 10 is not usable here; give a list"),
        ("counts = [1, 10]", 'counts = ["1"]', "cells 1, counts: '1' is not usable here; give a whole number"),
        ("counts = [1, 10]", "count = [1]", r"cells 1: 'count' is unknown \(did you mean 'counts'\?\)"),
        ('models = ["small"]', 'models = ["large"]', "cells 1, models: 'large' is not usable here; give some of small"),
        ('tag = "sequences"\neditors = ["rome"]', 'tag = "sequences"', "give editors = "),
        (
            'editors = ["rome"]\nmodels = ["small"]\nedits = ["facts"]',
            'editors = ["rome"]',
            "since there are facts, mo",
        ),
        ('path = "../small"', "path = 3", "models.small.path: 3 is not usable here; give a string"),
        ("[[cells]]", "[[cell]]", "'cell' is unknown"),
    ],
)
def test_a_mistake_is_one_sentence(folder: Path, old: str, new: str, sentence: str) -> None:
    assert old in GRID
    with pytest.raises(AuditError, match=sentence):
        read(folder, GRID.replace(old, new))


def test_a_file_that_an_editor_needs_is_missed_only_by_its_cells(folder: Path) -> None:
    (folder / "rows/texts.txt").unlink()
    found = read(folder)
    assert found.tagged(["sequences"])
    with pytest.raises(AuditError, match=r"small, memit, covariance: there is no \$\{ROWS\}/texts.txt .*--tags"):
        found.tagged([])


def test_a_missing_file_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(AuditError, match=r"--plan .*none.toml cannot be read \(No such file"):
        read_grid_file(tmp_path / "none.toml")


def test_the_plan_of_the_real_models_is_valid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = Path(__file__).parents[3] / "reports/real/grid.toml"
    for name in ("reports/real", "rows", "edits", "models/SmolLM2-135M-Instruct-Q4", "models/gemma-3-270m-Q4"):
        (tmp_path / name).mkdir(parents=True)
    for name in ("counterfact.json", "zsre.json"):
        (tmp_path / "edits" / name).touch()
    for name, value in (("REAL_DATA", "rows"), ("GRID_EDITS", "edits"), ("MEND", "mend")):
        monkeypatch.setenv(f"AUDIT_{name}", str(tmp_path / value))
    copy = tmp_path / "reports/real/grid.toml"
    copy.write_text(plan.read_text(encoding="utf-8"), encoding="utf-8")
    found = read_grid_file(copy)
    assert len(set(found.cells)) == len(found.cells) == 112
    assert len({cell.name for cell in found.cells}) == 112
