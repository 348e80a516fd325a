"""`[tool.audit]` in pyproject.toml overrides suites, and typed options override the table."""

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
