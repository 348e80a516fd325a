"""The plugin does nothing in a run without audit tests."""

import subprocess
import sys
import time

import pytest

from tests.pytest_plugin.conftest import Suites

pytest_plugins = ("pytester",)


def test_an_unrelated_run_is_not_affected(suites: Suites) -> None:
    suites.pytester.makepyfile(test_other="def test_sum():\n    assert 1 + 1 == 2")
    result = suites.run("", "--editor", "nobody")  # the editor is not even checked
    assert result.ret == 0
    assert "audit" not in result.stdout.str()
    assert not (suites.path / "reports").exists()


def test_other_comparisons_are_explained_by_pytest(suites: Suites) -> None:
    suites.pytester.makepyfile(test_other="def test_words():\n    assert 'FAIL' == 'PASS'")
    suites.run("").stdout.fnmatch_lines(["E*AssertionError: assert 'FAIL' == 'PASS'"])


@pytest.mark.parametrize("verbosity", ["", "-q", "-v"])
def test_collecting_loads_and_shows_nothing(suites: Suites, verbosity: str) -> None:
    result = suites.run("sentiment", "--collect-only", "--editor", "nobody", *verbosity.split())
    assert result.ret == 0
    assert "side-effect audit" not in result.stdout.str()


def test_deselected_audits_are_not_prepared(suites: Suites) -> None:
    suites.pytester.makepyfile(test_other="def test_sum():\n    assert True")
    result = suites.run("sentiment", "--editor", "nobody", "-k", "sum")
    assert result.ret == 0


def test_importing_the_plugin_is_cheap_and_imports_nothing_heavy() -> None:
    script = (
        "import sys, time, pytest\n"
        "start = time.process_time()\n"
        "import audit.pytest_plugin\n"
        "print(time.process_time() - start, *(m for m in ('torch', 'transformers', 'rich') if m in sys.modules))"
    )
    spent, *heavy = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    ).stdout.split()
    assert heavy == []
    assert float(spent) < 0.05 * max(1.0, _slowness())


def _slowness() -> float:
    """How many times slower than a desktop core this machine is just now, by a fixed loop of about 10 ms there."""
    start = time.process_time()
    sum(number * number for number in range(200_000))
    return (time.process_time() - start) / 0.010
