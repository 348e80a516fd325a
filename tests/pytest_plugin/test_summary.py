"""Header and summary follow -q, -v, NO_COLOR, narrow terminals, and output that is not a terminal."""

import re

import pytest

from tests.pytest_plugin.conftest import Suites

pytest_plugins = ("pytester",)
ESCAPE = "\x1b"


def test_the_header_names_model_and_editor(suites: Suites) -> None:
    suites.run("sentiment", "--editor", "rome", "--seed", "3", "--limit", "20").stdout.fnmatch_lines(
        [
            "audit: rome edits pocket-llama: 10 edits in one batch, from pocket",
            "audit: at most 20 items per ability from pocket, protocol standard",
            "audit: device cpu, dtype float32, seed 3",
        ]
    )


def test_the_summary_has_both_tables_and_ends_with_advice(suites: Suites) -> None:
    result = suites.run("reasoning sentiment")
    result.stdout.fnmatch_lines(
        [
            "*= side-effect audit =*",
            "ability * base *edited *drop *90 % interval *margin * n *verdict",
            "reasoning *0.860 *0.620 *0.240 *[[]0.190, 0.291[]] *0.050 *200 *FAIL",
            "sentiment *PASS",
            "the edit itself*autoregressive*teacher-forced*n",
            "efficacy *0.980 *1.000 *10",
            "sound: finite weights",
            "times: *",
            "report: reports/*",
            "FAIL: memit on pocket-llama, *1 PASS, 1 FAIL",
            "Next: read the 50 right-to-wrong flips of reasoning *",
        ]
    )


def test_the_verdict_line_agrees_with_the_exit_code(suites: Suites) -> None:
    suites.pytester.makepyfile(test_edit="def test_took(edit_scores, degradation):\n    assert not edit_scores")
    result = suites.run("sentiment")
    assert result.ret == 1
    result.stdout.fnmatch_lines(["FAIL: memit on pocket-llama, *: 1 PASS, failed test_took"])


def test_quiet_shows_the_verdict_line_only(suites: Suites) -> None:
    text = suites.run("sentiment", "-q").stdout.str()
    assert "audit: " not in text
    assert "side-effect audit" not in text
    assert [line for line in text.splitlines() if "memit" in line] == [
        "PASS: memit on pocket-llama, 10 edits in one batch: 1 PASS"
    ]


def test_verbose_adds_flips_and_unparseable_rates(suites: Suites) -> None:
    quiet = suites.run("reasoning").stdout.str()
    result = suites.run("reasoning", "-v")
    assert "unparseable  " not in quiet
    result.stdout.fnmatch_lines(["ability *lost *won *unparseable *verdict", "reasoning *50 *2 *0.000 > 0.035 *FAIL"])


@pytest.mark.parametrize("columns", [100, 80, 60, 40])
def test_no_table_is_wider_than_the_terminal(suites: Suites, monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    text = suites.run("reasoning summarization sentiment").stdout.str()
    summary = text.split("side-effect audit", 1)[1].split("short test summary", 1)[0].splitlines()[1:]
    assert max(len(line) for line in summary if not line.startswith(("report: ", "==="))) <= columns
    for ability, outcome in (("reasoning", "FAIL"), ("summarization", "INCONCLUSIVE")):
        assert any(re.match(rf"{ability} .*{outcome}$", line) for line in summary)


def test_color_follows_the_options_and_the_environment(suites: Suites, monkeypatch: pytest.MonkeyPatch) -> None:
    assert ESCAPE not in suites.run("sentiment").stdout.str()  # no terminal
    assert f"{ESCAPE}[1;32mPASS" in suites.run("sentiment", "--color=yes").stdout.str()
    monkeypatch.setenv("NO_COLOR", "1")
    assert ESCAPE not in suites.run("sentiment").stdout.str()


def test_a_run_without_a_terminal_shows_no_progress(suites: Suites) -> None:
    text = suites.run("sentiment").stdout.str()
    assert "sentiment, edited" not in text
    assert "\r" not in text
