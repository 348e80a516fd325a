"""Sentences about the items of abilities: those that were not judged, and answers that were empty or unfinished."""

from collections.abc import Sequence

from audit.reports.rows import AbilityRow

SHOWN_FACTS = 3


def item_sentences(rows: Sequence[AbilityRow]) -> list[str]:
    """All sentences about the items of these abilities."""
    return [*edited_fact_sentences(rows), *silence_sentences(rows)]


def edited_fact_sentences(rows: Sequence[AbilityRow]) -> list[str]:
    """For each ability with items that ask for an edited fact: how many were not judged, and the first of them."""
    sentences = []
    for row in rows:
        count, shown = len(row.edited_facts), row.edited_facts[:SHOWN_FACTS]
        which = "; ".join(f"{fact.key}: {fact.subject}, {fact.target}" if fact.subject else fact.key for fact in shown)
        more = f"; and {count - len(shown)} more" if count > len(shown) else ""
        what = "1 item asks for an edited fact and is" if count == 1 else f"{count} items ask for edited facts and are"
        if count:
            sentences.append(f"{row.label}: {what} not judged ({which}{more}).")
    return sentences


def silence_sentences(rows: Sequence[AbilityRow]) -> list[str]:
    """For each ability with answers that were empty or still thinking: how many, and what to do."""
    empty = "were empty", "ask a chat model with --chat-template, any other with worked examples (--shots 4)"
    thinking = "ended before their thinking was closed", "--chat-template switches thinking off where the template can"
    return [
        f"{row.label}: {count} answers of the {model} model {what} ({row.verdict.n} items): they are wrong; {remedy}."
        for row in rows
        for (what, remedy), counts in ((empty, row.empty), (thinking, row.unended_thinking))
        for model, count in zip(("base", "edited"), counts, strict=True)
        if count
    ]
