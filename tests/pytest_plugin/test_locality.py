"""`suites/test_locality_properties.py` on a tiny model: noise is found, shrunk, shown, and asked again."""

import ast
import json
import re
from pathlib import Path

import pytest

# A run inside this process forgets whatever it imports itself, and torch cannot be imported twice.
import audit.audit  # noqa: F401
from tests.pytest_plugin.conftest import ROOT, RealSuites
from tests.small_audit import SmallWorld, build

pytest_plugins = ("pytester",)

SUITE = (ROOT / "suites" / "test_locality_properties.py").read_text(encoding="utf-8")
TOLERANT = re.sub(r"TOLERATED_SHARE = \{.*\}", 'TOLERATED_SHARE = {"unrelated text": 1.0}', SUITE)
QUICK = SUITE.replace("PROMPTS = 150", "PROMPTS = 30")


@pytest.fixture
def world(
    tmp_path: Path, pytester: pytest.Pytester, real_suites: RealSuites, monkeypatch: pytest.MonkeyPatch
) -> SmallWorld:
    (pytester.path / "test_edited.py").unlink()
    monkeypatch.delenv("CI", raising=False)
    return build(tmp_path)


def test_an_editor_that_changes_nothing_passes(
    world: SmallWorld, real_suites: RealSuites, pytester: pytest.Pytester
) -> None:
    pytester.makepyfile(test_law=QUICK)
    result = real_suites.run(world, "--editor", "identity", "--edit-count", "1", "-rs", "--junitxml=out.xml")
    result.assert_outcomes(passed=2, skipped=1)  # the file tells of one relation only
    result.stdout.fnmatch_lines(["*other relations: the edit requests and their file give no such prompts"])
    assert 'name="locality.unrelated text.disturbed" value="0.0"' in (pytester.path / "out.xml").read_text()


def test_a_violation_is_shrunk_and_its_pasted_example_is_asked_again(
    world: SmallWorld, real_suites: RealSuites, pytester: pytest.Pytester
) -> None:
    pytester.makepyfile(test_law=QUICK)
    options = ("--editor", "vandal", "--edit-count", "1", "-k", "unrelated")
    result = real_suites.run(world, *options)
    result.assert_outcomes(failed=1)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    text = result.stdout.str()
    (line,) = re.findall(r"^    (@example\(prompt=.*\))$", text, re.MULTILINE)
    prompt = ast.literal_eval(line.removeprefix("@example(prompt=").removesuffix(")"))
    assert len(prompt.split()) <= 2
    assert f"no edit concerns this prompt: {prompt!r}" in text
    assert "of 30 prompts drawn" in text
    assert "Traceback" not in text
    (folder,) = (pytester.path / "reports").iterdir()
    document = json.loads((folder / "verdict.json").read_text(encoding="utf-8"))
    assert document["outcome"] == "FAIL"
    assert [name.split("[")[1] for name in document["failed_tests"]] == ["unrelated text]"]

    mended = TOLERANT.replace("    @given(", f"    {line}\n    @given(").replace(
        "import given", "import example, given"
    )
    pytester.makepyfile(test_law=mended)
    again = real_suites.run(world, *options)
    again.assert_outcomes(failed=1)
    explanation = text[text.index("no edit concerns") : text.index(line)]
    assert explanation in again.stdout.str()

    pytester.makepyfile(test_law=TOLERANT)
    real_suites.run(world, *options).assert_outcomes(passed=1)


def test_a_checkpoint_with_unknown_edits_is_asked_about_unrelated_text(
    world: SmallWorld, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytester.makepyfile(test_law=QUICK)
    monkeypatch.setenv("AUDIT_TEST_ROWS", str(world.rows))
    result = pytester.runpytest_inprocess(
        "-p", "audit.pytest_plugin", "-p", "tests.pytest_plugin.on_rows", "-p", "no:cacheprovider",
        "--model", str(world.model), "--edited", str(world.model), "--device", "cpu",
    )  # fmt: skip
    result.assert_outcomes(passed=1, skipped=2)


def test_workers_divide_the_prompts_and_collecting_asks_nothing(
    world: SmallWorld, real_suites: RealSuites, pytester: pytest.Pytester
) -> None:
    pytest.importorskip("xdist")
    pytester.makepyfile(test_law=QUICK)
    options = ("--editor", "vandal", "--edit-count", "1")
    result = real_suites.run_apart(world, *options, "-p", "xdist", "-n", "2")
    result.assert_outcomes(failed=2, skipped=1)
    assert result.stdout.str().count("@example(prompt=") == 2
    assert real_suites.run(world, *options, "--collect-only", "-q").ret == 0
    assert not (pytester.path / ".hypothesis").exists()
