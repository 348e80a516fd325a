"""What a run leaves in a job of GitHub Actions: annotations, outputs of the step, and its summary.

Formats: docs.github.com, "Workflow commands for GitHub Actions"; the runner parses them in `ActionCommand.cs` and
`FileCommandManager.cs` (github.com/actions/runner). Texts of models, data and paths cannot become commands.
"""

import re
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from audit.reports.rows import RunReport
from audit.reports.step_summary import STEP_LIMIT, encoded, step_summary
from audit.verdicts import FAIL, INCONCLUSIVE

ERROR, WARNING = "error", "warning"
SHOWN = 10  # GitHub shows ten annotations of each level for a step
# The runner takes a line for a command that begins with "::" behind white space, or has "##[" anywhere.
COMMAND_START = re.compile(r"(?:\A|(?<=[\r\n]))[^\S\r\n]*:(?=:)|##(?=\[)")


@dataclass(frozen=True)
class Finding:
    """Something that a reader of the job must see; `level` is "error" or "warning"."""

    level: str
    title: str
    sentence: str


def in_job(environment: Mapping[str, str]) -> bool:
    """Whether this is a job of GitHub Actions."""
    return environment.get("GITHUB_ACTIONS") == "true"


def log_text(text: str, environment: Mapping[str, str]) -> str:
    """The text for the log; in a job of GitHub Actions, what the runner would take for commands is pulled apart."""
    return COMMAND_START.sub(lambda found: f"{found[0]} ", text) if in_job(environment) else text


def publish(report: RunReport, environment: Mapping[str, str]) -> list[str]:
    """Append the summary and the outputs to the files that the environment names, and return lines for the log.

    The lines are annotations, and a warning for each file that cannot be written. Outside of a job there are none.
    """
    texts: dict[tuple[str, str], Callable[[int], str]] = {}
    if path := environment.get("GITHUB_STEP_SUMMARY"):
        texts["GITHUB_STEP_SUMMARY", path] = _summary(report)
    if path := environment.get("GITHUB_OUTPUT"):
        texts["GITHUB_OUTPUT", path] = lambda taken: outputs_text(outputs(report))
    lost = [
        f"{name} {path}: {reason}; the verdict is not affected."
        for (name, path), text in texts.items()
        if (reason := _append(Path(path), text))
    ]
    if not in_job(environment):
        return [f"audit: {sentence}" for sentence in lost]
    return annotations([*(Finding(WARNING, "audit", sentence) for sentence in lost), *findings_of(report)])


def findings_of(report: RunReport) -> list[Finding]:
    """One finding for each ability that fails or is undecided, and for whatever else keeps the run from passing."""
    levels = {FAIL: ERROR, INCONCLUSIVE: WARNING}
    return [
        *([Finding(ERROR, "collapsed", report.collapse)] if report.collapse else []),
        *(
            Finding(levels[row.outcome], f"{row.label}: {row.outcome}", row.sentence)
            for row in report.abilities
            if row.outcome in levels
        ),
        *(Finding(WARNING, f"{ability}: not asked", reason) for ability, reason in report.unasked.items()),
        *(Finding(ERROR, f"{row.check}: unsound", row.sentence) for row in report.integrity if row.sound is False),
        *(Finding(ERROR, "test failed", name) for name in report.failed_tests),
    ]


def annotations(findings: Sequence[Finding]) -> list[str]:
    """A workflow command for each finding; if a level has more than GitHub shows, the last one names the others."""
    lines = []
    for level in (ERROR, WARNING):
        found = [finding for finding in findings if finding.level == level]
        if len(found) > SHOWN:
            rest = found[SHOWN - 1 :]
            names = ", ".join(finding.title for finding in rest)
            found = [*found[: SHOWN - 1], Finding(level, f"{len(rest)} more", names)]
        lines += [f"::{level} title={_property(one.title)}::{_data(one.sentence)}" for one in found]
    return lines


def outputs(report: RunReport) -> dict[str, str]:
    """The outputs of the step: the outcome, the harmed abilities, and the absolute paths of the report's files.

    An ability is harmed if its score fell at all, within the margin or not (95 %, Holm over all abilities).
    """
    folder = Path(report.folder).absolute() if report.folder else None
    return {
        "verdict": report.outcome.value,
        "harmed": ", ".join(alarm.name for alarm in report.alarms if alarm.harmed),
        "report": str(folder or ""),
        "html": str(folder / "report.html") if folder else "",
    }


def outputs_text(values: Mapping[str, str]) -> str:
    """The values as GITHUB_OUTPUT takes them, each up to a delimiter that nobody can foresee."""
    lines = []
    for name, value in values.items():
        delimiter = f"audit_{secrets.token_hex(16)}"
        lines += [f"{name}<<{delimiter}", value, delimiter]
    return "\n".join(lines) + "\n"


def _summary(report: RunReport) -> Callable[[int], str]:
    """The summary for a file that holds `taken` bytes of the step already."""
    return lambda taken: step_summary(report, STEP_LIMIT - taken)


def _append(path: Path, text: Callable[[int], str]) -> str:
    """Append the text that suits the size of the file; why that was not possible, or ""."""
    try:
        with path.open("ab") as file:
            content = encoded(text(file.tell()))
            file.write(content)
    except (OSError, ValueError) as error:  # ValueError: a path with a null character
        return f"it cannot be written ({getattr(error, 'strerror', None) or error})"
    return "" if content else "it is full (1 MiB for a step)"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
