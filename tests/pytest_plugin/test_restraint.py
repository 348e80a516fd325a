"""`--restraint NAME`: the change of the editor is limited, and every report names the restraint."""

import json
from pathlib import Path

import pytest

# A run inside this process forgets whatever it imports itself, and torch cannot be imported twice.
import audit.audit  # noqa: F401
from tests.pytest_plugin.conftest import RealSuites
from tests.small_audit import SmallWorld, build

pytest_plugins = ("pytester",)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> SmallWorld:
    return build(tmp_path_factory.mktemp("world"))


def test_the_header_and_the_report_name_the_restraint(real_suites: RealSuites, world: SmallWorld) -> None:
    result = real_suites.run(world, "--editor", "vandal", "--restraint", " rect:.40", "--reports", "out")
    result.stdout.fnmatch_lines(
        ["audit: vandal + rect:0.4 edits *: 4 edits, batch-single, from *", "*: vandal + rect:0.4 on *"]
    )
    (folder,) = Path("out").iterdir()
    document = json.loads((folder / "verdict.json").read_text(encoding="utf-8"))
    assert document["header"]["restraint"] == document["settings"]["restraint"] == "rect:0.4"
    title = (folder / "report.md").read_text(encoding="utf-8").splitlines()[0]
    assert " vandal + rect:0.4 on " in title


def test_the_restraint_changes_the_written_weights(real_suites: RealSuites, world: SmallWorld) -> None:
    patches = set()
    for number, restraint in enumerate(((), ("--restraint", "rect:0.4"), ("--restraint", "random:0.4"))):
        real_suites.run(world, "--editor", "vandal", *restraint, "--reports", f"out{number}")
        (folder,) = Path(f"out{number}").iterdir()
        patches.add(json.loads((folder / "verdict.json").read_text(encoding="utf-8"))["fingerprints"]["patch"])
    assert len(patches) == 3


def test_an_editor_that_adds_modules_is_refused(real_suites: RealSuites, world: SmallWorld) -> None:
    for restraint in ("rect:0.4", "prune"):
        result = real_suites.run(world, "--editor", "tests.fake_editors:Sticker", "--restraint", restraint)
        assert result.ret == pytest.ExitCode.USAGE_ERROR
        result.stdout.fnmatch_lines([f"*--restraint {restraint} needs changes of weights, but this editor attaches*"])
        assert "Traceback" not in result.stdout.str()
    assert not Path("reports").exists()


@pytest.mark.parametrize(
    ("typed", "sentence"),
    [
        (
            "rekt:0.4",
            "there is no restraint 'rekt'; choose rect:SHARE, random:SHARE, prune or prune:ALPHA (did you *).",
        ),
        ("rect", "the share of entries to keep is missing; write rect:0.4."),
        ("rect:40", "the share must be above 0 and at most 1; write rect:0.4."),
        ("prune:x", "'x' is not a number; write prune or prune:1.5."),
    ],
)
def test_a_wrong_value_is_one_sentence(typed: str, sentence: str, real_suites: RealSuites, world: SmallWorld) -> None:
    result = real_suites.run(world, "--restraint", typed)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: --restraint '{typed}': {sentence}"])
