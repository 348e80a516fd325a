"""Flags that another plugin has as well: it keeps them, and the audit's own have the prefix `--audit-`."""

import pytest

from audit.pytest_plugin.flags import prefixed
from audit.settings.options import OPTIONS
from tests.pytest_plugin.conftest import Suites

pytest_plugins = ("pytester",)
AUDIT = """
from audit.pytest_plugin import AUDIT_FACTORY
from tests.pytest_plugin.fake_audit import FakeAudit

def pytest_configure(config):
    config.stash[AUDIT_FACTORY] = FakeAudit
"""
THEIRS = """
def pytest_addoption(parser):
    {adds}

def pytest_unconfigure(config):
    print("\\ntheirs:", {shown})
"""
DEVICE = THEIRS.format(adds="parser.addoption('--device', default='none')", shown="config.getoption('--device')")
ORDERS = ("conftest of the other", "other first", "audit first", "audit by -p")


def arrange(suites: Suites, order: str, theirs: str) -> tuple[str, ...]:
    """Write the other plugin, and load both in this order; returns the words for the command line."""
    listed = "pytest_plugins = {}\n" + AUDIT
    if order == "conftest of the other":  # a conftest comes before the plugins that it lists
        suites.pytester.makeconftest(listed.format(("audit.pytest_plugin",)) + theirs)
        return ()
    if order == "audit by -p":
        suites.pytester.makeconftest(AUDIT + theirs)
        return ("-p", "audit.pytest_plugin")
    suites.pytester.makepyfile(other=theirs)
    plugins = ["other", "audit.pytest_plugin"]
    suites.pytester.makeconftest(listed.format(plugins if order == "other first" else plugins[::-1]))
    return ()


@pytest.mark.parametrize("order", ORDERS)
def test_another_plugin_keeps_its_flag_and_the_header_names_ours(suites: Suites, order: str) -> None:
    words = arrange(suites, order, DEVICE)
    result = suites.run("sentiment", *words, "--device", "a b", "--audit-device", "cpu", "-s")
    result.assert_outcomes(passed=1)
    said = result.stdout.str()
    assert "theirs: a b" in said
    assert said.count("audit: --device belongs to another plugin here; the audit's own is --audit-device") == 1
    wrong = suites.run("sentiment", *words, "--audit-device", "gpu")
    assert wrong.ret == pytest.ExitCode.USAGE_ERROR
    assert "'gpu': give one of auto, cpu, cuda" in wrong.stderr.str()
    assert suites.run("sentiment", *words, "--device", "gpu").ret == 0  # theirs


@pytest.mark.parametrize("order", ORDERS)
def test_every_flag_may_belong_to_another_plugin(suites: Suites, order: str) -> None:
    adds = f"for flag in {[option.flag for option in OPTIONS]}: parser.getgroup('theirs').addoption(flag)"
    words = arrange(suites, order, THEIRS.format(adds=adds, shown="config.getoption('--shots')"))
    ours = (
        "--audit-editor",
        "rome",
        "--audit-margin",
        "sentiment=0.2",
        "--audit-margin",
        "nli=0.3",
        "--audit-no-store",
    )
    result = suites.run("sentiment", *words, "--shots", "many", *ours, "-s")
    result.assert_outcomes(passed=1)
    said = result.stdout.str()
    assert "theirs: many" in said and "audit: rome edits pocket-llama" in said
    assert len([line for line in said.splitlines() if "belongs to another plugin here" in line]) == len(OPTIONS)
    listed = suites.run("sentiment", *words, "--help").stdout.str()
    group = listed.split("side-effect audit of an edited language model:\n", 1)[1].split("\n\n", 1)[0]
    assert all(f"  {prefixed(option)}" in group for option in OPTIONS)


def test_a_conftest_below_the_root_may_have_the_flag(suites: Suites) -> None:
    suites.pytester.mkdir("below").joinpath("conftest.py").write_text(DEVICE, encoding="utf-8")
    result = suites.run("sentiment", "below", "test_sentiment.py", "--device", "a", "--audit-device", "cpu", "-s")
    assert "theirs: a" in result.stdout.str()
    assert result.ret == 0


def test_workers_of_xdist_know_the_flags_as_well(suites: Suites) -> None:
    pytest.importorskip("xdist")
    words = arrange(suites, "audit first", DEVICE)
    wanted = ("--device", "a", "--audit-device", "cpu", "--audit-editor", "rome", "-p", "xdist", "-n", "2")
    result = suites.run_apart("sentiment", *words, *wanted)
    result.assert_outcomes(passed=1)
    assert "audit: rome edits" in result.stdout.str()
    assert result.stdout.str().count("audit: --device belongs to another plugin") == 1


def test_both_flags_mean_the_same_where_there_is_no_other_plugin(suites: Suites) -> None:
    said = suites.run("sentiment", "--audit-editor", "rome", "--margin", "nli=0.1", "--audit-margin", "sentiment=0.2")
    assert "audit: rome edits" in said.stdout.str()
    assert " 0.200 " in said.stdout.str()
    assert "another plugin" not in said.stdout.str()
    assert "--audit-" not in suites.run("sentiment", "--help").stdout.str()


def test_two_other_plugins_still_may_not_have_the_same_flag(suites: Suites) -> None:
    adds = "parser.addoption('--theirs', dest='one'); parser.getgroup('more').addoption('--theirs', dest='two')"
    arrange(suites, "audit first", THEIRS.format(adds=adds, shown="0"))
    assert "conflicting option string: --theirs" in suites.run_apart("sentiment").stderr.str()
