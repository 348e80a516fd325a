"""What a job of GitHub Actions gets: read back as the runner reads it, nothing that a text contains becomes a command.

`command`, `file_values` follow `ActionCommand.cs` and `FileCommandManager.cs` of github.com/actions/runner.
"""

import re
from dataclasses import replace
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from audit.reports.github import (
    Finding,
    annotations,
    findings_of,
    log_text,
    outputs,
    outputs_text,
    publish,
)
from audit.reports.markdown import markdown
from audit.reports.rows import IntegrityRow
from tests.reports.sample import ALL_PASS, FAILED, PASSED, REPORT, UNDECIDED, row_with

JOB = {"GITHUB_ACTIONS": "true"}
COMMANDS = {"error", "warning", "notice", "debug", "group", "endgroup", "add-mask", "stop-commands", "add-matcher"}
HOSTILE = "100 %, a: b\r\n::stop-commands::x\n  ::error::y\n##[stop-commands]z\nEOF\n%0A::add-mask::0"
Parsed = tuple[str, dict[str, str], str]


def command(line: str) -> Parsed | None:
    """Name, properties and data of the command that the runner sees in a line of the log."""
    text = line.lstrip()
    if text.startswith("::") and (end := text.find("::", 2)) >= 0:
        name, _, rest = text[2:end].partition(" ")
        pairs = [pair.split("=", 1) for pair in rest.strip().split(",") if "=" in pair]
        if name in COMMANDS:
            return name, {key: unescaped(value) for key, value in pairs}, unescaped(text[end + 2 :], "")
    old = re.search(r"##\[([^\] ]*)[^\]]*\](.*)", line)
    return (old[1], {}, old[2]) if old is not None and old[1] in COMMANDS else None


def unescaped(text: str, more: str = ":,") -> str:
    for letter in f"\r\n{more}%":
        text = text.replace(f"%{ord(letter):02X}", letter)
    return text


def commands(log: str) -> list[Parsed]:
    return [found for line in re.split(r"\r\n|\r|\n", log) if (found := command(line)) is not None]


def file_values(text: str) -> dict[str, str]:
    """The outputs in a file, in the heredoc form."""
    lines, values = text.split("\n"), {}
    place = 0
    while place < len(lines):
        if lines[place]:
            name, _, delimiter = lines[place].partition("<<")
            assert "=" not in name and delimiter
            end = lines.index(delimiter, place + 1)
            values[name] = "\n".join(lines[place + 1 : end])
            place = end
        place += 1
    return values


def test_each_ability_that_does_not_pass_has_an_annotation() -> None:
    assert commands("\n".join(publish(REPORT, JOB))) == [
        ("error", {"title": "reasoning: FAIL"}, FAILED.sentence),
        ("warning", {"title": "summarization: INCONCLUSIVE"}, UNDECIDED.sentence),
    ]
    assert publish(ALL_PASS, JOB) == []


def test_other_reasons_have_one_too() -> None:
    unsound = IntegrityRow("finite weights", False, False, "3 weights are NaN")
    report = replace(
        ALL_PASS,
        collapse="It has collapsed.",
        integrity=(unsound,),
        failed_tests=("a.py::b",),
        unasked={"ner": "no file"},
    )
    assert [(one.level, one.title, one.sentence) for one in findings_of(report)] == [
        ("error", "collapsed", "It has collapsed."),
        ("warning", "ner: not asked", "no file"),
        ("error", "finite weights: unsound", "3 weights are NaN"),
        ("error", "test failed", "a.py::b"),
    ]


def test_outside_of_a_job_nothing_is_said() -> None:
    assert publish(REPORT, {}) == []
    assert log_text(HOSTILE, {}) == HOSTILE


def test_more_annotations_than_github_shows_are_named_in_the_last() -> None:
    found = [Finding("error", f"a{k}", "s") for k in range(25)] + [Finding("warning", "w", "s")]
    lines = commands("\n".join(annotations(found)))
    assert [name for name, _, _ in lines] == ["error"] * 10 + ["warning"]
    assert lines[8][1] == {"title": "a8"}
    assert lines[9] == ("error", {"title": "16 more"}, ", ".join(f"a{k}" for k in range(9, 25)))


@given(title=st.text() | st.just(HOSTILE), sentence=st.text() | st.just(HOSTILE))
def test_the_runner_reads_back_what_was_said(title: str, sentence: str) -> None:
    title = f"[{title}]"  # the runner trims blanks at the ends
    (line,) = annotations([Finding("error", title, sentence)])
    assert "\n" not in line and "\r" not in line
    assert command(line) == ("error", {"title": title}, sentence)


@given(st.lists(st.text() | st.sampled_from(["::error::x", "##[error]", " \t::group::", "\r", "\n", "::", "\x1b[31m"])))
def test_no_text_for_the_log_is_a_command(parts: list[str]) -> None:
    text = "".join(parts)
    shown = log_text(text, JOB)
    assert commands(shown) == []
    assert shown.replace(" ", "") == text.replace(" ", "")


def test_hostile_text_for_the_log_stays_readable() -> None:
    assert commands(HOSTILE)
    assert log_text("::stop-commands::x\n\t::a::b ##[error]c\nd ::e::", JOB) == (
        ": :stop-commands::x\n\t: :a::b ## [error]c\nd ::e::"
    )


@given(st.dictionaries(st.sampled_from(["verdict", "report", "html"]), st.text() | st.just(HOSTILE)))
def test_the_runner_reads_back_the_outputs(values: dict[str, str]) -> None:
    assert file_values(outputs_text(values)) == values


def test_a_value_cannot_hold_the_delimiter_of_its_file() -> None:
    first, second = outputs_text({"report": "x"}), outputs_text({"report": "x"})
    assert first != second  # a delimiter is used once
    assert file_values(outputs_text({"report": first})) == {"report": first}


def test_the_outputs_name_the_verdict_the_harmed_abilities_and_absolute_paths() -> None:
    rows = (replace(FAILED, harm_p=0.001), replace(UNDECIDED, harm_p=0.4), replace(PASSED, harm_p=0.002))
    folder = Path("reports/a run").absolute()
    assert outputs(replace(REPORT, abilities=rows, folder="reports/a run")) == {
        "verdict": "FAIL",
        "harmed": "reasoning, sentiment",
        "report": str(folder),
        "html": str(folder / "report.html"),
    }
    assert outputs(ALL_PASS) == {"verdict": "PASS", "harmed": "", "report": "", "html": ""}


def test_summary_and_outputs_are_appended_to_the_files_of_the_step(tmp_path: Path) -> None:
    summary, output = tmp_path / "summary", tmp_path / "output"
    summary.write_text("## Before\n\n", encoding="utf-8")
    output.write_text("earlier<<X\n1\nX\n", encoding="utf-8")
    assert publish(ALL_PASS, {"GITHUB_STEP_SUMMARY": str(summary), "GITHUB_OUTPUT": str(output)}) == []
    assert summary.read_text(encoding="utf-8") == "## Before\n\n" + markdown(ALL_PASS)
    assert file_values(output.read_text(encoding="utf-8")) == {"earlier": "1", **outputs(ALL_PASS)}


def test_a_file_that_cannot_be_written_is_a_warning(tmp_path: Path) -> None:
    wanted = {"GITHUB_STEP_SUMMARY": str(tmp_path / "no" / "summary"), "GITHUB_OUTPUT": str(tmp_path)}
    lines = publish(ALL_PASS, wanted)
    assert len(lines) == 2 and all(line.startswith("audit: GITHUB_") for line in lines)
    (first, second) = commands("\n".join(publish(ALL_PASS, {**wanted, **JOB})))
    assert first[0] == second[0] == "warning"
    assert "cannot be written (No such file or directory); the verdict is not affected." in first[2]
    assert publish(ALL_PASS, {"GITHUB_OUTPUT": "a\0b"})[0].startswith("audit: GITHUB_OUTPUT a\0b: it cannot be written")


def test_a_full_summary_is_a_warning_and_stays_as_it_was(tmp_path: Path) -> None:
    summary = tmp_path / "summary"
    summary.write_bytes(b"x" * (1024 * 1024 - 100))
    (line,) = publish(ALL_PASS, {"GITHUB_STEP_SUMMARY": str(summary)})
    assert "it is full (1 MiB for a step)" in line
    assert summary.stat().st_size == 1024 * 1024 - 100


def test_a_lone_surrogate_is_written_as_an_escape(tmp_path: Path) -> None:
    output = tmp_path / "output"
    publish(replace(ALL_PASS, folder="a\udc80"), {"GITHUB_OUTPUT": str(output)})
    assert file_values(output.read_text(encoding="utf-8"))["report"].endswith("a\\udc80")


def test_hostile_names_stay_in_their_annotation() -> None:
    report = replace(REPORT, abilities=(row_with(FAILED, ability=HOSTILE),), unasked={"ner": HOSTILE})
    assert [(name, data) for name, _, data in commands("\n".join(publish(report, JOB)))] == [
        ("error", FAILED.sentence),
        ("warning", HOSTILE),
    ]
