"""`--margin ABILITY=POINTS` overrides the margin of the suite."""

from tests.pytest_plugin.conftest import Suites

pytest_plugins = ("pytester",)


def test_the_margin_of_the_suite_is_the_default(suites: Suites) -> None:
    suites.run("sentiment").stdout.fnmatch_lines(["sentiment *0.050*PASS"])


def test_the_option_overrides_the_suite(suites: Suites) -> None:
    result = suites.run("sentiment reasoning", "--margin", "sentiment=3pp")
    result.stdout.fnmatch_lines(["sentiment *0.030*PASS"])
    result.stdout.fnmatch_lines(["reasoning *0.050*FAIL"])


def test_a_share_to_retain_is_shown_with_its_margin_in_points(suites: Suites) -> None:
    result = suites.run("sentiment", "--margin", "sentiment=90%")
    result.stdout.fnmatch_lines(["sentiment *0.0?? (90%)*PASS"])
