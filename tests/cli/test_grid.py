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
    for name in ("grid.csv", "grid.md", "findings.md", "abilities-pocket-llama.png", "mean-drop-pocket-llama.svg"):
        assert (out / name).stat().st_size > 0, name


def test_render_only_draws_a_past_grid(tmp_path: Path) -> None:
    for result in (*sequence("kn", {1: 0.05}), made("memit", "batch-single", 10, 0.8)):
        write_cell(result, tmp_path)
    done = RUNNER.invoke(app, ["grid", "--render-only", "--out", str(tmp_path)])
    assert done.exit_code == 0, done.output
    assert "KN destroys the model at once. | appears |" in (tmp_path / "findings.md").read_text(encoding="utf-8")


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
