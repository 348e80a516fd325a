"""The items of an ability whose answer changed, as a page shows them.

An item changed if its score or its written or chosen answer did; a likelihood moves a little on every item, so there
only the score counts (`ItemRecord.flips`). Long texts are shown without their middle.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain, zip_longest

from audit.measures.flips import RIGHT_TO_WRONG, WRONG_TO_RIGHT
from audit.reports.html.word_diff import Span, word_diff
from audit.reports.rows import AnswerRecord, ItemRecord, in_words

PROMPT_WIDTH, ANSWER_WIDTH, GOLD_WIDTH = 600, 400, 200  # characters
MENTION_WIDTH, CONTEXT_WIDTH = 60, 32
SHOWN_TOKENS = SHOWN_MENTIONS = 5
LEAST_LOSS = 0.005  # nats; smaller ones are 0.00 in the table


@dataclass(frozen=True)
class TokenLoss:
    """A token of a scored text that the edited model expects less; log-probabilities in nats."""

    context: str  # the text before it
    token: str
    base: float
    edited: float

    @property
    def nats(self) -> float:
        return self.base - self.edited


@dataclass(frozen=True)
class ChangedItem:
    """One item. `base` and `edited` are the answers in spans, of the edited model that changed most.

    change  "lost", "won" or "same score"; `flips` are the other kinds of change
    model   which of several edited models is shown: "3 of 10"; "" if there is one
    """

    key: str
    change: str
    base_score: float
    edited_score: float  # the mean over the edited models
    flips: tuple[str, ...]
    mentions: tuple[str, ...]
    prompt: str
    gold: str
    base: tuple[Span, ...]
    edited: tuple[Span, ...]
    model: str
    losses: tuple[TokenLoss, ...]

    @property
    def texts(self) -> bool:
        """Whether there is any text to show."""
        return bool(self.prompt or self.base or self.edited)


def changed(items: Iterable[ItemRecord]) -> tuple[ItemRecord, ...]:
    """The items that changed: those that lost, those that won and the others in turn, each from the largest change on.

    So the first few of them show every kind of change.
    """
    kinds: dict[str, list[ItemRecord]] = {"lost": [], "won": [], "same score": []}
    for item in items:
        if _changed(item):
            kinds[_change(item)].append(item)
    for kind in kinds.values():
        kind.sort(key=lambda item: -abs(item.base.score - item.edited_score))
    return tuple(item for item in chain.from_iterable(zip_longest(*kinds.values())) if item is not None)


def shown(item: ItemRecord) -> ChangedItem:
    """What a page shows of an item."""
    place = max(range(len(item.edited)), key=lambda place: _difference(item, item.edited[place]))
    edited = item.edited[place]
    texts = [shortened(in_words(item.choices, answer.text), ANSWER_WIDTH) for answer in (item.base, edited)]
    scored = item.base.tokens is not None  # the text is a line of numbers, in which no words differ
    base_spans, edited_spans = ((Span(text, False),) for text in texts) if scored else word_diff(texts[0], texts[1])
    return ChangedItem(
        key=shortened(item.key, GOLD_WIDTH),
        change=_change(item),
        base_score=item.base.score,
        edited_score=item.edited_score,
        flips=tuple(kind for kind in item.flips if kind not in (RIGHT_TO_WRONG, WRONG_TO_RIGHT)),
        mentions=tuple(shortened(phrase, MENTION_WIDTH) for phrase in item.mentions[:SHOWN_MENTIONS]),
        prompt=shortened(item.prompt, PROMPT_WIDTH, head=0),
        gold=shortened(" or ".join(in_words(item.choices, gold) for gold in item.gold), GOLD_WIDTH),
        base=base_spans,
        edited=edited_spans,
        model=f"{place + 1} of {len(item.edited)}" if len(item.edited) > 1 else "",
        losses=token_losses(item, edited),
    )


def token_losses(item: ItemRecord, edited: AnswerRecord) -> tuple[TokenLoss, ...]:
    """The tokens that lost most: of the right answer, or of all texts that were scored where they speak for labels."""
    base, found = item.base, []
    if not base.tokens or base.tokens != edited.tokens or not base.log_probabilities or not edited.log_probabilities:
        return ()
    one_each = len(base.tokens) == len(item.choices)
    for number in map(int, item.gold) if one_each else range(len(base.tokens)):
        pairs = zip(base.log_probabilities[number], edited.log_probabilities[number], strict=True)
        for place, (before, after) in enumerate(pairs):
            if math.isfinite(before) and math.isfinite(after) and before - after >= LEAST_LOSS:
                words = base.tokens[number]
                context = "".join(words[max(0, place - CONTEXT_WIDTH) : place])[-CONTEXT_WIDTH:]
                found.append(TokenLoss(context, shortened(words[place], CONTEXT_WIDTH), before, after))
    return tuple(sorted(found, key=lambda loss: -loss.nats)[:SHOWN_TOKENS])


def shortened(text: str, width: int, *, head: int | None = None) -> str:
    """The text without its middle if it has more than `width` characters; `head` of those left stand before the gap."""
    if len(text) <= width:
        return text
    first = width // 2 if head is None else head
    gap = f"[... {len(text) - width:,} characters left out ...]"
    return f"{text[:first]}{gap}{text[len(text) - (width - first) :]}"


def _changed(item: ItemRecord) -> bool:
    other_text = item.base.tokens is None and any(answer.text != item.base.text for answer in item.edited)
    return bool(item.flips) or other_text


def _change(item: ItemRecord) -> str:
    return "lost" if RIGHT_TO_WRONG in item.flips else "won" if WRONG_TO_RIGHT in item.flips else "same score"


def _difference(item: ItemRecord, answer: AnswerRecord) -> tuple[float, bool]:
    return abs(answer.score - item.base.score), answer.text != item.base.text
