"""A pair of results as a report has them: the row of its verdict, its items that changed, and the lines of all."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import compress, product, repeat
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audit.answering.judgments import take_blocks
from audit.errors import AuditError
from audit.measures.flips import REPEATED, RIGHT_TO_WRONG, WRONG_TO_RIGHT, FlipCounts, FlipReport, repeats
from audit.reports.rows import AbilityRow, AnswerRecord, ItemRecord
from audit.store.content import content_fingerprint
from audit.verdicts import Verdict
from audit.verdicts.alarm import harm_p_value
from audit.verdicts.margins import Margin
from audit.verdicts.sequential import SequentialVerdict
from audit.verdicts.verdict import judge
from audit.workflows.rescore import AS_ASKED, require_usable
from audit.workflows.results.pairs import Pair
from audit.workflows.results.task_scores import TaskScores

Marks = NDArray[np.bool_]
KINDS = (RIGHT_TO_WRONG, WRONG_TO_RIGHT, REPEATED)  # as `_flips` gives them
MOST_CHANGED = 200  # items of each kind of change; a page has no room for more


def row_of_pair(pair: Pair, name: str, model: str, margin: Margin) -> AbilityRow:
    """The row of the verdict on a pair; of a run against itself, the row of the run with this verdict.

    `name` is that of the row, and `model` the edited one of several.

    Raises:
        AuditError: the margin cannot be used for this run, or the run stopped early and is not compared with itself.
    """
    run = pair.base.run if pair.base.run == pair.edited.run else None
    if pair.edited.run is not None:
        require_usable(margin, pair.edited.run)
    verdict, harm_p = _judged(pair, margin)
    judged: dict[str, Any] = {
        "verdict": verdict,
        "harm_p": harm_p,
        "asked_margin": str(margin),
        "ability": name,
        "model": model,
    }
    if run is not None and not any(pair.missing):
        return replace(run, **judged)
    lost, won, loops = _flips(pair)
    nothing = FlipCounts(0, 0, 0, 0, 0)
    elsewhere = FlipCounts(verdict.n, int(lost.sum()), int(won.sum()), 0, int(loops.sum()))
    asked = pair.edited.run
    return AbilityRow(
        title=pair.base.task,
        metric=pair.base.metric,
        protocol=pair.base.protocol,
        parsed_to_unparseable=0,
        changed=int((np.asarray(pair.scores.base) != np.asarray(pair.scores.edited)).sum()),
        base_unparseable=0.0,
        edited_unparseable=0.0,
        items_fingerprint=content_fingerprint([list(pair.base.ids), *map(list, pair.base.content.values())]),
        base_from_store=False,
        flips=FlipReport(nothing, elsewhere, verdict.drop),
        **({part: getattr(asked, part) for part in AS_ASKED} if asked else {}),
        **judged,
    )


def _judged(pair: Pair, margin: Margin) -> tuple[Verdict, float | None]:
    """The verdict and the p-value of harm; for a run that stopped early, by the same looks."""
    scores, floor, seed = pair.scores, pair.base.floor, pair.edited.seed
    rules = [one.run.stopping_rule for one in (pair.base, pair.edited) if one.run is not None]
    rule = next((one for one in rules if one is not None), None)
    if rule is None:
        return judge(**vars(scores), margin=margin, floor=floor, seed=seed), harm_p_value(**vars(scores), seed=seed)
    if pair.base.run != pair.edited.run or any(pair.missing):
        raise AuditError(
            f"{pair.base.task}: a run with --early-stop asked as many items as its own scores needed, so it can be "
            "compared only with itself; run the audit without --early-stop."
        )
    sequential = SequentialVerdict(margin, floor, rule, seed=seed)
    take_blocks(sequential, scores.clusters, scores.part)
    return sequential.verdict(), sequential.harm_p_value()


def _flips(pair: Pair) -> tuple[Marks, Marks, Marks]:
    """(n,) whether the score fell, whether it rose, and whether only the edited text ends in a loop."""
    base, edited = (np.asarray(values, dtype=np.float64) for values in (pair.scores.base, pair.scores.edited))
    if pair.base.run is not None and pair.base.run.reading == "likelihood":
        base, edited = base.round(2), edited.round(2)  # every likelihood moves a little
    before, after = pair.base.texts, pair.edited.texts
    loops = np.zeros(len(base), dtype=np.bool_)
    if before is not None and after is not None:
        changed = [k for k, (one, other) in enumerate(zip(before, after, strict=True)) if one != other]
        loops[[k for k in changed if repeats(after[k]) and not repeats(before[k])]] = True
    return edited < base, edited > base, loops


def changed_items(pair: Pair, name: str) -> tuple[ItemRecord, ...]:
    """Items of the row `name` that changed: those that lost, that won, and that have another text and the same score.

    Of each kind at most `MOST_CHANGED`, those that changed most.
    """
    lost, won, loops = _flips(pair)
    moved = np.abs(np.asarray(pair.scores.base, dtype=np.float64) - np.asarray(pair.scores.edited, dtype=np.float64))
    texts = pair.base.texts, pair.edited.texts
    other = loops & ~lost & ~won
    if None not in texts and (pair.base.run is None or pair.base.run.reading != "likelihood"):
        differ = [one != two for one, two in zip(*texts, strict=True)]  # type: ignore[arg-type]
        other = np.array(differ, dtype=np.bool_) & ~lost & ~won
    found = []
    for kind in (lost, won, other):
        places = np.flatnonzero(kind)
        found += places[np.argsort(-moved[places], kind="stable")[:MOST_CHANGED]].tolist()
    marks = np.stack([lost, won, loops], axis=1)[found]
    return tuple(_record(pair, name, k, tuple(compress(KINDS, row))) for k, row in zip(found, marks, strict=True))


def _record(pair: Pair, name: str, k: int, flips: tuple[str, ...]) -> ItemRecord:
    def answer(one: TaskScores, score: float) -> AnswerRecord:
        return AnswerRecord("" if one.texts is None else one.texts[k], None, True, score)

    key = pair.base.ids[k]
    return ItemRecord(
        ability=name,
        key=key,
        cluster=key if pair.scores.clusters is None else pair.scores.clusters[k],
        prompt="",
        choices=(),
        gold=() if pair.base.golds is None else (pair.base.golds[k],),
        base=answer(pair.base, float(pair.scores.base[k])),
        edited=(answer(pair.edited, float(pair.scores.edited[k])),),
        flips=flips,
    )


def item_lines(pair: Pair, name: str) -> Iterator[str]:
    """One line for each item, of the row `name`: ids, scores, texts, flips. Twenty times as fast as `items_jsonl`."""
    quoted = json.encoder.encode_basestring
    n, scores = len(pair.base.ids), pair.scores
    ids = list(map(quoted, pair.base.ids))
    clusters = ids if scores.clusters is None else map(quoted, scores.clusters)
    base, edited = (
        repeat('""', n) if one.texts is None else map(quoted, one.texts) for one in (pair.base, pair.edited)
    )
    golds = repeat("", n) if pair.base.golds is None else map(quoted, pair.base.golds)
    before, after = (map(repr, np.asarray(one, dtype=np.float64).tolist()) for one in (scores.base, scores.edited))
    start = f'{{"ability": {quoted(name)}, "key": '
    columns = zip(ids, clusters, golds, base, before, edited, after, strict=True)
    for columns_of_item, fields, floor, flips in zip(
        columns, _fields(pair), _floors(pair), _flip_names(pair), strict=True
    ):
        key, cluster, gold, said, score, then, reached = columns_of_item
        yield (
            f'{start}{key}, "cluster": {cluster}, "prompt": "", "choices": [], "gold": [{gold}], '
            f'"base": {{"text": {said}, "value": null, "parseable": true, "score": {score}}}, '
            f'"edited": [{{"text": {then}, "value": null, "parseable": true, "score": {reached}}}], '
            f'"fields": {fields}, "floor": {floor}, "flips": [{flips}]}}\n'
        )


def _fields(pair: Pair) -> Iterable[str]:
    """The fingerprints of each item's content, as a JSON object."""
    content = pair.base.content
    if not content:
        return repeat("null", len(pair.base.ids))
    shape = "{" + ", ".join(f'"{part}": %s' for part in content) + "}"
    return (shape % row for row in zip(*(map(json.dumps, one) for one in content.values()), strict=True))


def _floors(pair: Pair) -> Iterable[str]:
    """The floor of each item, as an answer."""
    floors = pair.scores.floors
    if floors is None:
        return repeat("null", len(pair.base.ids))
    shape = '{"text": "", "value": null, "parseable": true, "score": %r}'
    return (shape % floor for floor in np.asarray(floors, dtype=np.float64).tolist())


def _flip_names(pair: Pair) -> Iterator[str]:
    """The kinds of change of each item, quoted."""
    kinds = list(map(json.dumps, KINDS))
    names = [", ".join(compress(kinds, marks)) for marks in product((False, True), repeat=3)]
    codes = np.stack(_flips(pair), axis=1) @ (4, 2, 1)  # (n,), numbers in binary
    return (names[code] for code in codes.tolist())
