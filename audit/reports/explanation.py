"""Why a verdict is what it is: the lines under a failing assertion, and the two examples beneath them."""

from audit.reports.rows import AbilityRow, Example
from audit.reports.terminal import interval, points

QUESTION_WIDTH = 50
ANSWER_WIDTH = 32
# pytest cuts an explanation at 640 characters, unless what is beyond is no longer than its own note (47) or -vv is on.
BUDGET = 680


def explanation(row: AbilityRow, wanted: str) -> list[str]:
    """Numbers, flips, the verdict's sentence, and as many of the examples as pytest shows without -vv."""
    lines = [
        f"{row.named}: {row.outcome}, wanted {wanted}",
        f"base {row.base:.3f}, edited {row.edited:.3f}, drop {points(row.drop)} {interval(row)}, "
        f"margin {row.margin:.3f}, n {row.asked}",
        f"flips: {row.right_to_wrong} right to wrong, {row.wrong_to_right} wrong to right, "
        f"{row.parsed_to_unparseable} parsed to unparseable",
        row.sentence,
    ]
    for example in row.examples[:2]:
        line = _one_line(example)
        if sum(map(len, lines)) + len(line) <= BUDGET:
            lines.append(line)
    return lines


def examples(row: AbilityRow) -> str:
    """The example items in full: question, gold, both answers."""
    return "\n\n".join(
        f"item {example.key}\n{_indented(example.prompt)}\n"
        f"  wanted  {example.gold}\n  base    {example.base.strip()!r}\n  edited  {example.edited.strip()!r}"
        for example in row.examples[:2]
    )


def _one_line(example: Example) -> str:
    question = _shortened(example.prompt, QUESTION_WIDTH)
    base, edited = (_shortened(text, ANSWER_WIDTH) for text in (example.base, example.edited))
    return f"e.g. {question!r}: base {base!r}, edited {edited!r}, wanted {_shortened(example.gold, ANSWER_WIDTH)!r}"


def _shortened(text: str, width: int) -> str:
    """The text on one line, its middle left out where it is long: questions and final answers stand at the ends."""
    flat = " ".join(text.split())
    if len(flat) <= width:
        return flat
    head = (width - 3) // 3
    return f"{flat[:head]}...{flat[head + 3 - width :]}"


def _indented(text: str) -> str:
    return "\n".join("  | " + line for line in text.splitlines())
