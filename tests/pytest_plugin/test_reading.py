"""`degradation(..., keep=, reading=)`, `--reading`, `--prompting`, and `[tool.audit] reading`."""

import json
from pathlib import Path
from typing import Any

import pytest

# A run inside this process forgets whatever it imports itself, and torch cannot be imported twice.
import audit.audit  # noqa: F401
from tests.pytest_plugin.conftest import Suites
from tests.small_audit import SmallWorld, build, teach_labels, widen

pytest_plugins = ("pytester",)

SUITE = """
from audit.verdicts import PASS

def test_{ability}(degradation):
    assert degradation("{ability}", max_drop=0.05, keep="80%", reading="{reading}") == PASS
"""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> SmallWorld:
    made = widen(build(tmp_path_factory.mktemp("world")), 60)
    teach_labels(made, 60)
    return made


class Readings:
    """Runs suites that ask for a reading, with the real audit and an editor that changes nothing."""

    def __init__(self, suites: Suites, world: SmallWorld) -> None:
        self.pytester = suites.pytester
        self._world = world
        self.pytester.makeconftest("")

    def run(self, reading: str, *options: str, ability: str = "nli") -> pytest.RunResult:
        self.pytester.makepyfile(**{f"test_{ability}": SUITE.format(ability=ability, reading=reading)})
        world = {"--model": self._world.model, "--edits": self._world.edits, "--data": self._world.rows}
        words = [f"{flag}={path}" for flag, path in world.items()]  # apart, pytest would look for its root there
        plain = ("--editor", "identity", "--device", "cpu", "--limit", "20", "--no-store", "--inconclusive", "skip")
        return self.pytester.runpytest_inprocess("-p", "audit.pytest_plugin", *words, *plain, *options)

    @property
    def row(self) -> dict[str, Any]:
        """The row of the last run."""
        folder = max((self.pytester.path / "reports").iterdir())
        (row,) = json.loads((folder / "verdict.json").read_text(encoding="utf-8"))["abilities"]
        return dict(row)


@pytest.fixture
def runs(suites: Suites, world: SmallWorld) -> Readings:
    return Readings(suites, world)


def test_a_suite_is_read_by_likelihood_with_the_share_to_keep(runs: Readings) -> None:
    result = runs.run("likelihood", "--prompting", "plain", "--junitxml=out.xml", ability="sentiment")
    result.stdout.fnmatch_lines(["sentiment *likelihood * 1.000 * 0.000 * 0.100 (80%) * 20 *"])
    assert (runs.row["reading"], runs.row["asked_margin"], runs.row["verdict"]["drop"]) == ("likelihood", "80%", 0)
    assert 'name="sentiment.reading" value="likelihood"' in (runs.pytester.path / "out.xml").read_text("utf-8")


def test_by_choices_the_margin_of_the_suite_is_in_points(runs: Readings) -> None:
    runs.run("choices", "--prompting", "plain")
    assert (runs.row["reading"], runs.row["asked_margin"]) == ("choices", "0.05")


def test_the_option_overrides_the_suite(runs: Readings) -> None:
    runs.run("choices", "--reading", "likelihood", "--prompting", "examples", ability="dialogue")
    assert (runs.row["reading"], runs.row["prompting"], runs.row["asked_margin"]) == ("likelihood", "4 examples", "80%")


def test_without_a_reading_one_is_chosen_and_listed(runs: Readings) -> None:
    runs.run("", ability="sentiment")
    trials = runs.row["trials"]
    assert len(trials) > 1 and trials[0].startswith("answers, plain: ") and trials[0].endswith("not clear")
    assert trials[-1].startswith(f"{runs.row['reading']}, {runs.row['prompting']}: ")
    folder = max((runs.pytester.path / "reports").iterdir())
    assert "## How the abilities were asked" in (folder / "report.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("line", "reading", "margin"),
    [
        ('reading = "likelihood"', "likelihood", "80%"),
        ('reading = { nli = "choices" }', "choices", "0.05"),
    ],
)
def test_a_project_sets_the_reading_of_all_abilities_or_of_one(
    runs: Readings, line: str, reading: str, margin: str
) -> None:
    runs.pytester.makepyprojecttoml(f'[tool.audit]\n{line}\nprompting = "plain"')
    runs.run("calibrated")  # the project goes before the suite
    assert (runs.row["reading"], runs.row["asked_margin"]) == (reading, margin)


def test_points_for_a_likelihood_fail_the_test_with_one_sentence(runs: Readings) -> None:
    result = runs.run("likelihood", "--margin", "nli=0.05", "--prompting", "plain")
    result.assert_outcomes(failed=1)
    assert "--margin nli=0.05 is in score points, but nli is read by likelihood" in " ".join(result.outlines)
    assert "Traceback" not in result.stdout.str()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--reading", "nli=likelihod"), "--reading 'likelihod': give one of auto, *mean 'likelihood'?)."),
        (("--reading", "choices", "--reading", "answers"), "--reading 'answers': every ability already has a reading*"),
        (("--shots", "2", "--prompting", "plain"), "--shots contradicts --prompting plain; give one of the two."),
        (("--prompting", "chat", "--protocol", "gu2024"), "--prompting chat: gu2024 has prompts of its own; *"),
        (("--prompting", "chat"), "--prompting chat: the tokenizer of * has no chat template; leave the option *"),
    ],
)
def test_a_mistake_ends_the_run_with_one_sentence(runs: Readings, options: tuple[str, ...], sentence: str) -> None:
    result = runs.run("likelihood", *options)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: {sentence}"])
    assert "Traceback" not in result.stdout.str() + result.stderr.str()


@pytest.mark.parametrize(
    ("options", "ability", "sentence"),
    [
        (
            ("--reading", "reasoning=choices"),
            "reasoning",
            "is read by answers or likelihood; give one of these, or auto",
        ),
        (("--protocol", "gu2024"), "nli", "nli under the protocol gu2024 is read by answers; give one of these"),
    ],
)
def test_a_reading_that_is_not_there_fails_its_test(
    runs: Readings, options: tuple[str, ...], ability: str, sentence: str
) -> None:
    result = runs.run("likelihood", *options, ability=ability)
    result.assert_outcomes(failed=1)
    assert sentence in " ".join(" ".join(result.outlines).split())


def test_a_preflight_reads_as_the_suite_says(runs: Readings) -> None:
    result = runs.run("likelihood", "--plan-only")
    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines(["nli * 80% *"])


def test_too_few_rows_for_examples_fail_the_test(suites: Suites, tmp_path: Path) -> None:
    few = Readings(suites, build(tmp_path))
    result = few.run("likelihood", "--prompting", "examples")
    result.assert_outcomes(failed=1)
    assert "worked examples: " in result.stdout.str() and "and 16 are needed" in " ".join(result.outlines)
