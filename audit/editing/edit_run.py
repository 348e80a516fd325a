"""The edits of an audit: the loaded model, the edited models, and the measures of the edits and of the weights.

    run = EditRun(settings, AnswerLogs(store), crew, stages)
    run.edited()              # the edited models, as patches
    run.integrity.done        # False: nothing is computed before it is called

Measures are stored in the answer log of their model state, so a later run of the same state computes nothing.
"""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import asdict
from functools import cached_property, partial
from typing import Any

from audit.answering.answers import AnswerLogs, Reuse
from audit.answering.crew import Crew
from audit.editing.changes import Changes, changes_of
from audit.editing.steps import EditedModel
from audit.engine.known_model import KnownModel
from audit.measures.edit_probes import EditProbe, EditReply, ask_edits, edit_probes
from audit.measures.edit_success import EditScores, score_edits
from audit.measures.integrity import Integrity, IntegrityLimits, fixed_texts, measure_integrity, perplexity, worst_of
from audit.measures.locality_topics import unrelated_texts
from audit.models.fingerprints import content_fingerprint, weights_fingerprint
from audit.models.loading import load_language_model
from audit.models.patch_changes import equals_base
from audit.models.patches import Patch, originals_kept
from audit.progress import Once, Progress, Stages
from audit.settings.options import AuditSettings
from audit.store.answer_log import AnswerLog

REPLY_VERSION = 2  # of stored replies to probes; those of version 1 have no log-probabilities, and are not found


class EditRun:
    """The edits of one audit. Calling a member computes its value once; `done` says whether that has happened.

    Args:
        settings: which model, and how it is edited.
        logs: keep replies and measures between runs; `logs.store` keeps the steps of a plan.
        crew: the processes that share the work.
        stages: time and show the work.
        changes: what is done to the model; by default that of the settings.
        known: the model, if it is loaded already.
    """

    def __init__(
        self,
        settings: AuditSettings,
        logs: AnswerLogs,
        crew: Crew,
        stages: Stages,
        *,
        changes: Changes | None = None,
        known: KnownModel | None = None,
    ) -> None:
        self.settings = settings
        self.logs = logs
        self.crew = crew
        self.stages = stages
        self.changes = Once(lambda: changes or changes_of(settings, logs.store))
        self.known = Once(lambda: known or self._load())
        self.summary = Once(lambda: self.changes().summary(self.known()))
        self.edited = Once(self._edit)
        self.reuse = Once(self._reuse)
        self.soundness = Once(lambda: Soundness(self.known(), self.texts(), logs, crew, stages))
        self.texts = Once(lambda: fixed_texts(settings.model))
        self.unrelated = Once(lambda: unrelated_texts(settings.editor_config.get("covariance"), self.texts()))
        self.unchanged = Once(lambda: sum(map(self.soundness().equals_base, self.patches)))
        self.integrity = Once(lambda: self.soundness().worst(self.patches))
        self.scores = Once(self._score)

    @property
    def patches(self) -> tuple[Patch, ...]:
        """The patches of the edited models."""
        return tuple(model.patch for model in self.edited())

    def restored(self) -> bool:
        """Whether the weights are those that were loaded, bit for bit, in every process of the crew."""
        known = self.known()
        return all(self.crew.gather(lambda: weights_fingerprint(known.lm) == known.weights))

    def _load(self) -> KnownModel:
        self.changes().prepare()  # a wrong edit count is found sooner than a model is loaded
        wanted = self.settings
        with self.stages("loading"):
            known = KnownModel.of(
                load_language_model(
                    wanted.model,
                    revision=wanted.revision,
                    device=wanted.device,
                    dtype=wanted.dtype,
                    store=self.logs.store,
                )
            )
        self.changes().fit(known)
        return known

    def _edit(self) -> tuple[EditedModel, ...]:
        with self.stages("editing", f"{self.summary().method} edits") as done:
            models = self.crew.run_in_first_then_others(lambda: self.changes().models(self.known(), done))
        self.crew.agree("the patches that they hold", [model.patch.fingerprint for model in models])
        return models

    def _reuse(self) -> Reuse | None:
        """What the edited models reuse from the base model and from each other."""
        return Reuse.of(self.known().lm, self.patches) if self.settings.reuse else None

    def _score(self) -> EditScores:
        edited = self.edited()
        with self.stages("edit scores", "asking about the edits") as done:
            return score_edits_of(self.known(), edited, self.logs, done, self.crew)


def score_edits_of(
    known: KnownModel, models: Sequence[EditedModel], logs: AnswerLogs, progress: Progress, crew: Crew
) -> EditScores:
    """The scores of the edits; each request is put to the base model and to the edited model that holds it."""
    probes = {model: edit_probes(model.requests) for model in models}
    everything = tuple(dict.fromkeys(probe for some in probes.values() for probe in some))
    total = 2 * len(everything)
    done = 0

    def further(count: int, _: int) -> None:
        progress(done + count, total)

    def replies_of(patch: Patch | None, some: Sequence[EditProbe]) -> dict[EditProbe, EditReply]:
        shares = crew.gather(lambda: _replies(known, patch, crew.share(some), logs.of(known, patch), further))
        replies = {probe: reply for share in shares for probe, reply in share.items()}
        return {probe: replies[probe] for probe in some}

    base = replies_of(None, everything)
    done = len(everything)
    edited: dict[EditProbe, EditReply] = {}
    immediate: dict[EditProbe, EditReply] = {}
    for model, some in probes.items():
        edited |= replies_of(model.patch, some)
        immediate |= model.immediate
        done += len(some)
    return score_edits(base, edited, immediate or None)


class Soundness:
    """The integrity of edited models; each is measured at the first request, by the first process of a crew."""

    def __init__(self, known: KnownModel, texts: Sequence[str], logs: AnswerLogs, crew: Crew, stages: Stages) -> None:
        """`texts` are those whose perplexity is measured."""
        self._known, self._texts, self._logs, self._crew, self._stages = known, texts, logs, crew, stages
        self._measured: dict[Patch, Integrity] = {}

    def of(self, patch: Patch) -> Integrity:
        """The integrity of the model with this patch."""
        if patch not in self._measured:
            with self._stages("integrity", "integrity"):
                self._measured[patch] = self._crew.run_in_first(lambda: self._measure(patch))
        return self._measured[patch]

    def worst(self, patches: Sequence[Patch]) -> Integrity:
        """The integrity of the worst of several models."""
        return worst_of([self.of(patch) for patch in patches])

    def equals_base(self, patch: Patch) -> bool:
        """Whether the model with this patch is the base model."""
        log, measure = self._logs.of(self._known, patch), partial(equals_base, self._known.lm, patch)
        found: bool = self._crew.run_in_first(lambda: _kept(log, ["equals the base model"], measure))
        return found

    @cached_property
    def _base(self) -> float:
        measure = partial(perplexity, self._known.lm, self._texts)
        found: float = _kept(self._logs.of(self._known), ["perplexity", *self._texts], measure)
        return found

    def _measure(self, patch: Patch) -> Integrity:
        lm, base, texts = self._known.lm, self._base, self._texts

        def measure() -> dict[str, Any]:
            with originals_kept(lm) as originals:
                patch.write(lm, originals)
                return asdict(measure_integrity(lm, originals, texts, patch=patch, base_perplexity=base))

        plain = dict(_kept(self._logs.of(self._known, patch), ["integrity", base, *texts], measure))
        return Integrity(**{**plain, "limits": IntegrityLimits(**plain["limits"])})


def _replies(
    known: KnownModel,
    patch: Patch | None,
    probes: Sequence[EditProbe],
    log: AnswerLog | None,
    progress: Progress,
) -> dict[EditProbe, EditReply]:
    """The replies of the model with the patch; it is asked only what its log does not hold."""
    held = {} if log is None else log.known()
    keys = {
        probe: content_fingerprint(["edit", REPLY_VERSION, probe.prompt, list(probe.answers), probe.rival])
        for probe in probes
    }
    missing = [probe for probe in probes if keys[probe] not in held]
    fresh: dict[EditProbe, EditReply] = {}
    if missing:
        with nullcontext() if patch is None else patch.applied(known.lm):
            fresh = ask_edits(known.lm, missing, progress=progress)
        if log is not None:
            log.add({keys[probe]: list(asdict(reply).values()) for probe, reply in fresh.items()})
    return {probe: fresh.get(probe) or _reply(held[keys[probe]]) for probe in probes}


def _reply(plain: Sequence[Any]) -> EditReply:
    text, predictions, token_hits, log_probability, rival_log_probability = plain
    return EditReply(text, tuple(predictions), tuple(token_hits), log_probability, rival_log_probability)


def _kept(log: AnswerLog | None, name: Sequence[Any], measure: Callable[[], Any]) -> Any:
    """The value that the log holds under this name; if there is none, it is measured and added."""
    key = content_fingerprint(list(name))
    held = {} if log is None else log.known()
    if key in held:
        return held[key]
    value = measure()
    if log is not None:
        log.add({key: value})
    return value
