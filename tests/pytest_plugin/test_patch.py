"""`--patch DIR`: the finished patch is kept, and a later run of the same edit plan loads it."""

import json
from pathlib import Path

import pytest

# A run inside this process forgets whatever it imports itself, and torch cannot be imported twice.
import audit.audit  # noqa: F401
from audit.models.patches import PatchSequence, load_patch
from tests.pytest_plugin.conftest import RealSuites
from tests.small_audit import SmallWorld, build

pytest_plugins = ("pytester",)
SEQUENCE = ("--editor", "vandal", "--edit-mode", "instance-sequential", "--patch", "mine")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> SmallWorld:
    return build(tmp_path_factory.mktemp("world"))


def verdict(folder: str) -> dict[str, object]:
    (run,) = Path(folder).iterdir()
    found: dict[str, object] = json.loads((run / "verdict.json").read_text(encoding="utf-8"))
    return found


def test_a_second_run_loads_the_patch_of_the_first(real_suites: RealSuites, world: SmallWorld) -> None:
    first = real_suites.run(world, *SEQUENCE, "--reports", "first")
    assert "patch from" not in first.stdout.str()
    patch = load_patch(Path("mine"))
    assert isinstance(patch, PatchSequence)
    assert len(patch.patches) == 4
    document = json.loads(Path("mine/plan.json").read_text(encoding="utf-8"))
    assert sorted(document["models"][0]["case_ids"]) == [f"case-{number}" for number in range(4)]
    assert "torch" in document["versions"]
    assert not Path("mine/steps").exists()

    second = real_suites.run(world, *SEQUENCE, "--reports", "second")
    second.stdout.fnmatch_lines(["audit: patch from mine, nothing is edited"])
    assert first.ret == second.ret
    old, new = verdict("first"), verdict("second")
    assert old["fingerprints"] == new["fingerprints"]
    assert old["fingerprints"]["patch"] == patch.fingerprint  # type: ignore[index]
    assert old["edit_scores"] == new["edit_scores"]
    assert any(score["measure"] == "immediate efficacy" for score in new["edit_scores"])  # type: ignore[attr-defined]
    assert new["header"]["patch_from"] == "mine"  # type: ignore[index]


def test_another_plan_is_refused_before_editing(real_suites: RealSuites, world: SmallWorld) -> None:
    real_suites.run(world, *SEQUENCE)
    before = {path: path.read_bytes() for path in Path("mine").rglob("*.json")}
    result = real_suites.run(world, *SEQUENCE, "--restraint", "rect:0.4", "--editor-config", "scale=2")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(
        [
            "ERROR: --patch mine cannot be used: it holds the patch of another plan (editor settings, restraint "
            "differ); give another folder, or delete this one."
        ]
    )
    assert {path: path.read_bytes() for path in Path("mine").rglob("*.json")} == before


def test_a_folder_with_other_things_in_it_is_refused(real_suites: RealSuites, world: SmallWorld) -> None:
    result = real_suites.run(world, "--editor", "vandal", "--patch", ".")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: --patch . cannot be used: it holds other files but no plan.json; *"])


def test_instance_single_writes_one_patch_per_request(real_suites: RealSuites, world: SmallWorld) -> None:
    typed = ("--editor", "vandal", "--edit-mode", "instance-single", "--patch", "mine", "--no-store")
    real_suites.run(world, *typed)
    assert sorted(path.name for path in Path("mine").iterdir() if path.is_dir()) == [f"{i:05d}" for i in range(4)]
    real_suites.run(world, *typed).stdout.fnmatch_lines(["audit: patch from mine, nothing is edited"])
