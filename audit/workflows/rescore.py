"""New verdicts from the saved answers of a run, with the installed parsers and metrics or other margins.

    rescored(read_report(Path("reports/<run>"), with_items=True), margins={"ner": 0.03}).outcome

No model is asked. Prompts, right answers and model answers are those of the run, and so are its edit scores and its
checks of the weights, which cannot be computed from answers.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime

from audit.abilities.contract import Ability, Item
from audit.abilities.presentation import read_as
from audit.abilities.registry import Abilities, load_entry
from audit.abilities.wrapper import AbilityWrapper
from audit.answering.judgments import Judgment, fixed_judgment, saved_judgment
from audit.answering.paired_answers import PairedAnswers, Raw, read_raw
from audit.errors import AuditError
from audit.reports.ability_rows import records, row_of
from audit.reports.rows import AbilityRow, AnswerRecord, ItemRecord, RunReport
from audit.settings.values import written
from audit.store import PACKAGE, versions
from audit.verdicts.margins import Margin, Points, margin_of

# Fields of a row that scoring again does not change.
AS_ASKED = ("noise_floor", "noise_items", "reading", "prompting", "offset", "trials", "origin", "edited_facts")


class AsSaved(AbilityWrapper):
    """An ability with the prompts of a past run, which parses and scores as installed."""

    def __init__(self, ability: Ability, prompts: Mapping[str, str]) -> None:
        super().__init__(ability)
        self._prompts = prompts

    def prompt(self, item: Item) -> str:
        return self._prompts[item.key]


def rescored(run: RunReport, margins: Mapping[str, Margin]) -> RunReport:
    """The report of `run`, read with its items, with every answer parsed, scored and judged again.

    The margin of an ability is the one in `margins`, or else that of the run.

    Raises:
        AuditError: the run's items are not all there, or were written without what scoring takes; or one of its
            abilities is not known here; or a margin is under the noise floor that the run states; or it is a
            comparison of results from elsewhere.
    """
    start = time.perf_counter()
    if run.header.compared:
        raise AuditError(
            f"{run.folder} is a comparison, whose scores are from elsewhere; judge them again with "
            f"`audit compare {run.folder} {run.folder} --margin 0.03`."
        )
    if not run.settings.get("item_texts", True):
        raise AuditError(
            f"{run.folder} was written with --no-items, so it has no answers to score; run the audit again without it."
        )
    for name in margins:
        if name not in {row.ability for row in run.abilities}:
            raise AuditError(f"--margin {name}: the run in {run.folder} did not judge {name}; leave its margin out.")
    rows: list[AbilityRow] = []
    items: list[ItemRecord] = []
    for old in run.abilities:
        paired = saved_answers(run, old)
        margin = margins.get(old.ability) or margin_of(old.asked_margin or old.verdict.margin)
        require_usable(margin, old)
        saved = {record.key: record.mentions for record in run.items if record.ability == old.ability}
        found = _judged(paired, old, margin, run.header.seed)
        mentions = [saved[item.key] for item in paired.base.items]
        row = row_of(found, margin, mentions[: found.verdict.n])
        asked = {name: getattr(old, name) for name in AS_ASKED}
        rows.append(replace(row, **asked))
        items += records(paired, mentions)
    return replace(
        run,
        header=replace(run.header, started=datetime.now(UTC).isoformat(timespec="seconds"), rescored=run.folder),
        abilities=tuple(rows),
        items=tuple(items),
        settings={**run.settings, "margins": {**run.settings.get("margins", {}), **written(margins)}},
        versions={**run.versions, **_scored_with()},
        seconds={"scoring again": time.perf_counter() - start},
        folder=None,
    )


def _judged(paired: PairedAnswers, old: AbilityRow, margin: Margin, seed: int) -> Judgment:
    """About all the items; of a run that might stop early, what it would have found, block after block."""
    if old.stopping_rule is None:
        return fixed_judgment(paired, margin, seed)
    # The floor is that of all the items, of which only those asked were saved.
    return saved_judgment(paired, old.stopping_rule, margin, floor=old.verdict.floor, seed=seed)


def require_usable(margin: Margin, old: AbilityRow) -> None:
    """Raise `AuditError` if an ability of a run cannot be judged by a margin: one in points, or one under its noise."""
    if old.reading == "likelihood" and isinstance(margin, Points):
        raise AuditError(
            f"--margin {old.ability}={margin} is in score points, but the run in question read {old.ability} by "
            f"likelihood, whose margin is a share to keep; give a share such as {old.ability}=90%."
        )
    points = margin.at(old.verdict.base, old.verdict.floor)
    if old.noise_floor is not None and 0 < points < old.noise_floor:
        raise AuditError(
            f"--margin {old.ability}={margin}: {points:.4f} points are under the noise floor of {old.noise_floor:.4f} "
            "that the run states; ask for at least that."
        )


def saved_answers(run: RunReport, old: AbilityRow) -> PairedAnswers:
    """One ability's items with the base model's answers and those of each edited model, scored anew."""
    file = f"{run.folder}/items.jsonl"
    kept = [record for record in run.items if record.ability == old.ability]
    models = {len(record.edited) for record in kept}
    stopped = old.stopping_rule is not None  # under another margin more may have been asked than this verdict took
    whole = len(kept) >= old.verdict.n if stopped else len(kept) == old.verdict.n
    if not whole or len(models) != 1 or 0 in models:
        raise AuditError(
            f"{file} holds {len(kept)} of the {old.verdict.n} items of {old.ability}, or not all of their answers; it "
            "is not whole, so run the audit again."
        )
    abilities = Abilities((load_entry(old.origin),) if old.origin else ())
    as_read = read_as(abilities.load(old.ability, old.protocol), old.reading, old.offset)
    ability = AsSaved(as_read, {record.key: record.prompt for record in kept})
    items = [_item(record, file) for record in kept]
    base = [_raw(ability, record, record.base, file) for record in kept]
    edited = [[_raw(ability, record, record.edited[k], file) for record in kept] for k in range(models.pop())]
    floors = [_raw(ability, record, record.floor, file) for record in kept if record.floor is not None]
    return PairedAnswers(
        ability,
        read_raw(ability, items, base, len(items) if old.base_from_store else 0),
        tuple(read_raw(ability, items, answers) for answers in edited),
        read_raw(ability, items, floors) if floors else None,
    )


def _item(record: ItemRecord, file: str) -> Item:
    if record.fields is None:
        raise _older(record, file)
    return Item(record.key, record.ability, record.fields, record.gold, record.cluster, record.choices)


def _raw(ability: Ability, record: ItemRecord, answer: AnswerRecord, file: str) -> Raw:
    if ability.decoding is not None:
        return {"text": answer.text}
    if ability.scorer is not None:
        if answer.log_probabilities is None or answer.tokens is None:
            raise _older(record, file)
        return {"tokens": answer.tokens, "log_probabilities": answer.log_probabilities, "greedy": answer.greedy}
    if answer.log_likelihoods is None or len(answer.log_likelihoods) != len(record.choices):
        raise _older(record, file)
    return answer.log_likelihoods


def _older(record: ItemRecord, file: str) -> AuditError:
    return AuditError(
        f"{file} holds {record.key} without what scoring again takes (an older version of the audit left that out); "
        "run the audit again."
    )


def _scored_with() -> dict[str, str]:
    deciding: Sequence[str] = ("numpy", "rouge-score", PACKAGE)
    return {f"{name} (scoring)": version for name, version in versions().items() if name in deciding}
