"""The noise of a model's scores: the same weights asked twice, so that every difference is noise (A/A).

    calibrate(AuditSettings(model="pocket-llama"), ["reasoning"]).abilities[0].held.floor

The items are asked again without stored answers, in other batches, and once more in another dtype. The result is
stored with the answers of the model, where audits of the same model and data find it (`audit.answering.noise_floors`).
"""

import gc
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import cycle

import torch

from audit.abilities.contract import Ability, Answers, Item
from audit.abilities.data import Source
from audit.abilities.data.ability_source import AbilitySource, shown_name
from audit.abilities.data.sources import seeded_order, source_of_data
from audit.abilities.presentation import require_chat_template
from audit.answering.answers import AnswerLogs, ask
from audit.answering.crew import Crew
from audit.answering.noise_floors import Calibration, keep_calibrations
from audit.answering.paired_answers import PairedAnswers, Raw, read_raw
from audit.answering.run_answers import AbilityRun
from audit.answering.run_items import RunItems
from audit.engine.known_model import KnownModel
from audit.errors import AuditError
from audit.models.language_model import LanguageModel
from audit.models.loading import load_language_model
from audit.progress import Progress, Stages, Watcher
from audit.reports.run_sentences import protocol_phrase
from audit.reports.workflows.calibration import Calibrated
from audit.settings.options import AuditSettings
from audit.store.answer_log import AnswerLog
from audit.store.content import Store, store_at
from audit.verdicts.noise import NoiseFloor, noise_floor

# Numbers of items in the other batches. An audit asks hundreds at once; here each item has other neighbors, other
# padding, and fewer rows in each matrix product.
BATCH_SIZES = (1, 2, 3, 5, 8, 13)


@dataclass(frozen=True, eq=False)
class _Twice:
    """The answers of one ability in the batches of an audit and in other batches."""

    ability: Ability
    once: PairedAnswers  # with themselves, and with the measured floors
    batches: Answers


@dataclass(frozen=True, eq=False)
class _FirstModel:
    """What is kept of the model as an audit loads it, which is freed before the second one is loaded."""

    log: AnswerLog
    asked: Mapping[str, _Twice]
    unasked: Mapping[str, str]
    dtype: torch.dtype
    dtypes: Mapping[str, torch.dtype]  # of every parameter
    lines: tuple[str, ...]


def calibrate(settings: AuditSettings, abilities: Sequence[str], watcher: Watcher | None = None) -> Calibrated:
    """Ask the model of `settings` the items of each ability again, and store the noise of its scores.

    Raises:
        AuditError: no ability can be asked, or `use_store` is off.
    """
    if not settings.use_store:
        raise AuditError("--no-store: a calibration is kept in the store for later runs; leave --no-store out.")
    store = store_at(settings.store)
    stages = Stages(watcher)
    source = AbilitySource(source_of_data(settings.data, store), settings.abilities)
    first = _first_model(settings, abilities, source, store, stages)
    gc.collect()  # frees the first model before the second is loaded
    other = torch.bfloat16 if first.dtype == torch.float32 else torch.float32
    again, without = _ask_in(other, settings, first, stages)
    found: list[Calibration] = []
    for name, twice in first.asked.items():
        batches = replace(twice.once, edited=(twice.batches,))
        verdict = batches.verdict(margin=0.0, seed=settings.seed)
        found.append(
            Calibration(
                ability=name,
                base=verdict.base,
                chance=verdict.floor,
                dtype=_named(first.dtype),
                other=_named(other),
                batches=_floor(batches),
                arithmetic=_floor(replace(batches, edited=(again[name],))) if name in again else None,
                reading=twice.ability.reading,
            )
        )
    keep_calibrations(first.log, found, settings, source.name)
    return Calibrated(settings.model, first.lines, tuple(found), first.unasked, without)


def batch_noise(
    known: KnownModel,
    settings: AuditSettings,
    abilities: Sequence[str],
    source: Source,
    logs: AnswerLogs,
    stages: Stages,
) -> dict[str, NoiseFloor]:
    """The noise of a loaded model's scores in other batches, by ability; nothing but base answers is stored.

    An ability that cannot be asked is left out.
    """
    asked, _ = _ask_twice(known, settings, abilities, source, logs, stages)
    return {name: _floor(replace(twice.once, edited=(twice.batches,))) for name, twice in asked.items()}


def asked_in_other_batches(
    lm: LanguageModel, ability: Ability, items: Sequence[Item], seed: int, progress: Progress
) -> Answers:
    """Ask shuffled items a few at a time, `BATCH_SIZES` in turn; no stored answer is used."""
    order, raw = seeded_order(len(items), f"{seed}:other batches"), dict[int, Raw]()
    sizes = cycle(BATCH_SIZES)
    while len(raw) < len(items):
        batch = order[len(raw) : len(raw) + next(sizes)]
        asked = ask(lm, ability, [items[place] for place in batch])
        raw.update(zip(batch, asked.raw, strict=True))
        progress(len(raw), len(items))
    return read_raw(ability, items, [raw[place] for place in range(len(items))])


def _first_model(
    settings: AuditSettings, abilities: Sequence[str], source: Source, store: Store, stages: Stages
) -> _FirstModel:
    source.check()
    with stages("loading"):
        lm = _loaded(settings, settings.dtype)
        known = KnownModel.of(lm)
    if flag := settings.chat_flag:
        require_chat_template(lm.tokenizer, settings.model, flag)
    log = AnswerLog.of(store, known.state())
    asked, unasked = _ask_twice(known, settings, abilities, source, AnswerLogs(store), stages)
    if not asked:
        raise AuditError("no ability was asked: " + "; ".join(f"{name}: {reason}" for name, reason in unasked.items()))
    dtypes = {name: parameter.dtype for name, parameter in lm.model.named_parameters()}
    how = f"{settings.limit} items per ability at most from {shown_name(source)}, "
    how += protocol_phrase(settings.protocol, settings.shots, settings.chat_template)
    lines = (how, f"device {lm.device.type}, dtype {_named(lm.dtype)}, seed {settings.seed}")
    return _FirstModel(log, asked, unasked, lm.dtype, dtypes, lines)


def _ask_twice(
    known: KnownModel,
    settings: AuditSettings,
    abilities: Sequence[str],
    source: Source,
    logs: AnswerLogs,
    stages: Stages,
) -> tuple[dict[str, _Twice], dict[str, str]]:
    """The answers of each ability in two kinds of batches, and why the others were not asked."""
    lm = known.lm
    run_items = RunItems(source, settings, lambda: known, logs, Crew(), stages)
    asked: dict[str, _Twice] = {}
    unasked: dict[str, str] = {}
    for name in abilities:
        try:
            drawn = run_items.of(name)
            ability, items = drawn.ability, drawn.items
            run = AbilityRun(ability, items, known, (), stages, Crew(), None, logs)
            once = run.base_answers(items)
            with stages("other batches", f"{name}, other batches") as done:
                asked[name] = _Twice(ability, once, asked_in_other_batches(lm, ability, items, settings.seed, done))
        except AuditError as error:  # of this ability; the others go on
            unasked[name] = str(error)
    return asked, unasked


def _ask_in(
    dtype: torch.dtype, settings: AuditSettings, first: _FirstModel, stages: Stages
) -> tuple[dict[str, Answers], str]:
    """The answers of the same weights computed in `dtype`, by ability, and the reason if there are none."""
    asked: dict[str, Answers] = {}
    try:
        with stages("loading"):
            lm = _loaded(settings, _named(dtype))
            _rounded(lm, first.dtypes)
        for name, twice in first.asked.items():
            with stages("other arithmetic", f"{name}, {_named(dtype)}") as done:
                asked[name] = ask(lm, twice.ability, twice.once.base.items, progress=done)
    except torch.OutOfMemoryError:
        return {}, f"the model does not fit into the memory of the device in {_named(dtype)}."
    except AuditError as error:
        return {}, str(error)
    return asked, ""


def _loaded(settings: AuditSettings, dtype: str) -> LanguageModel:
    store = store_at(settings.store)
    return load_language_model(
        settings.model, revision=settings.revision, device=settings.device, dtype=dtype, store=store
    )


@torch.no_grad()
def _rounded(lm: LanguageModel, dtypes: Mapping[str, torch.dtype]) -> None:
    """Round the weights to the dtypes of the first model, since a checkpoint may hold more digits.

    The model is freshly loaded, so no computed answers depend on the weights that change here.
    """
    for name, parameter in lm.model.named_parameters():
        parameter.copy_(parameter.to(dtypes[name]))


def _floor(paired: PairedAnswers) -> NoiseFloor:
    scores = paired.scores
    first, second = scores.base_counts, scores.edited_counts
    counts = None if first is None or second is None else (first, second)
    continuous = paired.ability.reading == "likelihood"
    return noise_floor(scores.base, scores.edited, scores.clusters, counts=counts, continuous=continuous)


def _named(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
