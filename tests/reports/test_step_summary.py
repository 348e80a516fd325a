"""The summary of a step is `report.md`, and fits into what GitHub takes."""

from dataclasses import replace

from audit.reports.markdown import markdown
from audit.reports.rows import Example
from audit.reports.step_summary import STEP_LIMIT, size, step_summary
from tests.reports.sample import FAILED, REPORT, row_with

LONG = Example("k", "a prompt é\n" * 60_000, "1", "2", "```\n## Abilities\n" * 10_000)


def test_a_short_report_is_report_md() -> None:
    assert step_summary(REPORT) == markdown(REPORT)
    assert step_summary(REPORT, size(markdown(REPORT))) == markdown(REPORT)


def test_the_longest_section_is_left_out_and_named() -> None:
    report = replace(REPORT, abilities=(replace(FAILED, examples=(LONG, LONG)),))
    text = step_summary(report)
    assert size(markdown(report)) > STEP_LIMIT >= size(text)
    assert "a prompt" not in text
    assert "| reasoning |" in text and "## The edit itself" in text and "## To repeat this run" in text
    assert text.endswith(
        "\n\n*Shortened, because GitHub takes 1 MiB for a step. Left out: What changed. "
        "The folder of the run has all of it.*\n"
    )
    assert "\nNext: read the 50 right-to-wrong flips" in text


def test_many_abilities_are_cut_between_two_lines() -> None:
    report = replace(REPORT, abilities=tuple(row_with(FAILED, ability=f"task {k} é") for k in range(6000)))
    text = step_summary(report)
    assert STEP_LIMIT - 2000 < size(text) <= STEP_LIMIT
    assert text.startswith("# FAIL: memit on `pocket-gpt2`\n\n6000 FAIL.\n")
    rows = [line for line in text.splitlines() if line.startswith("| task ")]
    assert len(rows) > 1000 and all(line.endswith("| **FAIL** |") for line in rows)
    assert "The abilities are cut off." in text.splitlines()[-1]


def test_any_room_is_kept() -> None:
    for room in [*range(-10, 1200, 7), 2000, 4000]:
        text = step_summary(REPORT, room)
        assert size(text) <= max(0, room)
        assert not text or text.endswith("has all of it.*\n")
        if room >= 1000:
            assert text.startswith("# FAIL: memit on `pocket-gpt2`\n\n1 PASS, 1 FAIL, 1 INCONCLUSIVE.\n")
