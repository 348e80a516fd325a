"""`audit grid`: from options to files, and errors."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from audit.cli import app
from audit.reports.workflows.grid_cells import write_cell
from tests.workflows.grid.made_results import made, sequence

RUNNER = CliRunner()


def test_a_small_grid_runs_and_writes_its_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUDIT_STORE", str(tmp_path / "store"))
    out = tmp_path / "grid"
    typed = f"grid --models pocket-llama --editors identity --counts 1,2 --abilities sentiment --limit 4 --out {out}"
    done = RUNNER.invoke(app, [*typed.split(), "--modes", "batch-single"])
    assert done.exit_code == 0, done.output
    assert "2/2 pocket-llama: identity, batch-single, 2 edits: mean drop 0.000" in done.output
    for name in (
        "grid.csv",
        "grid.md",
        "findings.md",
        "grid.html",
        "abilities-pocket-llama.png",
        "mean-drop-pocket-llama.svg",
    ):
        assert (out / name).stat().st_size > 0, name


def test_render_only_draws_a_past_grid(tmp_path: Path) -> None:
    for result in (*sequence("kn", {1: 0.05}), made("memit", "batch-single", 10, 0.8)):
        write_cell(result, tmp_path)
    done = RUNNER.invoke(app, ["grid", "--render-only", "--out", str(tmp_path)])
    assert done.exit_code == 0, done.output
    assert "KN destroys the model at once. | appears |" in (tmp_path / "findings.md").read_text(encoding="utf-8")


def test_render_only_with_a_plan_shows_the_cells_that_are_not_run(tmp_path: Path) -> None:
    plan = tmp_path / "grid.toml"
    plan.write_text(
        'models.pocket-gpt2 = {}\n[[cells]]\neditors = ["kn"]\nmodes = ["instance-sequential"]\ncounts = [1, 10]\n',
        encoding="utf-8",
    )
    for result in sequence("kn", {1: 0.05}):
        write_cell(result, tmp_path)
    done = RUNNER.invoke(app, ["grid", "--render-only", "--plan", str(plan), "--out", str(tmp_path)])
    assert done.exit_code == 0, done.output
    page = (tmp_path / "grid.html").read_text(encoding="utf-8")
    assert "1 of 2 cells have results." in page and "1 are not run, so findings can still change." in page


@pytest.mark.parametrize(
    ("typed", "sentence"),
    [
        ("--editors memitt", "there is no editor 'memitt'"),
        ("--editors identity --counts ten", "--counts 'ten'"),
        ("--editors identity --modes all", "--modes 'all' is unknown"),
        ("--render-only", "holds no cells of a grid"),
        ("--editors identity --device gpu", "--device 'gpu'"),
    ],
)
def test_a_mistake_is_one_sentence(tmp_path: Path, typed: str, sentence: str) -> None:
    done = RUNNER.invoke(app, ["grid", "--out", str(tmp_path / "grid"), *typed.split()])
    assert done.exit_code == 2
    assert sentence in done.output
    assert "Traceback" not in done.output


def test_a_failed_cell_is_printed_and_the_command_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUDIT_STORE", str(tmp_path / "store"))
    typed = (
        f"grid --models pocket-llama --editors identity --counts 1,999 --abilities sentiment --limit 4 --out {tmp_path}"
    )
    done = RUNNER.invoke(app, [*typed.split(), "--modes", "batch-single"])
    assert done.exit_code == 1
    assert "not run: identity, batch-single, 999 edits on pocket-llama: --edit-count 999" in done.output
    page = (tmp_path / "grid.html").read_text(encoding="utf-8")
    assert "1 of 2 cells have results." in page and "failed: --edit-count 999" in page


PLAN = """
limit = 4
abilities = ["sentiment"]
models.pocket-llama = {}

[[cells]]
tag = "a"
editors = ["identity"]
modes = ["batch-single"]
counts = [1, 2]

[[cells]]
tag = "b"
editors = ["identity"]
modes = ["batch-single"]
counts = [3]
"""


@pytest.fixture
def plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("AUDIT_STORE", str(tmp_path / "store"))
    path = tmp_path / "grid.toml"
    path.write_text(PLAN, encoding="utf-8")
    return path


def test_a_dry_run_lists_the_cells_with_their_costs_and_runs_nothing(tmp_path: Path, plan: Path) -> None:
    done = RUNNER.invoke(app, ["grid", "--plan", str(plan), "--out", str(tmp_path / "out"), "--dry-run"])
    assert done.exit_code == 0, done.output
    assert (
        "pocket-llama: identity, batch-single, 2 edits: about 0.0 min (from the speed of this machine)" in done.output
    )
    assert "3 cells: 0 finished, 3 left, about 0.0 hours" in done.output
    assert not (tmp_path / "out").exists()


def test_a_plan_runs_by_tags_and_goes_on_where_it_stopped(
    tmp_path: Path, plan: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    typed = ["grid", "--plan", str(plan), "--out", str(tmp_path / "out")]
    first = RUNNER.invoke(app, [*typed, "--tags", "b"])
    assert first.exit_code == 0, first.output
    assert "begins: pocket-llama: identity, batch-single, 3 edits, about" in first.output
    assert "1/1 pocket-llama: identity, batch-single, 3 edits: mean drop 0.000" in first.output

    def interrupted(*given: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("audit.workflows.grid.run.run_grid", interrupted)
    stopped = RUNNER.invoke(app, typed)
    assert stopped.exit_code == 130
    assert "3 cells: 1 finished, 2 left" in stopped.output
    assert "interrupted; finished cells are kept" in stopped.output


@pytest.mark.parametrize(
    ("typed", "sentence"),
    [
        ("--editors rome", "has cells, and --editors asks for others"),
        ("--edits pocket", "name their edits; leave it out"),
        ("--tags c", "--tags 'c': no cell has it; give some of a, b"),
        ("--editor-config layers=3", "write EDITOR.KEY=VALUE"),
        ("--reading guesses", "--reading 'guesses'"),
    ],
)
def test_a_mistake_beside_a_plan_is_one_sentence(plan: Path, typed: str, sentence: str) -> None:
    done = RUNNER.invoke(app, ["grid", "--plan", str(plan), *typed.split()])
    assert done.exit_code == 2
    assert sentence in " ".join(done.output.split())


def test_tags_need_a_plan() -> None:
    done = RUNNER.invoke(app, ["grid", "--tags", "a"])
    assert done.exit_code == 2
    assert "only the cells of a --plan file have tags" in " ".join(done.output.split())
