"""`report.html`: the whole report of a run as one file, at most `SIZE` bytes of items.

The verdict and what to do stand on top, then one chart and one row for each ability, which opens to its numbers and to
the items that changed. Items that do not fit are counted; `items.jsonl` has them all.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from audit.measures.rates import NATS_PER_TOKEN
from audit.reports.comparison_sentences import trend_note
from audit.reports.html.changed_items import changed, shown
from audit.reports.html.chart import chart
from audit.reports.html.page import fragment, page
from audit.reports.item_sentences import item_sentences
from audit.reports.markdown import NATS_LEGEND, SHOWN_SKIPPED, step_rows
from audit.reports.rows import AbilityRow, ItemRecord, RunReport
from audit.reports.run_sentences import (
    FLIP_LEGEND,
    caveats,
    claims,
    flip_table,
    header_lines,
    next_step,
    reuse_sentences,
    verdict_reason,
)
from audit.reports.verdict_sentences import GROUNDS, coverage, interval, kept_share, margin, points
from audit.reports.workflows.compare import trend_rows
from audit.verdicts.evidence import BOOTSTRAP
from audit.verdicts.random_groups import GROUPS, MANY

SIZE = 800_000  # bytes of all items; the rest of a page of eight abilities has less than 100,000
SHOWN_NOTES = 50
SOUNDNESS = {True: "sound", False: "UNSOUND", None: "noted"}
LEGEND = (
    "Scores are points from 0 to 1, and a drop is base minus edited. The limits of a drop are one-sided. *Lost* counts "
    "items whose score fell, *won* those whose score rose."
)


@dataclass(frozen=True)
class AbilitySection:
    """One ability as the page shows it: a line, notes, pairs of name and value, and items as HTML."""

    row: AbilityRow
    brief: str
    notes: tuple[str, ...]
    facts: tuple[tuple[str, str], ...]
    items: tuple[Markup, ...]
    items_title: str
    mentions: bool  # whether an item mentions an edit


def run_html(report: RunReport) -> str:
    """The page of a report with its items; without their texts if the run was made with --no-items."""
    texts = bool(report.settings.get("item_texts", True))
    rows = report.abilities
    header = caveats(report.header)
    unchanged = report.unchanged
    return page(
        "run.html",
        report=report,
        texts=texts,
        against="against" if report.header.compared else "on",
        reason=verdict_reason(report),
        alerts=[
            *([unchanged.sentence] if unchanged is not None else []),
            *([f"{report.collapse} No ability was asked."] if report.collapse else []),
            *header,
        ],
        next_step=next_step(report),
        lines=header_lines(report.header, "")[len(header) :],
        abilities=[_section(row, report, texts) for row in rows],
        chart=chart(rows),
        points=points,
        interval=interval,
        legend=f"{LEGEND} {GROUNDS}",
        claims=claims(report),
        unasked=[f"{ability}: {reason}" for ability, reason in report.unasked.items()],
        edit_scores=[[s.measure, s.protocol, s.shown, s.interval, str(s.n)] for s in report.edit_scores],
        trend=trend_rows(report) if report.steps else None,
        steps=step_rows(report.steps) if report.steps else None,
        trend_note=trend_note(len(report.steps)),
        nats_legend=NATS_LEGEND if any(s.protocol == NATS_PER_TOKEN for s in report.edit_scores) else "",
        flips=None if report.header.compared else flip_table(rows),  # no edit requests, so no mentions
        flip_legend=FLIP_LEGEND,
        integrity=[f"{SOUNDNESS[row.sound]}: {row.sentence}" for row in report.integrity],
        notes=_first(SHOWN_NOTES, report.edit_notes),
        skipped=_first(SHOWN_SKIPPED, [f"{one.place}, {one.field}: {one.reason}" for one in report.skipped]),
        facts=list({**report.fingerprints, **report.versions}.items()),
        settings=[[name, str(value)] for name, value in report.settings.items() if value not in (None, {}, "")],
        times=[
            *(f"{stage}: {seconds:.1f} s" for stage, seconds in report.seconds.items()),
            *reuse_sentences(report.reuse),
        ],
    )


def _section(row: AbilityRow, report: RunReport, texts: bool) -> AbilitySection:
    verdict = row.verdict
    found = changed(item for item in report.items if item.ability == row.ability)
    items = _fitting(found, SIZE // len(report.abilities), texts)
    flips = [row.flips.mentioning, row.flips.elsewhere] if row.flips and report.header.compared else []
    # A report of a large comparison has only a part of its items.
    count = max(len(found), sum(one.right_to_wrong + one.wrong_to_right for one in flips))
    title = f"{count} of {verdict.n} items changed"
    if len(items) < count:
        title += f"; {len(items)} of them are here, all are in items.jsonl"
    return AbilitySection(
        row=row,
        brief=f"{verdict.base:.3f} to {verdict.edited:.3f}, drop {points(verdict.drop)} {interval(verdict)}, "
        f"margin {margin(verdict, row.asked_margin)}",
        notes=tuple(item_sentences([row])),
        facts=tuple(_facts(row, report)),
        items=items,
        items_title=title,
        mentions=any(item.mentions for item in found),
    )


def _facts(row: AbilityRow, report: RunReport) -> Iterator[tuple[str, str]]:
    """The numbers of an ability, by name."""
    verdict = row.verdict
    known = bool(row.reading) or not report.header.compared  # other tools do not say how they asked and read
    if known:
        yield "reading", row.reading or "not recorded"
        yield "prompting", row.prompting or "not recorded"
    yield "protocol", row.protocol
    yield "metric", row.metric
    yield "base, edited", f"{verdict.base:.3f}, {verdict.edited:.3f}"
    yield "floor", f"{verdict.floor:.3f}"
    yield "drop", points(verdict.drop)
    yield f"{coverage(verdict)} interval", interval(verdict)
    if kept_share(verdict):
        yield "share kept above the floor", kept_share(verdict)
    yield "margin", margin(verdict, row.asked_margin)
    yield "items", row.item_count
    yield "groups that share a source", str(verdict.clusters)
    grouped = verdict.method == BOOTSTRAP and verdict.clusters > MANY
    yield "interval by", f"{verdict.method} of {GROUPS:,} random groups" if grouped else verdict.method
    if row.harm_p is not None:
        adjusted = next(alarm.adjusted for alarm in report.alarms if alarm.name == row.ability)
        yield "p-value of harm", f"{row.harm_p:.2g}"
        yield "p-value, Holm over the run", f"{adjusted:.2g}"
    yield "lost, won", f"{verdict.right_to_wrong}, {verdict.wrong_to_right}"
    if known and row.reading != "likelihood":
        yield "answers with other text", str(row.changed)
    if known:
        yield (
            "unparseable, base and edited",
            f"{100 * row.base_unparseable:.1f} %, {100 * row.edited_unparseable:.1f} %",
        )
    for metric, (base, edited) in row.beside.items():
        yield f"{metric}, base and edited", f"{base:.3f}, {edited:.3f}"
    if row.noise_floor is not None:
        yield "noise floor", f"{row.noise_floor:.3f} ({row.noise_items} items)"
    yield "fingerprint of the items", row.items_fingerprint[:16]


def _fitting(items: Sequence[ItemRecord], size: int, texts: bool) -> tuple[Markup, ...]:
    """The first items as HTML that have at most `size` bytes together."""
    found: list[Markup] = []
    for item in items:
        text = fragment("item.html", item=shown(item), texts=texts)
        size -= len(text.encode())
        if size < 0:
            break
        found.append(text)
    return tuple(found)


def _first(count: int, lines: Sequence[str]) -> list[str]:
    """The first lines, and how many more there are."""
    more = len(lines) - count
    return [*lines[:count], *([f"and {more} more, in verdict.json"] if more > 0 else [])]
