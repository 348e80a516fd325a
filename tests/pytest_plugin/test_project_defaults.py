"""`[tool.audit]` in pyproject.toml overrides suites, and typed options override the table."""

from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from audit.pytest_plugin import _project_folder
from tests.pytest_plugin.conftest import Suites

pytest_plugins = ("pytester",)


def test_the_table_overrides_the_suite_and_typed_options_override_the_table(suites: Suites) -> None:
    suites.pytester.makepyprojecttoml('[tool.audit]\neditor = "rome"\nmargin = { sentiment = 0.03, reasoning = 0.02 }')
    result = suites.run("sentiment reasoning", "--margin", "reasoning=0.04")
    result.stdout.fnmatch_lines(["audit: rome edits *"])
    result.stdout.fnmatch_lines(["sentiment *0.030*PASS"])
    result.stdout.fnmatch_lines(["reasoning *0.040*FAIL"])


def test_a_mistake_in_the_table_is_one_sentence_and_exit_code_4(suites: Suites) -> None:
    suites.pytester.makepyprojecttoml("[tool.audit]\nmodle = 'x'")
    result = suites.run("sentiment")
    assert result.ret == 4
    result.stderr.fnmatch_lines(["ERROR: *pyproject.toml, [[]tool.audit]: 'modle' is not an option *'model'*"])


@pytest.mark.parametrize("args", [["suites"], ["suites/test_nli.py::test_nli"], ["."], []])
def test_the_project_is_found_where_an_option_moves_the_root_folder_of_pytest(tmp_path: Path, args: list[str]) -> None:
    """Without test paths, pytest's root is the folder that `--model /elsewhere` names."""
    project, elsewhere = tmp_path / "project", tmp_path / "elsewhere"
    for folder in (project / "suites", elsewhere):
        folder.mkdir(parents=True)
    (project / "pyproject.toml").write_text("[tool.audit]\n")
    invoked = SimpleNamespace(dir=project)
    moved = SimpleNamespace(rootpath=elsewhere, args=args, invocation_params=invoked)
    assert _project_folder(cast("pytest.Config", moved)) == project
    (elsewhere / "pyproject.toml").write_text("")
    assert _project_folder(cast("pytest.Config", moved)) == elsewhere  # as pytest says
    other = SimpleNamespace(rootpath=tmp_path, args=[str(tmp_path)], invocation_params=SimpleNamespace(dir=tmp_path))
    assert _project_folder(cast("pytest.Config", other)) == tmp_path
