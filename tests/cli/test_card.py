"""`audit card`: a run or a comparison becomes a card, printed or merged into a file; pushed only on demand."""

from collections.abc import Callable
from pathlib import Path

import pytest
from huggingface_hub import ModelCard
from typer.testing import CliRunner

from audit.cli import app
from audit.reports.model_card import BEGIN

RUNNER = CliRunner()


@pytest.fixture(autouse=True)
def no_hub(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The models that were pushed to; nothing reaches the hub."""
    pushed: list[str] = []

    def push(repo: str, *_: object, **__: object) -> str:
        pushed.append(repo)
        return f"https://hub.example/{repo}"

    monkeypatch.setattr("audit.workflows.model_page.push_card", push)
    return pushed


def test_a_card_is_printed(run: Callable[..., Path], no_hub: list[str]) -> None:
    result = RUNNER.invoke(app, ["card", str(run())])
    assert result.exit_code == 0, result.output
    card = ModelCard(result.output)
    assert len(card.data.eval_results or ()) == 8
    assert BEGIN in card.text
    assert no_hub == []


def test_a_card_is_merged_into_a_file(run: Callable[..., Path], tmp_path: Path, no_hub: list[str]) -> None:
    file = tmp_path / "README.md"
    file.write_text("# Theirs\n", encoding="utf-8")
    result = RUNNER.invoke(app, ["card", str(run()), "--out", str(file), "--name", "mine", "--base-model", "a/b"])
    assert (result.exit_code, result.output) == (0, f"wrote {file}\n")
    card = ModelCard.load(file)
    assert (card.data.model_name, card.data.base_model) == ("mine", "a/b")
    assert card.text.startswith("# Theirs\n")
    assert no_hub == []


def test_a_card_is_pushed_only_on_demand(run: Callable[..., Path], no_hub: list[str]) -> None:
    result = RUNNER.invoke(app, ["card", str(run()), "--push", "me/mine"])
    assert (result.exit_code, result.output) == (0, "pushed https://hub.example/me/mine\n")
    assert no_hub == ["me/mine"]


def test_a_comparison_has_a_card(run: Callable[..., Path], tmp_path: Path) -> None:
    for name in ("base", "edited"):
        lines = ["id,score", *(f"{k},{int(k % 5 > 0)}" for k in range(60))]
        (tmp_path / f"{name}.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    found = RUNNER.invoke(
        app,
        ["compare", *(str(tmp_path / f"{name}.csv") for name in ("base", "edited")), "--reports", str(tmp_path / "r")],
    )
    assert found.exit_code in (0, 1, 3), found.output
    (folder,) = (tmp_path / "r").iterdir()
    result = RUNNER.invoke(app, ["card", str(folder)])
    assert result.exit_code == 0, result.output
    card = ModelCard(result.output)
    assert [one.metric_value for one in card.data.eval_results or ()] == [0.8]
    assert "Compared results: `edited.csv`" in card.text


def test_a_folder_without_a_run_is_one_sentence(tmp_path: Path) -> None:
    result = RUNNER.invoke(app, ["card", str(tmp_path)])
    assert result.exit_code == 2
    assert "give the folder of a run" in result.output
    assert len(result.output.splitlines()) == 1
