"""From the answers of base and edited model to one ability's verdict, and to the records a report keeps."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from audit.abilities.contract import Ability, AskedItems, Item
from audit.answering.scores import items_fingerprint
from audit.measures.flips import FlipReport, Said, count_flips, flips_of
from audit.reports.rows import AbilityRow, AnswerRecord, Example, ItemRecord
from audit.verdicts.alarm import harm_p_value
from audit.verdicts.intervals import f1_of, recall_by_class_of
from audit.verdicts.margins import Margin, margin_of
from audit.verdicts.outcome import SequentialPlan, Verdict
from audit.verdicts.verdict import judge

SHOWN_EXAMPLES = 2


@dataclass(frozen=True)
class PairedScores:
    """The scores of base and edited model (the mean over several) on the same items, as verdicts take them.

    `base` and `edited` (n,) in [0, 1]; `clusters` (n,) names of shared sources; the counts (n, counts) are those of a
    corpus metric, None for a mean.
    """

    base: Sequence[float]
    edited: Sequence[float]
    clusters: Sequence[str]
    base_counts: Sequence[Sequence[float]] | None
    edited_counts: Sequence[Sequence[float]] | None

    @classmethod
    def of(cls, base: AskedItems, edited: Sequence[AskedItems]) -> "PairedScores":
        n = len(base.items)
        counted = any(score.counts for score in base.scores)
        return cls(
            base=[score.value for score in base.scores],
            edited=[sum(asked.scores[k].value for asked in edited) / len(edited) for k in range(n)],
            clusters=[item.cluster for item in base.items],
            base_counts=_mean_counts([base], n) if counted else None,
            edited_counts=_mean_counts(edited, n) if counted else None,
        )


def judged(
    ability: Ability, base: AskedItems, edited: Sequence[AskedItems], *, margin: float | Margin, seed: int
) -> Verdict:
    """The verdict about the drop from `base` to the mean over the `edited` models, from all their items."""
    floor = ability.floor(base.items)
    return judge(**vars(PairedScores.of(base, edited)), margin=margin, floor=floor, seed=seed)


def harmed(base: AskedItems, edited: Sequence[AskedItems], *, seed: int) -> float:
    """The chance of such a drop if nothing was harmed, from all the items."""
    return harm_p_value(**vars(PairedScores.of(base, edited)), seed=seed)


def compare(
    ability: Ability,
    base: AskedItems,
    edited: Sequence[AskedItems],
    verdict: Verdict,
    *,
    margin: float | Margin,
    harm_p: float | None = None,
    plan: SequentialPlan | None = None,
    mentions: Sequence[tuple[str, ...]] = (),
) -> AbilityRow:
    """What a report says of a verdict about `base` and the `edited` models (one, unless edits were made one at a time).

    All hold the same items in the same order. `margin` is the one that was asked for; `plan` tells what might have been
    asked in a run that may stop early, None in any other; `mentions` are the edited subjects and targets that each item
    mentions, none if left out.
    """
    items, n = base.items, len(base.items)
    return AbilityRow(
        ability=ability.name,
        title=ability.title,
        metric=ability.metric,
        protocol=ability.protocol,
        outcome=verdict.outcome.value,
        base=verdict.base,
        edited=verdict.edited,
        drop=verdict.drop,
        lower=verdict.lower,
        upper=verdict.upper,
        margin=verdict.margin,
        asked_margin=str(margin_of(margin)),
        sequential=plan,
        harm_p=harm_p,
        n=verdict.n,
        clusters=verdict.clusters,
        floor=verdict.floor,
        base_lower=verdict.base_lower,
        more_items=verdict.more_items,
        method=verdict.method,
        right_to_wrong=verdict.right_to_wrong,
        wrong_to_right=verdict.wrong_to_right,
        parsed_to_unparseable=sum(
            base.answers[k].parseable and not all(asked.answers[k].parseable for asked in edited) for k in range(n)
        ),
        changed=sum(any(asked.answers[k].text != base.answers[k].text for asked in edited) for k in range(n)),
        base_unparseable=_unparseable([base], n),
        edited_unparseable=_unparseable(edited, n),
        items_fingerprint=items_fingerprint(ability, items),
        base_from_store=base.from_store == n,
        sentence=verdict.sentence,
        beside={
            metric: (_mean_beside([base], metric), _mean_beside(edited, metric)) for metric in base.scores[0].beside
        },
        examples=_examples(ability, base, edited),
        flips=_flip_report(ability, base, edited, mentions),
    )


def records(
    ability: Ability, base: AskedItems, edited: Sequence[AskedItems], mentions: Sequence[tuple[str, ...]] = ()
) -> tuple[ItemRecord, ...]:
    """Every question with every answer; `mentions` as in `compare`."""
    flips = _flips(ability, base, edited)
    return tuple(
        ItemRecord(
            ability=ability.name,
            key=item.key,
            cluster=item.cluster,
            prompt=ability.prompt(item),
            choices=item.choices,
            gold=item.gold,
            base=_record(base, k),
            edited=tuple(_record(asked, k) for asked in edited),
            fields=item.fields,
            mentions=mentions[k] if mentions else (),
            flips=flips[k],
        )
        for k, item in enumerate(base.items)
    )


def _flip_report(
    ability: Ability, base: AskedItems, edited: Sequence[AskedItems], mentions: Sequence[tuple[str, ...]]
) -> FlipReport:
    flips = _flips(ability, base, edited)
    marked = [bool(one) for one in mentions] or [False] * len(flips)
    elsewhere = [k for k, mentioned in enumerate(marked) if not mentioned]
    return FlipReport(
        mentioning=count_flips(one for one, mentioned in zip(flips, marked, strict=True) if mentioned),
        elsewhere=count_flips(flips[k] for k in elsewhere),
        drop_elsewhere=_score_of([base], elsewhere) - _score_of(edited, elsewhere) if elsewhere else None,
    )


def _flips(ability: Ability, base: AskedItems, edited: Sequence[AskedItems]) -> list[tuple[str, ...]]:
    def said(asked: AskedItems, k: int) -> Said:
        text = "" if ability.decoding is None else asked.answers[k].text
        return Said(asked.scores[k].value, asked.answers[k].parseable, text)

    return [flips_of(said(base, k), [said(asked, k) for asked in edited]) for k in range(len(base.items))]


def _score_of(models: Sequence[AskedItems], chosen: Sequence[int]) -> float:
    """The metric over the chosen items, averaged over the models item by item as in the verdict."""
    if any(score.counts for score in models[0].scores):
        counts = np.asarray(_mean_counts(models, len(models[0].items)))[list(chosen)]  # (chosen, counts)
        return float((f1_of if counts.shape[1] == 3 else recall_by_class_of)(counts.sum(0)))
    return sum(asked.scores[k].value for asked in models for k in chosen) / (len(models) * len(chosen))


def _examples(ability: Ability, base: AskedItems, edited: Sequence[AskedItems]) -> tuple[Example, ...]:
    """The items that lost most, then any other whose answer changed, each with the edited model that did worst."""
    found: list[tuple[float, int, AskedItems]] = []
    for k, answer in enumerate(base.answers):
        worst = min(edited, key=lambda asked: asked.scores[k].value)
        if worst.answers[k].text != answer.text:
            found.append((base.scores[k].value - worst.scores[k].value, k, worst))
    found.sort(key=lambda one: (-one[0], one[1]))
    return tuple(
        Example(
            key=base.items[k].key,
            prompt=ability.prompt(base.items[k]),
            gold=" or ".join(_said(base.items[k], gold) for gold in base.items[k].gold) or "(none)",
            base=_said(base.items[k], base.answers[k].text),
            edited=_said(worst.items[k], worst.answers[k].text),
        )
        for _, k, worst in found[:SHOWN_EXAMPLES]
    )


def _said(item: Item, text: str) -> str:
    """The answer in words: of a choice, the choice itself."""
    return item.choices[int(text)] if item.choices and text.isdecimal() else text


def _mean_counts(models: Sequence[AskedItems], n: int) -> list[list[float]]:
    """(n, counts): what each item adds to a corpus metric, averaged over the models."""
    columns = range(len(models[0].scores[0].counts))
    return [[sum(asked.scores[k].counts[c] for asked in models) / len(models) for c in columns] for k in range(n)]


def _mean_beside(models: Sequence[AskedItems], metric: str) -> float:
    values = [score.beside[metric] for asked in models for score in asked.scores]
    return sum(values) / len(values)


def _unparseable(models: Sequence[AskedItems], n: int) -> float:
    return sum(not answer.parseable for asked in models for answer in asked.answers) / (n * len(models))


def _record(asked: AskedItems, k: int) -> AnswerRecord:
    answer, score = asked.answers[k], asked.scores[k]
    ranked = tuple(asked.raw[k]) if asked.raw and asked.items[k].choices else None
    return AnswerRecord(answer.text, answer.value, answer.parseable, score.value, dict(score.beside), ranked)
