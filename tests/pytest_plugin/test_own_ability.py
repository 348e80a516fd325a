"""Suites, options, a project and a conftest.py name an ability that is not built in."""

import json
from pathlib import Path
from typing import Any

import pytest

# A run inside this process forgets whatever it imports itself, and torch cannot be imported twice.
import audit.audit  # noqa: F401
from tests.abilities.triage import TWO_TEAMS, teach_teams, tickets, write_ability
from tests.pytest_plugin.conftest import Suites
from tests.small_audit import SmallWorld, build

pytest_plugins = ("pytester",)

SUITE = """
from audit.verdicts import PASS

def test_triage_is_retained(degradation):
    assert degradation("{name}", max_drop=0.05, keep="80%", reading="likelihood") == PASS
"""
CLASS = """
from audit.abilities.toml.ability import TomlAbility
from audit.abilities.toml.description import read_description
from pathlib import Path

class Triage(TomlAbility):
    def __init__(self):
        super().__init__(read_description(Path(__file__).with_name("triage.toml")))
"""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> SmallWorld:
    return build(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def rows(world: SmallWorld, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    return teach_teams(str(world.model), tmp_path_factory.mktemp("teams"), tickets(180))


class Runs:
    """Runs a suite about triage on a small world."""

    def __init__(self, suites: Suites, world: SmallWorld) -> None:
        self.pytester = suites.pytester
        self.pytester.makeconftest('pytest_plugins = ("audit.pytest_plugin",)')
        self._world = world

    def run(self, name: str, *options: str, folder: str = "suites") -> pytest.RunResult:
        (self.pytester.path / folder).mkdir(exist_ok=True)
        (self.pytester.path / folder / "test_triage.py").write_text(SUITE.format(name=name), encoding="utf-8")
        own = ("--model", str(self._world.model), "--edits", str(self._world.edits), "--device", "cpu")
        more = ("--limit", "60", "--store", str(self.pytester.path / "store"), "-p", "no:cacheprovider")
        return self.pytester.runpytest_inprocess(folder, *own, *more, *options)

    @property
    def row(self) -> dict[str, Any]:
        *_, file = sorted((self.pytester.path / "reports").glob("*/verdict.json"))
        (row,) = json.loads(file.read_text(encoding="utf-8"))["abilities"]
        return dict(row)


@pytest.fixture
def runs(suites: Suites, world: SmallWorld, rows: list[dict[str, Any]]) -> Runs:
    found = Runs(suites, world)
    write_ability(found.pytester.path, TWO_TEAMS, rows)
    return found


def test_a_suite_names_the_file_from_the_root_folder(runs: Runs) -> None:
    runs.run("./triage.toml", "--editor", "identity").assert_outcomes(passed=1)
    assert (runs.row["ability"], runs.row["title"], runs.row["reading"]) == (
        "triage",
        "Triage of tickets",
        "likelihood",
    )
    assert Path(runs.row["origin"]) == runs.pytester.path / "triage.toml"
    damaged = runs.run("./triage.toml", "--editor", "vandal")
    damaged.assert_outcomes(failed=1)
    damaged.stdout.fnmatch_lines(["FAIL: vandal on *"])


def test_a_suite_names_a_file_beside_it(runs: Runs, rows: list[dict[str, Any]]) -> None:
    for file in ("triage.toml", "triage.jsonl"):
        (runs.pytester.path / file).unlink()
    write_ability(runs.pytester.path / "suites", TWO_TEAMS, rows)
    runs.run("./triage.toml", "--editor", "identity").assert_outcomes(passed=1)


def test_an_option_or_a_project_gives_it_a_name(runs: Runs) -> None:
    runs.run("triage", "--editor", "identity", "--ability", "triage.toml", "--margin", "triage=70%").assert_outcomes(
        passed=1
    )
    assert runs.row["asked_margin"] == "70%"
    runs.pytester.makepyprojecttoml('[tool.audit]\nability = ["./triage.toml"]\nmargin = { triage = "75%" }')
    runs.run("triage", "--editor", "identity").assert_outcomes(passed=1)
    assert runs.row["asked_margin"] == "75%"


def test_a_class_in_a_file(runs: Runs) -> None:
    (runs.pytester.path / "tasks.py").write_text(CLASS, encoding="utf-8")
    runs.run("./tasks.py:Triage", "--editor", "identity").assert_outcomes(passed=1)
    assert runs.row["origin"] == f"{runs.pytester.path / 'tasks.py'}:Triage"


def test_a_conftest_hands_over_an_object(runs: Runs) -> None:
    hook = "\n\ndef pytest_audit_abilities():\n    return [Triage()]\n"
    runs.pytester.makeconftest('pytest_plugins = ("audit.pytest_plugin",)\n' + CLASS + hook)
    runs.run("triage", "--editor", "identity").assert_outcomes(passed=1)
    assert runs.row["ability"] == "triage"


def test_a_preflight_knows_it(runs: Runs) -> None:
    result = runs.run("./triage.toml", "--plan-only")
    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines(["triage * 80% *"])


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("./no.toml", "*no.toml was not asked: *no.toml cannot be read (*"),
        ("triage", "*triage was not asked: there is no ability 'triage'; give one of reasoning, *, or your own with *"),
    ],
)
def test_a_suite_about_no_ability_fails_with_one_sentence(runs: Runs, name: str, sentence: str) -> None:
    result = runs.run(name, "--editor", "identity")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines([sentence])
    assert "Traceback" not in result.stdout.str() + result.stderr.str()
    runs.run(name, "--plan-only").assert_outcomes(skipped=1)


@pytest.mark.parametrize(
    ("option", "value", "sentence"),
    [
        ("--margin", "triage=3pp", "ERROR: --margin 'triage=0.03': there is no ability 'triage'; give one of *"),
        ("--ability", "no.toml", "ERROR: no.toml cannot be read (*"),
    ],
)
def test_a_wrong_option_ends_the_run_with_one_sentence(runs: Runs, option: str, value: str, sentence: str) -> None:
    result = runs.run("./triage.toml", option, value)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([sentence])
    assert "Traceback" not in result.stdout.str() + result.stderr.str()


def test_workers_learn_of_it_one_by_one(runs: Runs) -> None:
    """Only one of two workers runs the suite that names the file; their reports are merged all the same."""
    pytest.importorskip("xdist")
    (runs.pytester.path / "suites").mkdir()
    other = "def test_the_weights(integrity):\n    assert integrity.sound\n"
    (runs.pytester.path / "suites" / "test_other.py").write_text(other, encoding="utf-8")
    result = runs.run("./triage.toml", "--editor", "identity", "-p", "xdist", "-n", "2", "--dist", "loadfile")
    result.assert_outcomes(passed=2)
    assert runs.row["ability"] == "triage"
