"""`audit diff`: table, sentences and files, identical weights, and errors."""

from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from audit.cli import app
from audit.models.patches import parameter_at
from tests.models.saved_models import save
from tests.tiny_models import build_tiny_gpt2, build_tiny_llama

runner = CliRunner()


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base, an edited copy of it, and a model of another family."""
    root = tmp_path_factory.mktemp("models")
    save(build_tiny_llama(), root / "base")
    edited = build_tiny_llama()
    with torch.no_grad():
        parameter_at(edited.model, edited.anatomy.weight_name(1)).mul_(1.5)
    save(edited, root / "edited")
    save(build_tiny_gpt2(), root / "other")
    return root


def test_changes_are_shown_and_written(models: Path, tmp_path: Path) -> None:
    shown = runner.invoke(app, ["diff", str(models / "base"), str(models / "edited"), "--out", str(tmp_path / "d")])
    assert shown.exit_code == 0, shown.output
    assert "edited over base, the largest relative norm first" in shown.output
    assert "mlp.down" in shown.output and "32×80" in shown.output
    assert "1 of 30 tensors differ; the change is in layer 1 (MLP)." in shown.output
    for name in ("diff.json", "diff.csv", "table.md", "changes.png", "changes.svg"):
        assert f"wrote {tmp_path / 'd' / name}" in shown.output and (tmp_path / "d" / name).is_file()


def test_identical_weights_are_one_sentence(models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shown = runner.invoke(app, ["diff", str(models / "base"), str(models / "base")])
    assert shown.exit_code == 0
    assert "bit for bit: no tensor differs." in shown.output
    assert (tmp_path / "reports" / "diff-base" / "diff.json").is_file()


@pytest.mark.parametrize(
    ("edited", "options", "complaint"),
    [
        ("other", [], "has the model type gpt2, but the base model"),
        ("absent", [], "there is no checkpoint"),
        ("edited", ["--edited-revision", "v2"], "is a local path and has no revision 'v2'"),
        ("edited", ["--dtype", "float7"], "--dtype 'float7': give one of"),
    ],
)
def test_a_checkpoint_of_another_model_is_one_error(
    models: Path, tmp_path: Path, edited: str, options: list[str], complaint: str
) -> None:
    arguments = ["diff", str(models / "base"), str(models / edited), "--out", str(tmp_path), *options]
    shown = runner.invoke(app, arguments)
    assert shown.exit_code == 2
    assert shown.output.startswith("audit: ") and complaint in shown.output
