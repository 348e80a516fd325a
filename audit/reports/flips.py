"""What became of the answers, in words and as a table: on items that mention an edit, and on all others."""

from collections.abc import Sequence

from audit.measures.flips import FlipCounts, FlipReport
from audit.reports.rows import AbilityRow

WORDS = ("right to wrong", "wrong to right", "parsed to unparseable", "repeated text")
LEGEND = (
    "Each cell: items that mention an edited subject or target (there the intended change may have leaked), then all "
    "others (true side effects). No verdict reads this table."
)


def flip_lines(rows: Sequence[AbilityRow], verbosity: int) -> list[str]:
    """One line over all abilities, or one an ability at `verbosity` above 0; nothing where no answer flipped."""
    told = [(row.named, row.flips) for row in rows if row.flips is not None and any(_both(row.flips))]
    if verbosity > 0:
        return [f"flips, {name}: {_sentence([flips])}" for name, flips in told]
    return [f"flips: {_sentence([flips for _, flips in told])}"] if told else []


def flip_table(rows: Sequence[AbilityRow]) -> tuple[list[str], list[list[str]]] | None:
    """Headings and cells, one line an ability; None where nothing is known of any."""
    known = [(row, row.flips) for row in rows if row.flips is not None]
    if not known:
        return None
    return ["ability", "items", *WORDS, "drop", "drop elsewhere"], [_line(row, flips) for row, flips in known]


def _line(row: AbilityRow, flips: FlipReport) -> list[str]:
    inside, outside = flips.mentioning, flips.elsewhere
    pairs = zip((inside.items, *_counts(inside)), (outside.items, *_counts(outside)), strict=True)
    drop = "-" if flips.drop_elsewhere is None else f"{flips.drop_elsewhere:.3f}"
    return [
        row.named,
        *(f"{one} + {other}" for one, other in pairs),
        f"{row.drop:.3f}",
        drop.replace("-0.000", "0.000"),
    ]


def _sentence(reports: Sequence[FlipReport]) -> str:
    inside = [sum(column) for column in zip(*(_counts(one.mentioning) for one in reports), strict=True)]
    total = [sum(column) for column in zip(*(_both(one) for one in reports), strict=True)]
    told = ", ".join(f"{count} {word}" for count, word in zip(total, WORDS, strict=True) if count)
    marked = ", ".join(f"{count} {word}" for count, word in zip(inside, WORDS, strict=True) if count)
    items = sum(one.mentioning.items for one in reports)
    if not items:
        return f"{told}; no item mentions a known edit"
    return f"{told}; of these on the {items} items that mention an edit: {marked or 'none'}"


def _counts(counts: FlipCounts) -> tuple[int, int, int, int]:
    return counts.right_to_wrong, counts.wrong_to_right, counts.parsed_to_unparseable, counts.repeated


def _both(flips: FlipReport) -> tuple[int, ...]:
    return tuple(one + other for one, other in zip(_counts(flips.mentioning), _counts(flips.elsewhere), strict=True))
