"""`--margin ABILITY=POINTS` overrides what the suite states."""

from tests.pytest_plugin.conftest import Suites

pytest_plugins = ("pytester",)


def test_the_suites_own_margin_holds_without_the_option(suites: Suites) -> None:
    suites.run("sentiment").stdout.fnmatch_lines(["sentiment *0.050*PASS"])


def test_the_option_wins_over_the_suite(suites: Suites) -> None:
    result = suites.run("sentiment reasoning", "--margin", "sentiment=3pp")
    result.stdout.fnmatch_lines(["sentiment *0.030*PASS"])
    result.stdout.fnmatch_lines(["reasoning *0.050*FAIL"])


def test_a_share_to_be_retained_is_shown_with_what_it_allows(suites: Suites) -> None:
    result = suites.run("sentiment", "--margin", "sentiment=90%")
    result.stdout.fnmatch_lines(["sentiment *0.0?? (90%)*PASS"])
