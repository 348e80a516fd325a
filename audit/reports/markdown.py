"""`report.md`: verdicts, tables, examples and the command, for a pull request."""

import re
from collections.abc import Collection, Iterable, Sequence

from audit.measures.rates import NATS_PER_TOKEN
from audit.reports.comparison_sentences import trend_note
from audit.reports.item_sentences import item_sentences
from audit.reports.json_report import AS_EVALUATED
from audit.reports.rows import AbilityRow, Example, RunReport
from audit.reports.run_sentences import (
    FLIP_LEGEND,
    claims,
    flip_table,
    header_lines,
    next_step,
    verdict_reason,
)
from audit.reports.verdict_sentences import GROUNDS, interval_column, kept_share, margin, points
from audit.verdicts import FAIL

SHOWN_SKIPPED = 10
AS_ASKED = "with greedy decoding, this prompt and this batch plan"
NATS_LEGEND = (
    "*Nats per token* is the mean log-probability of an answer's tokens, edited minus base: of the new answer for "
    "efficacy and generalization, where more is better (+0.69 doubles the probability of each token), and of the "
    "neighbors' own answers for locality, where 0 is local and less is damage. *Likelihood* says how often the edited "
    "model finds the new answer more probable than the old one (for neighborhood accuracy, the true one more probable "
    "than the new one); its *magnitude* is the difference of the two probabilities."
)
SOUNDNESS = {True: "sound", False: "**UNSOUND**", None: "noted"}


def markdown(report: RunReport) -> str:
    """The whole report as GitHub-flavored Markdown."""
    return joined(blocks(report))


def joined(parts: Iterable[str]) -> str:
    """Blocks of Markdown as one text."""
    return "\n\n".join(parts) + "\n"


def blocks(report: RunReport) -> list[str]:
    """The report in its blocks: title, headings ("## Abilities"), tables, lists, and the advice as the last one.

    Only a heading begins with "## "; texts of models are within a fence or inline code.
    """
    header = report.header
    return [
        f"# {report.outcome}: {header.method} {'against' if header.compared else 'on'} {code(header.model)}",
        literal(verdict_reason(report)) + ".",
        "\n".join(header_lines(header, "- ")),
        *([f"**{report.unchanged.sentence}**"] if report.unchanged is not None else []),
        *([f"**{report.collapse}** No ability was asked."] if report.collapse else []),
        *_abilities(report.abilities, AS_EVALUATED if header.compared else AS_ASKED),
        *_steps(report.steps),
        *_listed("How the abilities were asked", _trials(report.abilities)),
        *_listed("What this run supports", claims(report)),
        *_listed(
            "Not asked", [f"**{literal(ability)}**: {code(reason)}" for ability, reason in report.unasked.items()]
        ),
        *_edit(report),
        *_listed("Integrity", [f"{SOUNDNESS[row.sound]}: {row.sentence}" for row in report.integrity]),
        *_listed("Notes on edits", [code(note) for note in report.edit_notes]),
        *_skipped(report),
        *_listed("Other tests that failed", [code(name) for name in report.failed_tests]),
        *_flips(report.abilities),
        *_changed(report.abilities),
        *_repeat(report),
        next_step(report),
    ]


def _abilities(rows: Sequence[AbilityRow], asked: str) -> Iterable[str]:
    if not rows:
        return
    heading, intervals = interval_column(row.verdict for row in rows)
    yield "## Abilities"
    yield _table(
        [
            *("ability", "reading", "metric", "protocol", "base", "edited", "floor", "drop", heading, "kept", "margin"),
            *("n", "lost", "won", "verdict"),
        ],
        [
            [
                literal(row.ability),
                row.how,
                literal(row.metric),
                row.protocol,
                f"{row.verdict.base:.3f}",
                f"{row.verdict.edited:.3f}",
                f"{row.verdict.floor:.3f}",
                points(row.verdict.drop),
                interval,
                kept_share(row.verdict),
                margin(row.verdict, row.asked_margin),
                row.item_count,
                str(row.verdict.right_to_wrong),
                str(row.verdict.wrong_to_right),
                f"**{row.outcome}**",
            ]
            for row, interval in zip(rows, intervals, strict=True)
        ],
    )
    yield (
        f"Score points from 0 to 1. The {heading} consists of two one-sided limits of the drop, paired over the items"
        f"{_one_sided(rows)}. *Lost* counts right answers that became wrong, *won* the reverse. The drop estimates the "
        f"expected change on items like these, {asked}."
    )
    if any(row.outcome == FAIL for row in rows):
        yield GROUNDS
    yield "\n".join(f"- **{literal(row.label)}**: {row.sentence}{_beside(row)}{_noise(row)}" for row in rows)
    if noted := item_sentences(rows):
        yield "\n".join(f"- {sentence}" for sentence in noted)


def _steps(rows: Sequence[AbilityRow]) -> Iterable[str]:
    """Each checkpoint against the one before."""
    if rows:
        yield "## Against the checkpoint before"
        yield trend_note(len(rows))
        yield _table(*step_rows(rows))


def step_rows(rows: Sequence[AbilityRow]) -> tuple[list[str], list[list[str]]]:
    """Headings and a line for each step from one checkpoint to the next."""
    heading, intervals = interval_column(row.verdict for row in rows)
    lines = [
        [
            literal(row.ability),
            f"{row.verdict.base:.3f}",
            f"{row.verdict.edited:.3f}",
            points(row.verdict.drop),
            interval,
            str(row.verdict.n),
            str(row.verdict.right_to_wrong),
            str(row.verdict.wrong_to_right),
        ]
        for row, interval in zip(rows, intervals, strict=True)
    ]
    return ["step", "before", "after", "drop", heading, "n", "lost", "won"], lines


def _trials(rows: Sequence[AbilityRow]) -> list[str]:
    """What was tried on the base model before an ability was asked."""
    return [
        f"**{literal(row.label)}** by {row.how}; tried on items set aside: {'; '.join(map(code, row.trials))}"
        for row in rows
        if row.trials
    ]


def _one_sided(rows: Sequence[AbilityRow]) -> str:
    """The confidence of each limit, if it is the same in all rows."""
    confidences = {f"{100 * row.verdict.confidence:g}" for row in rows}
    return f", each with {confidences.pop()} % confidence" if len(confidences) == 1 else ""


def _beside(row: AbilityRow) -> str:
    return "".join(f" {metric}: base {base:.3f}, edited {edited:.3f}." for metric, (base, edited) in row.beside.items())


def _noise(row: AbilityRow) -> str:
    if row.noise_floor is None:
        return ""
    return f" Noise floor {row.noise_floor:.3f} (the base model against itself, {row.noise_items} items)."


def _edit(report: RunReport) -> Iterable[str]:
    if report.edit_scores:
        yield "## The edit itself"
        yield _table(
            ["measure", "protocol", "value", "95 % interval", "n"],
            [[s.measure, s.protocol, s.shown, s.interval, str(s.n)] for s in report.edit_scores],
        )
        if any(s.protocol == NATS_PER_TOKEN for s in report.edit_scores):
            yield NATS_LEGEND


def _skipped(report: RunReport) -> Iterable[str]:
    if report.skipped:
        yield f"## Skipped edits ({len(report.skipped)})"
        lines = [f"- {code(s.place)} {s.field}: {s.reason}" for s in report.skipped[:SHOWN_SKIPPED]]
        hidden = len(report.skipped) - len(lines)
        yield "\n".join([*lines, f"- and {hidden} more, in `verdict.json`"] if hidden else lines)


def _flips(rows: Sequence[AbilityRow]) -> Iterable[str]:
    table = flip_table(rows)
    if table is not None:
        headings, lines = table
        yield "## Flips"
        yield _table(headings, [[literal(name), *cells] for name, *cells in lines])
        yield FLIP_LEGEND


def _changed(rows: Sequence[AbilityRow]) -> Iterable[str]:
    shown = [row for row in rows if row.examples]
    if shown:
        yield "## What changed"
    for row in shown:
        yield f"**{literal(row.label)}**: {row.changed} of {row.verdict.n} answers changed."
        yield "\n\n".join(_example(example) for example in row.examples)


def _example(example: Example) -> str:
    answers = {"wanted": example.gold, "base": example.base, "edited": example.edited}
    return "\n".join([fenced(example.prompt), "", *(f"- {name}: {code(text)}" for name, text in answers.items())])


def _repeat(report: RunReport) -> Iterable[str]:
    yield "## To repeat this run"
    if report.command:
        yield fenced(report.command)
    facts = {**report.fingerprints, **report.versions}
    if facts:
        yield "\n".join(f"- {name}: {code(value)}" for name, value in facts.items())


def table_lines(headings: Sequence[str], rows: Iterable[Sequence[str]], *, texts: Collection[int] = (0,)) -> list[str]:
    """The lines of a table. Columns of `texts`, by number from 0, are aligned left, and all others right."""
    marks = ["---" if number in texts else "--:" for number in range(len(headings))]
    cells = (headings, marks, *rows)
    return ["| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in cells]


def _table(headings: list[str], rows: list[list[str]]) -> str:
    return "\n".join(table_lines(headings, rows, texts=range(len(headings))))


def _listed(title: str, lines: Sequence[str]) -> Iterable[str]:
    """A section with a list; nothing without lines."""
    if lines:
        yield f"## {title}"
        yield "\n".join(f"- {line}" for line in lines)


def code(text: str) -> str:
    """Inline code on one line, with backticks and control characters replaced."""
    flat = one_line(text).replace("`", "'")
    return f"`{flat}`" if flat else "(nothing)"


def one_line(text: str) -> str:
    """The text on one line, with characters that cannot be seen as escapes."""
    visible = "".join(letter if letter.isprintable() or letter.isspace() else ascii(letter)[1:-1] for letter in text)
    return " ".join(visible.split())


def literal(text: str) -> str:
    """Foreign text inside a sentence: on one line, and shown as it is. Text with an address becomes inline code."""
    if re.search(r"://|www\.|@", text):
        return code(text)
    # An underscore between two letters begins no emphasis, and a bar means something in tables only, which escape it.
    return re.sub(r"([\\`*\[\]<>&~#$!^{}]|(?<![^\W_])_|_(?![^\W_]))", r"\\\1", one_line(text))


def fenced(text: str) -> str:
    """A block of code; its fence is longer than any in the text."""
    fence = "```"
    while fence in text:
        fence += "`"
    return f"{fence}text\n{text}\n{fence}"
