"""What an installation promises: honest dependencies, tested versions, complete wheels, commands that exist."""

import ast
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
DEPENDENCIES = [Requirement(text) for text in PROJECT["dependencies"]]
EXTRAS = [Requirement(text) for texts in PROJECT["optional-dependencies"].values() for text in texts]
DISTRIBUTION_OF = {  # import name -> distribution, where the two differ
    "markdown_it": "markdown-it-py",
    "rouge_score": "rouge-score",
    "yaml": "pyyaml",
}


def imported_by(folder: Path) -> set[str]:
    """The top-level names that the files below `folder` import from outside."""
    names: set[str] = set()
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
                names.add(node.module.split(".")[0])
    return names - set(sys.stdlib_module_names) - {"audit", "benchmarks", "docs", "models", "tests"}


def pins() -> dict[str, str]:
    """Distribution -> version, from constraints.txt."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pairs = [line.split("==") for line in lines if line and not line.startswith("#")]
    return {canonicalize_name(name): version for name, version in pairs}


def test_dependencies_are_exactly_what_the_package_imports() -> None:
    imported = {canonicalize_name(DISTRIBUTION_OF.get(name, name)) for name in imported_by(ROOT / "audit")}
    extras = PROJECT["optional-dependencies"]
    optional = {
        canonicalize_name(Requirement(text).name) for extra in ("ray", "gguf", "lm-eval") for text in extras[extra]
    }
    assert optional <= imported
    assert {canonicalize_name(requirement.name) for requirement in DEPENDENCIES} == imported - optional


def test_tests_import_nothing_that_the_test_extra_leaves_out() -> None:
    imported = {canonicalize_name(DISTRIBUTION_OF.get(name, name)) for name in imported_by(ROOT / "tests")}
    offered = DEPENDENCIES + [Requirement(text) for text in PROJECT["optional-dependencies"]["test"]]
    assert imported - {canonicalize_name(requirement.name) for requirement in offered} == set()


@pytest.mark.parametrize("requirement", DEPENDENCIES + EXTRAS, ids=lambda requirement: requirement.name)
def test_every_requirement_has_an_open_range_and_a_tested_version_in_it(requirement: Requirement) -> None:
    assert {specifier.operator for specifier in requirement.specifier} == {">="}
    assert requirement.specifier.contains(pins()[canonicalize_name(requirement.name)])


def test_whatever_the_dependencies_pull_in_is_pinned_too() -> None:
    waiting, seen, unpinned = [*DEPENDENCIES, *EXTRAS], set(), set()
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        if (name, frozenset(requirement.extras)) in seen:
            continue
        seen.add((name, frozenset(requirement.extras)))
        try:
            needs = metadata.requires(name) or []
        except metadata.PackageNotFoundError:
            continue  # an extra that is not installed here
        if name not in pins() and not name.startswith(("nvidia-", "cuda-", "triton")):
            unpinned.add(name)
        for need in map(Requirement, needs):
            extras = requirement.extras or {""}
            if need.marker is None or any(need.marker.evaluate({"extra": extra}) for extra in extras):
                waiting.append(need)
    assert len(seen) > len(DEPENDENCIES)
    assert not unpinned


def test_pins_name_no_build_of_torch() -> None:
    assert all(re.fullmatch(r"[0-9][0-9a-z.]*", version) for version in pins().values())
    assert pins()["torch"] == "2.13.0"


def test_the_command_exists() -> None:
    module, _, function = PROJECT["scripts"]["audit"].partition(":")
    script = f"import sys; sys.argv = ['audit', '--help']; from {module} import {function}; sys.exit({function}())"
    finished = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert finished.returncode == 0, finished.stderr
    assert "Usage" in finished.stdout or "usage" in finished.stdout


def test_pytest_of_other_projects_does_not_load_the_plugin() -> None:
    assert "pytest11" not in PROJECT.get("entry-points", {})


def test_the_wheel_holds_every_file_of_the_package(tmp_path: Path) -> None:
    pytest.importorskip("hatchling", reason="building a wheel needs the `test` extra")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)],
        cwd=ROOT, check=True, capture_output=True, timeout=120,
    )  # fmt: skip
    (wheel,) = tmp_path.glob("*.whl")
    packed = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    listed = subprocess.run(
        ["git", "ls-files", "audit"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()  # fmt: skip
    tracked = {name for name in listed if (ROOT / name).exists()}
    assert "audit/py.typed" in packed
    assert tracked <= packed
    assert {name for name in packed if not name.startswith("audit/")} == set()


def test_both_commands_of_the_readme_install_with_the_tested_versions() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in ("audit", "test", "lint"):
        assert re.search(rf"^{target}: \$\(INSTALLED\)", makefile, re.MULTILINE)
    installs = [line for line in makefile.splitlines() if "pip install" in line]
    assert installs
    assert all("-c constraints.txt" in line for line in installs)


def test_continuous_integration_runs_lint_tests_the_main_job_and_the_documentation() -> None:
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    subprocess.run(["bash", "-n", str(script)], check=True, timeout=10)
    assert "for target in lint test audit docs" in script.read_text(encoding="utf-8")
