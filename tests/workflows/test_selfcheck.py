"""An ability works if it passes on the unchanged model and fails on the damaged one."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from audit.cli import app
from audit.settings.options import AuditSettings
from audit.workflows.selfcheck import SCALES, run_controls
from tests.small_audit import SmallWorld, build, teach


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> SmallWorld:
    small = build(tmp_path_factory.mktemp("world"))
    teach(small)  # open_qa, and nothing else
    return small


def settings(world: SmallWorld, tmp_path: Path, **more: Any) -> AuditSettings:
    wanted = {"model": str(world.model), "edits": str(world.edits), "data": str(world.rows), "limit": 60}
    return AuditSettings(**wanted | {"store": tmp_path / "store", "device": "cpu"} | more)


def test_an_ability_of_the_model_passes_both_controls(world: SmallWorld, tmp_path: Path) -> None:
    (control,) = run_controls(settings(world, tmp_path), ["open_qa"])
    assert control.works
    assert control.identity is not None
    assert control.vandal is not None
    assert (control.identity.verdict.drop, control.vandal.outcome) == (0.0, "FAIL")
    assert control.scale in SCALES
    assert control.sentence.startswith("passes untouched, fails under noise")


def test_an_ability_that_the_model_lacks_does_not_work(world: SmallWorld, tmp_path: Path) -> None:
    (control,) = run_controls(settings(world, tmp_path), ["reasoning"])
    assert not control.works
    assert control.sentence.startswith("cannot pass although nothing was changed: ")


def test_an_ability_that_noise_does_not_change_is_reported(
    world: SmallWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("audit.workflows.selfcheck.SCALES", (1e-9, 1e-8))
    (control,) = run_controls(settings(world, tmp_path), ["open_qa"])
    assert not control.works
    assert control.scale == 1e-8
    assert "does not notice noise of 1e-08 standard deviations" in control.sentence


def test_missing_data_does_not_stop_the_other_abilities(world: SmallWorld, tmp_path: Path) -> None:
    folder = tmp_path / "rows"
    folder.mkdir()
    (folder / "nq_open.jsonl").write_bytes((world.rows / "nq_open.jsonl").read_bytes())
    missing, there = run_controls(settings(world, tmp_path, data=str(folder)), ["nli", "open_qa"])
    assert not missing.works
    assert missing.sentence.startswith("not asked: ")
    assert there.works


@pytest.mark.parametrize(("abilities", "code"), [(["open_qa"], 0), (["open_qa", "reasoning"], 1), (["openqa"], 2)])
def test_the_exit_code_is_0_if_all_abilities_work(
    abilities: list[str], code: int, world: SmallWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    typed = ["--model", str(world.model), "--data", str(world.rows), "--limit", "60", "--store", str(tmp_path / "s")]
    result = CliRunner().invoke(app, ["selfcheck", *abilities, *typed])
    assert result.exit_code == code, result.output
    if code == 2:
        assert "there is no ability 'openqa'" in result.output
    else:
        assert f"selfcheck: 1 of {len(abilities)} abilities can be judged" in result.output


def test_the_model_of_these_tests_has_the_abilities(world: SmallWorld) -> None:
    lines = (world.rows / "nq_open.jsonl").read_text(encoding="utf-8").splitlines()
    assert len(lines) == 60
    assert json.loads(lines[0])["answer"]
