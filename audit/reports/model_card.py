"""The card of an edited model: what a run found, as metadata of the Hugging Face hub and as a section of Markdown.

    text = merged_card(Path("README.md").read_text(), report)

The metadata is the hub's `model-index`, made and merged by `huggingface_hub`. The section lies between two markers, and
a later run replaces it; every other byte of the text stays. Everything from models, data and paths is escaped.
"""

import re
from collections.abc import Iterable, Sequence

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from audit.abilities import data_name
from audit.abilities.data.hub import HUB_DATA
from audit.errors import AuditError, first_line
from audit.reports.markdown import SOUNDNESS, code, fenced, literal, one_line, table_lines
from audit.reports.rows import AbilityRow, RunHeader, RunReport
from audit.reports.run_sentences import caveats, claims, protocol_phrase, verdict_reason
from audit.reports.verdict_sentences import GROUNDS, interval_column, kept_share, margin, points
from audit.settings.values import short_name
from audit.store import PACKAGE
from audit.verdicts import FAIL, PASS

BEGIN, END = f"<!-- {PACKAGE}: begin -->", f"<!-- {PACKAGE}: end -->"
TAGS = ("knowledge-editing", "model-editing")
TASK = "text-generation"  # the hub's task of every causal language model
DIGITS = 4  # of the numbers in the metadata
NO_METADATA = "---\n\n---\n"
MEANING = (
    "Score points from 0 to 1. The {heading} has two one-sided limits of the drop, paired over the items. PASS: the "
    "upper limit is within the margin. INCONCLUSIVE: these items do not settle it."
)


def merged_card(text: str, report: RunReport, *, name: str = "", base_model: str = "", origin: str = "the card") -> str:
    """The text of a card with the metadata and the section of this run; an empty text becomes a new card.

    Args:
        name: of the edited model; by default that of the card, else the base model's and the editor's.
        base_model: the hub id of the base model; by default that of the card, else that of the run if it is on the hub.
        origin: names the card in errors.

    Raises:
        AuditError: the run compares several models, the metadata of the card cannot be read, or its markers are not one
            pair.
    """
    models = sorted({row.model for row in report.abilities if row.model})
    if len(models) > 1:
        raise AuditError(
            f"the run compares {len(models)} models ({', '.join(models[:3])}), and a card is that of one; compare the "
            "base model with this one alone."
        )
    line_break = "\r\n" if "\r\n" in text else "\n"
    try:
        card = ModelCard(text if text.lstrip().startswith("---") else NO_METADATA.replace("\n", line_break) + text)
    except Exception as error:  # of YAML, which is no dependency of ours, or of huggingface_hub
        raise AuditError(f"the metadata of {origin} cannot be read ({first_line(error)}); correct it.") from error
    data = card.data
    assert isinstance(data, ModelCardData)
    _merge(data, report, name, base_model)
    section = card_section(report).replace("\n", line_break)
    title = _without_markers(code(data.model_name or _default_name(report.header)))
    body = card.text or f"# {title}{line_break}"
    card.text = _with_section(body, section, line_break, origin)
    return str(card)


def card_section(report: RunReport) -> str:
    """The section of Markdown, with its markers."""
    header = report.header
    parts = [
        f"## Audit of the edit: {report.outcome}",
        literal(verdict_reason(report)) + ".",
        *_subject(report),
        *_edit_success(report),
        *_abilities(report),
        *_titled("Integrity", [f"{SOUNDNESS[row.sound]}: {literal(row.sentence)}" for row in report.integrity]),
        *_titled("How it was measured", _measurement(report)),
        *(["### To repeat this run", fenced(one_line(report.command))] if report.command else []),
        f"Written by `audit card` of {PACKAGE} {literal(report.versions.get(PACKAGE, ''))}".rstrip()
        + f" from the run of {literal(header.started[:10])}.",
    ]
    text = "\n\n".join(parts)
    return f"{BEGIN}\n\n{_without_markers(text)}\n\n{END}"


def eval_results(report: RunReport) -> list[EvalResult]:
    """One result for each ability: the edited model's score, and the verdict with its numbers as arguments."""
    return [_result(row, report) for row in report.abilities if row.verdict.edited is not None]


def _result(row: AbilityRow, report: RunReport) -> EvalResult:
    verdict, header = row.verdict, report.header
    data_set = HUB_DATA.get(data_name(row.ability)) if header.data == "hub" and not row.origin else None
    revision = report.fingerprints.get(f"data {row.ability}", "").rpartition(": ")[2]
    numbers = {name: getattr(verdict, name) for name in ("base", "drop", "lower", "upper", "margin", "confidence")}
    return EvalResult(
        task_type=TASK,
        task_name=row.title,
        dataset_type=data_set.hub_id if data_set else _shown(row.origin or header.data),
        dataset_name=f"{row.title} ({data_set.hub_id if data_set else _shown(row.origin or header.data)})",
        dataset_config=data_set.config if data_set else row.label,
        dataset_split=data_set.test if data_set else None,
        dataset_revision=(revision or data_set.revision) if data_set else None,
        metric_type=re.sub(r"[^a-z0-9]+", "_", row.metric.lower()).strip("_"),
        metric_name=row.metric,
        metric_value=round(verdict.edited, DIGITS),
        metric_args={
            "audit": PACKAGE,
            "verdict": str(row.outcome),
            **{key: round(value, DIGITS) for key, value in numbers.items() if value is not None},
            "n": verdict.n,
            "reading": row.how,
            "items": row.items_fingerprint,
        },
    )


def _merge(data: ModelCardData, report: RunReport, name: str, base_model: str) -> None:
    """Replace the results of earlier audits, and add what the metadata lacks."""
    header = report.header
    before = data.eval_results or []
    found = [*(one for one in before if not _is_ours(one)), *eval_results(report)]
    if found or before:
        data.eval_results = found or None
        data.model_name = (name or data.model_name or _default_name(header)) if found else None
    data.base_model = base_model or data.base_model or (header.model if header.revision else None)
    tags = [data.tags] if isinstance(data.tags, str) else data.tags or []
    editor = [] if header.checkpoint or header.compared else [header.editor]
    data.tags = list(dict.fromkeys([*tags, *TAGS, *editor]))


def _is_ours(result: EvalResult) -> bool:
    return isinstance(result.metric_args, dict) and result.metric_args.get("audit") == PACKAGE


def _default_name(header: RunHeader) -> str:
    edited = short_name(header.editor)
    return edited if header.checkpoint or header.compared else f"{short_name(header.model)}-{edited}"


def _with_section(body: str, section: str, line_break: str, origin: str) -> str:
    """The body with the section in place of the old one, or at its end."""
    begins, ends = body.count(BEGIN), body.count(END)
    if (begins, ends) == (0, 0):
        return f"{body}{'' if body.endswith(line_break) else line_break}{line_break}{section}{line_break}"
    start, end = body.find(BEGIN), body.find(END)
    if (begins, ends) != (1, 1) or end < start:
        raise AuditError(f"{origin} has {begins} markers {BEGIN} and {ends} markers {END}; leave one pair or none.")
    return body[:start] + section + body[end + len(END) :]


def _without_markers(text: str) -> str:
    """The text with no comment of HTML, for which a marker could be taken."""
    return text.replace("<!--", "<! --")


def _shown(text: str) -> str:
    """A name as a public page shows it: of a local path only the last part."""
    return short_name(text) if text.startswith(("/", "./", "../", "~")) else text


def _subject(report: RunReport) -> Iterable[str]:
    header = report.header
    revision = f", revision {code(header.revision)}" if header.revision else ""
    weights = report.fingerprints.get("weights")
    known = f", sha256 of its weights {code(weights)}" if weights else ""
    lines = [f"Base model: {code(_shown(header.model))}{revision}{known}"]
    if header.compared:
        lines += [f"Compared results: {code(_shown(header.editor))}, {literal(header.plan)}"]
    else:
        limit = f", limited by {code(header.restraint)}" if header.restraint else ""
        maker = "Edited model, made elsewhere" if header.checkpoint else "Editor"
        source = f", from {code(_shown(header.edits))}" if header.edits and header.edit_count else ""
        lines += [
            f"{maker}: {code(_shown(header.editor))}{limit}",
            f"Edits: {literal(header.plan)}{source}",
        ]
    yield from _titled("What was edited", [*lines, *map(literal, caveats(header))])


def _edit_success(report: RunReport) -> Iterable[str]:
    scores = [one for one in report.edit_scores if one.protocol == "autoregressive" and one.value is not None]
    if scores:
        yield "### Edit success"
        rows = [[one.measure, one.shown, one.interval, str(one.n)] for one in scores]
        yield "\n".join(table_lines(["measure", "value", "95 % interval", "edits"], rows))
        yield "Shares of the edits for which the edited model writes the right answer, by greedy decoding."


def _abilities(report: RunReport) -> Iterable[str]:
    yield "### What was kept and what was lost"
    if report.unchanged is not None:
        yield f"**{literal(report.unchanged.sentence)}**"
    if report.collapse:
        yield f"**{literal(report.collapse)}** No ability was asked."
    if report.abilities:
        yield from _ability_table(report.abilities)
    lines = [f"{code(row.label)}: {literal(row.sentence)}" for row in report.abilities if row.outcome != PASS]
    lines += [f"{code(name)} was not asked: {literal(reason)}" for name, reason in report.unasked.items()]
    lines += map(literal, claims(report))
    yield from _listed(lines)
    if any(row.outcome == FAIL for row in report.abilities):
        yield GROUNDS


def _ability_table(rows: Sequence[AbilityRow]) -> Iterable[str]:
    heading, intervals = interval_column(row.verdict for row in rows)
    headings = ("ability", "metric", "reading", "base", "edited", "drop", heading, "kept", "margin", "n", "verdict")
    cells = [
        [
            code(row.label),
            code(row.metric),
            code(row.how) if row.how else "-",
            f"{row.verdict.base:.3f}",
            f"{row.verdict.edited:.3f}",
            points(row.verdict.drop),
            limits,
            kept_share(row.verdict) or "-",
            margin(row.verdict, row.asked_margin),
            row.item_count,
            f"**{row.outcome}**",
        ]
        for row, limits in zip(rows, intervals, strict=True)
    ]
    yield "\n".join(table_lines(headings, cells, texts=(0, 1, 2)))
    yield MEANING.format(heading=heading)


def _measurement(report: RunReport) -> list[str]:
    header = report.header
    versions = ", ".join(f"{literal(name)} {literal(version)}" for name, version in report.versions.items())
    how = literal(protocol_phrase(header.protocol, header.shots, header.chat_template))
    lines = []
    if not header.compared:
        lines = [
            f"At most {header.limit} items for each ability from {code(_shown(header.data))}, {how}; both models were "
            "asked the same items",
            f"Device {literal(header.device)}, dtype {literal(header.dtype)}, seed {header.seed}",
        ]
    lines += [
        f"{literal(name)}: {code(text)}" for name, text in report.fingerprints.items() if name.startswith("data ")
    ]
    return [*lines, *([f"Versions: {versions}"] if versions else [])]


def _titled(title: str, lines: Sequence[str]) -> Iterable[str]:
    if lines:
        yield f"### {title}"
        yield from _listed(lines)


def _listed(lines: Sequence[str]) -> Iterable[str]:
    if lines:
        yield "\n".join(f"- {line}" for line in lines)
