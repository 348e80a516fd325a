"""A failing assertion is explained with numbers, flips, and two items with both answers."""

from tests.pytest_plugin.conftest import Suites

pytest_plugins = ("pytester",)


def test_a_failing_assertion_shows_the_numbers(suites: Suites) -> None:
    suites.run("reasoning").stdout.fnmatch_lines(
        [
            "E *AssertionError: assert reasoning: FAIL, wanted PASS",
            "E *base 0.860, edited 0.620, drop 0.240, 90 % interval [[]0.190, 0.291[]], margin 0.050, n 200",
            "E *flips: 50 right to wrong, 2 wrong to right, 7 parsed to unparseable",
            "E *The drop of 0.240 is at least 0.190 with 95 % confidence, beyond the margin of 0.05.",
            "E *e.g. 'Question: Mara *pears are left? Answer:': base '3[*]4=12. *10', edited *12', wanted '10'",
            "E *e.g. *: base '#### 3', edited '', wanted '3'",
        ]
    )


def test_the_fixture_has_a_readable_repr(suites: Suites) -> None:
    suites.run("reasoning").stdout.fnmatch_lines(["degradation = <degradation by memit of pocket-llama>"])


def test_the_explanation_is_complete_without_vv(suites: Suites) -> None:
    assert "truncated" not in suites.run("reasoning").stdout.str()


def test_the_examples_are_shown_in_full(suites: Suites) -> None:
    suites.run("reasoning").stdout.fnmatch_lines(
        [
            "*reasoning: what changed*",
            "item reasoning/17",
            "  | Question: Mara has 3 baskets of 4 pears and eats 2. How many pears are left?",
            "  wanted  10",
            "  base    '3[*]4=12. 12-2=10. #### 10'",
            "  edited  '3[*]4=12. 12-2=12. #### 12'",
        ]
    )


def test_a_reversed_comparison_has_the_same_explanation(suites: Suites) -> None:
    suites.pytester.makepyfile(
        test_turned="""
        from audit.verdicts import PASS
        def test_turned(degradation):
            assert PASS == degradation("reasoning", max_drop=0.05)
        """
    )
    suites.run("").stdout.fnmatch_lines(["E*reasoning: FAIL, wanted PASS"])


def test_the_last_of_two_abilities_in_a_test_is_explained(suites: Suites) -> None:
    suites.pytester.makepyfile(
        test_two="""
        from audit.verdicts import PASS
        def test_two(degradation):
            assert degradation("sentiment", max_drop=0.05) == PASS
            assert degradation("summarization", max_drop=0.05) == PASS
        """
    )
    suites.run("").stdout.fnmatch_lines(["E*summarization: INCONCLUSIVE, wanted PASS"])
