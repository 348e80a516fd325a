"""Rows of one ability from its paired answers: the verdict's row, and a record of every item; what was reused."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from audit.abilities.contract import Answers
from audit.answering.items import DrawnItems
from audit.answering.judgments import Judgment
from audit.answering.paired_answers import PairedAnswers, items_fingerprint, scored_texts
from audit.engine import after_thinking
from audit.engine.reuse_counts import ReuseCounts
from audit.measures.flips import FlipReport, ScoredAnswer, count_flips, flips_of
from audit.reports.rows import AbilityRow, AnswerRecord, Example, ItemRecord, in_words
from audit.verdicts.intervals import f1_of, recall_by_class_of
from audit.verdicts.margins import Margin, margin_of

if TYPE_CHECKING:
    from audit.answering.answers import Reuse
    from audit.editing.steps import EditedModel

SHOWN_EXAMPLES = 2


def row_of(
    found: Judgment,
    margin: float | Margin,
    mentions: Sequence[tuple[str, ...]] = (),
    drawn: DrawnItems | None = None,
    origin: str = "",
    *,
    texts: bool = True,
) -> AbilityRow:
    """The row of a verdict. `margin` is the one that was asked for, `drawn` says how the ability was asked.

    `mentions` are the edited subjects and targets that each item of the judgment mentions, none if left out. Without
    `texts` the row has no examples.
    """
    paired = found.answers
    ability, base, edited, items = paired.ability, paired.base, paired.edited, paired.base.items
    n, chosen = len(items), drawn.chosen if drawn else None
    return AbilityRow(
        ability=ability.name,
        title=ability.title,
        metric=ability.metric,
        protocol=ability.protocol,
        verdict=found.verdict,
        asked_margin=str(margin_of(margin)),
        stopping_rule=found.rule,
        harm_p=found.harm_p,
        parsed_to_unparseable=sum(
            base.answers[k].parseable and not all(asked.answers[k].parseable for asked in edited) for k in range(n)
        ),
        changed=sum(any(asked.answers[k].text != base.answers[k].text for asked in edited) for k in range(n)),
        base_unparseable=_unparseable([base], n),
        edited_unparseable=_unparseable(edited, n),
        items_fingerprint=items_fingerprint(ability, items),
        base_from_store=base.from_store == n,
        beside={
            metric: (_mean_beside([base], metric), _mean_beside(edited, metric)) for metric in base.scores[0].beside
        },
        examples=_examples(paired) if texts else (),
        flips=_flip_report(paired, mentions),
        empty=_written_like(paired, lambda text: not text.strip()),
        unended_thinking=_written_like(paired, lambda text: after_thinking(text) is None),
        reading=ability.reading,
        edited_facts=drawn.edited_facts if drawn else (),
        prompting=chosen.presentation.prompting if chosen else "",
        offset=chosen.presentation.offset if chosen else 0.0,
        trials=tuple(trial.sentence for trial in chosen.trials) if chosen else (),
        origin=origin,
    )


def records(
    paired: PairedAnswers, mentions: Sequence[tuple[str, ...]] = (), *, texts: bool = True
) -> tuple[ItemRecord, ...]:
    """Every item with every answer; `mentions` as in `row_of`. Without `texts` only keys and numbers are kept."""
    ability, base, flips = paired.ability, paired.base, _flips(paired)
    found = (
        ItemRecord(
            ability=ability.name,
            key=item.key,
            cluster=item.cluster,
            prompt=ability.prompt(item),
            choices=item.choices,
            gold=item.gold,
            base=_record(base, k),
            edited=tuple(_record(asked, k) for asked in paired.edited),
            fields=item.fields,
            mentions=mentions[k] if mentions else (),
            flips=flips[k],
            floor=None if paired.floors is None else _record(paired.floors, k),
        )
        for k, item in enumerate(base.items)
    )
    return tuple(found if texts else map(_without_texts, found))


def _without_texts(record: ItemRecord) -> ItemRecord:
    """The record of an item with its keys and numbers, and no text of the data set or of a model.

    `mentions` stays: its phrases come from the edit requests.
    """
    return replace(
        record,
        prompt="",
        choices=(),
        gold=(),
        fields=None,
        base=_numbers_of(record.base),
        edited=tuple(map(_numbers_of, record.edited)),
        floor=None if record.floor is None else _numbers_of(record.floor),
    )


def _numbers_of(answer: AnswerRecord) -> AnswerRecord:
    return replace(answer, text="", value=None, tokens=None, log_probabilities=None, greedy=None)


def reuse_counts(
    reuse: "Reuse | None", answers: Mapping[str, PairedAnswers], edited: Sequence["EditedModel"], edits: int
) -> ReuseCounts:
    """The counts of what was reused, with those of the answers and of the edits; computes nothing else."""
    given = [one for paired in answers.values() for one in (paired.base, *paired.edited)]
    return replace(
        ReuseCounts() if reuse is None else reuse.counts,
        edits=edits,
        edits_resumed=sum(model.resumed for model in edited),
        answers=sum(len(one.answers) for one in given),
        answers_known=sum(one.from_store for one in given),
    )


def _flip_report(paired: PairedAnswers, mentions: Sequence[tuple[str, ...]]) -> FlipReport:
    flips = _flips(paired)
    marked = [bool(one) for one in mentions] or [False] * len(flips)
    elsewhere = [k for k, mentioned in enumerate(marked) if not mentioned]
    return FlipReport(
        mentioning=count_flips(one for one, mentioned in zip(flips, marked, strict=True) if mentioned),
        elsewhere=count_flips(flips[k] for k in elsewhere),
        drop_elsewhere=_drop(paired, elsewhere) if elsewhere else None,
    )


def _flips(paired: PairedAnswers) -> list[tuple[str, ...]]:
    ability, base = paired.ability, paired.base

    def said(asked: Answers, k: int) -> ScoredAnswer:
        text = "" if ability.decoding is None else asked.answers[k].text
        value = asked.scores[k].value
        # Every likelihood moves a little; changes below a hundredth are no flips.
        return ScoredAnswer(value if ability.scorer is None else round(value, 2), asked.answers[k].parseable, text)

    return [flips_of(said(base, k), [said(asked, k) for asked in paired.edited]) for k in range(len(base.items))]


def _drop(paired: PairedAnswers, chosen: Sequence[int]) -> float:
    """The drop of the metric over the chosen items, averaged over the models item by item as in the verdict."""
    scores, rows = paired.scores, list(chosen)
    if scores.base_counts is not None and scores.edited_counts is not None:
        base, edited = np.asarray(scores.base_counts)[rows], np.asarray(scores.edited_counts)[rows]  # (chosen, counts)
        metric = f1_of if base.shape[1] == 3 else recall_by_class_of
        return float(metric(base.sum(0))) - float(metric(edited.sum(0)))
    models = paired.edited
    after = sum(asked.scores[k].value for asked in models for k in chosen) / (len(models) * len(chosen))
    return sum(scores.base[k] for k in chosen) / len(chosen) - after


def _examples(paired: PairedAnswers) -> tuple[Example, ...]:
    """The items that lost most, then any other whose answer changed, each with the edited model that did worst."""
    ability, base, edited = paired.ability, paired.base, paired.edited
    found: list[tuple[float, int, Answers]] = []
    for k, answer in enumerate(base.answers):
        worst = min(edited, key=lambda asked: asked.scores[k].value)
        if worst.answers[k].text != answer.text:
            found.append((base.scores[k].value - worst.scores[k].value, k, worst))
    found.sort(key=lambda one: (-one[0], one[1]))
    return tuple(
        Example(
            key=base.items[k].key,
            prompt=ability.prompt(base.items[k]),
            gold=" or ".join(in_words(base.items[k].choices, gold) for gold in base.items[k].gold) or "(none)",
            base=in_words(base.items[k].choices, base.answers[k].text),
            edited=in_words(worst.items[k].choices, worst.answers[k].text),
        )
        for _, k, worst in found[:SHOWN_EXAMPLES]
    )


def _mean_beside(models: Sequence[Answers], metric: str) -> float:
    values = [score.beside[metric] for asked in models for score in asked.scores]
    return sum(values) / len(values)


def _unparseable(models: Sequence[Answers], n: int) -> float:
    return sum(not answer.parseable for asked in models for answer in asked.answers) / (n * len(models))


def _written_like(paired: PairedAnswers, kind: Callable[[str], bool]) -> tuple[int, int]:
    """The numbers of written answers of a kind: of the base model, and of all edited ones."""
    if paired.ability.decoding is None:
        return 0, 0
    base, *edited = (sum(kind(answer.text) for answer in one.answers) for one in (paired.base, *paired.edited))
    return base, sum(edited)


def _record(asked: Answers, k: int) -> AnswerRecord:
    answer, score = asked.answers[k], asked.scores[k]
    raw = asked.raw[k] if asked.raw else None
    scored = scored_texts(raw) if isinstance(raw, Mapping) and "tokens" in raw else None
    return AnswerRecord(
        answer.text,
        answer.value,
        answer.parseable,
        score.value,
        dict(score.beside),
        log_likelihoods=tuple(raw) if isinstance(raw, Sequence) else None,
        tokens=None if scored is None else tuple(one.tokens for one in scored),
        log_probabilities=None if scored is None else tuple(one.log_probabilities for one in scored),
        greedy=tuple(raw["greedy"]) if isinstance(raw, Mapping) and raw.get("greedy") else None,
    )
