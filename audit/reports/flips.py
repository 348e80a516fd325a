"""Flips (changes of an answer, by kind) as sentences and as a table: on items that mention an edit, and elsewhere."""

from collections.abc import Sequence

from audit.measures.flips import FlipCounts, FlipReport
from audit.reports.rows import AbilityRow
from audit.reports.verdict_sentences import points

WORDS = ("right to wrong", "wrong to right", "parsed to unparseable", "repeated text")
LEGEND = (
    "Each cell counts the items that mention an edited subject or target (a change there may be the intended one), "
    "plus all others (side effects). No verdict uses this table."
)


def flip_lines(rows: Sequence[AbilityRow], verbosity: int) -> list[str]:
    """One line for all abilities, or one per ability at `verbosity` above 0; none if no answer flipped."""
    flipped = [(row.label, row.flips) for row in rows if row.flips is not None and any(_both(row.flips))]
    if verbosity > 0:
        return [f"flips, {name}: {_sentence([flips])}" for name, flips in flipped]
    return [f"flips: {_sentence([flips for _, flips in flipped])}"] if flipped else []


def flip_table(rows: Sequence[AbilityRow]) -> tuple[list[str], list[list[str]]] | None:
    """Headings and cells, one line per ability; None if no row has flips."""
    known = [(row, row.flips) for row in rows if row.flips is not None]
    if not known:
        return None
    return ["ability", "items", *WORDS, "drop", "drop elsewhere"], [_line(row, flips) for row, flips in known]


def _line(row: AbilityRow, flips: FlipReport) -> list[str]:
    inside, outside = flips.mentioning, flips.elsewhere
    pairs = zip((inside.items, *_counts(inside)), (outside.items, *_counts(outside)), strict=True)
    drop = "-" if flips.drop_elsewhere is None else points(flips.drop_elsewhere)
    return [
        row.label,
        *(f"{one} + {other}" for one, other in pairs),
        points(row.verdict.drop),
        drop,
    ]


def _sentence(reports: Sequence[FlipReport]) -> str:
    inside = [sum(column) for column in zip(*(_counts(one.mentioning) for one in reports), strict=True)]
    total = [sum(column) for column in zip(*(_both(one) for one in reports), strict=True)]
    in_all, mentioning = (
        ", ".join(f"{count} {word}" for count, word in zip(counts, WORDS, strict=True) if count)
        for counts in (total, inside)
    )
    items = sum(one.mentioning.items for one in reports)
    if not items:
        return f"{in_all}; no item mentions a known edit"
    return f"{in_all}; of these on the {items} items that mention an edit: {mentioning or 'none'}"


def _counts(counts: FlipCounts) -> tuple[int, int, int, int]:
    return counts.right_to_wrong, counts.wrong_to_right, counts.parsed_to_unparseable, counts.repeated


def _both(flips: FlipReport) -> tuple[int, ...]:
    return tuple(one + other for one, other in zip(_counts(flips.mentioning), _counts(flips.elsewhere), strict=True))
