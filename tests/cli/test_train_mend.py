"""`audit train-mend`: options become a training course, and the measured scores are printed."""

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import audit.workflows.train_mend as mend_course
from audit.cli import app
from audit.editors.mend.network import MendNetwork, TrainedNetwork
from audit.workflows.train_mend import MendCourse

RUNNER = CliRunner()


@pytest.fixture
def followed(monkeypatch: pytest.MonkeyPatch) -> list[MendCourse]:
    courses: list[MendCourse] = []

    def train(course: MendCourse, watcher: Any = None) -> TrainedNetwork:
        courses.append(course)
        scores = {"efficacy_autoregressive": 0.925, "efficacy_n": 40}
        return TrainedNetwork(MendNetwork({"a": (2, 3)}, 1), {"measured": {"test": scores}})

    monkeypatch.setattr(mend_course, "train", train)
    return courses


def test_options_become_a_training_course(followed: list[MendCourse]) -> None:
    typed = "train-mend --model some/model --steps 7 --edits e.json --edits f.json --texts t.txt --variants 4 --seed 3"
    settings = "--setting rank=8 --setting layers=1-3"
    result = RUNNER.invoke(app, [*typed.split(), "--resume", "--device", "cpu", *settings.split()])
    assert result.exit_code == 0, result.output
    overrides = {"rank": "8", "layers": "1-3"}
    expected = MendCourse(
        "some/model", Path("mend-model"), 7, ("e.json", "f.json"), "t.txt", 4, 3, True, "cpu", overrides
    )
    assert followed == [expected]
    assert "test: efficacy 0.93" in result.output or "test: efficacy 0.92" in result.output
    assert "--editor mend --editor-config weights=mend-model" in result.output


def test_a_setting_without_a_value_is_one_sentence(followed: list[MendCourse]) -> None:
    result = RUNNER.invoke(app, ["train-mend", "--setting", "rank"])
    assert result.exit_code == 2
    assert "--setting 'rank': write KEY=VALUE" in result.output
    assert not followed
