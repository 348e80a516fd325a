"""A margin below the floor that `audit calibrate` measured ends the run."""

from pathlib import Path
from typing import Any

import pytest

import audit.workflows.calibrate as calibration
from audit.models.loading import load_language_model
from audit.settings.options import AuditSettings
from tests.pytest_plugin.conftest import SUITE, RealSuites
from tests.small_audit import SmallWorld, build, teach

pytest_plugins = ("pytester",)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> SmallWorld:
    small = build(tmp_path_factory.mktemp("world"))
    teach(small)
    return small


@pytest.fixture
def judged(real_suites: RealSuites, pytester: pytest.Pytester) -> RealSuites:
    pytester.makepyfile(test_open_qa=SUITE.format(ability="open_qa"))
    return real_suites


def calibrate(world: SmallWorld, store: Path) -> None:
    wanted = AuditSettings(model=str(world.model), data=str(world.rows), limit=60, store=store, device="cpu")
    calibration.calibrate(wanted, ["open_qa"])


def options(*more: str) -> tuple[str, ...]:
    return ("test_open_qa.py", "--editor", "identity", "--limit", "60", *more)


def test_a_margin_below_the_noise_of_the_batch_is_refused(
    world: SmallWorld, judged: RealSuites, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(*names: Any, **how: Any) -> Any:
        def disturb(module: Any, arguments: Any, output: Any) -> Any:
            if len(output.logits) < 8:  # rows computed together
                output.logits = output.logits.roll(1, -1)
            return output

        lm = load_language_model(*names, **how)
        lm.model.register_forward_hook(disturb)
        return lm

    monkeypatch.setattr(calibration, "load_language_model", load)
    calibrate(world, pytester.path / "store")
    result = judged.run(world, *options())
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stdout.fnmatch_lines(["*open_qa: a margin of 0.05 is under the noise floor of 0.*"])
    assert "side-effect audit" not in result.stdout.str()  # nothing was measured, so nothing is reported


def test_a_margin_at_the_floor_passes_and_the_report_has_the_floor(
    world: SmallWorld, judged: RealSuites, pytester: pytest.Pytester
) -> None:
    calibrate(world, pytester.path / "store")
    result = judged.run(world, *options())
    assert result.ret == pytest.ExitCode.OK, result.stdout.str()
    (report,) = (pytester.path / "reports").glob("*/report.md")
    assert "Noise floor 0.049 (the base model against itself, 60 items)." in report.read_text(encoding="utf-8")


def test_no_store_ignores_calibrations(world: SmallWorld, judged: RealSuites, pytester: pytest.Pytester) -> None:
    calibrate(world, pytester.path / "store")
    result = judged.run(world, *options("--no-store", "--margin", "open_qa=0.01"))
    assert result.ret == pytest.ExitCode.TESTS_FAILED  # too few items for so small a margin
    result.stdout.fnmatch_lines(["*INCONCLUSIVE*"])
