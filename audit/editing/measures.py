"""What became of the edits and of the weights: the edits' own scores and the integrity of every edited model.

What was measured on a model state is kept beside its answers, so that a later run of the same state asks nothing.
"""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import asdict
from functools import cached_property, partial
from typing import Any

from audit.answering.crew import Crew
from audit.editing.steps import EditedModel
from audit.engine.known_model import KnownModel
from audit.measures.edit_success import EditQuestion, EditReply, EditScores, ask_edits, edit_questions, score_edits
from audit.measures.integrity import Integrity, IntegrityLimits, measure_integrity, perplexity, worst_of
from audit.models.fingerprints import content_fingerprint, weights_fingerprint
from audit.models.patches import Patch, originals_kept
from audit.progress import Progress, Stages
from audit.reports.rows import EditScore, IntegrityRow
from audit.store.answer_log import AnswerLog

LogOf = Callable[[Patch | None], AnswerLog | None]  # the answers kept for the model with a patch


def score_edits_of(
    known: KnownModel, models: Sequence[EditedModel], log_of: LogOf, progress: Progress, crew: Crew
) -> EditScores:
    """The edits' own scores; each request is asked of the model that holds it, by the process whose share it is."""
    questions = {model: edit_questions(model.requests) for model in models}
    everything = tuple(dict.fromkeys(question for asked in questions.values() for question in asked))
    total = 2 * len(everything)
    done = 0

    def further(count: int, _: int) -> None:
        progress(done + count, total)

    def asked_by_crew(patch: Patch | None, questions: Sequence[EditQuestion]) -> dict[EditQuestion, EditReply]:
        shares = crew.gather(lambda: _replies(known, patch, crew.share(questions), log_of(patch), further))
        replies = {question: reply for share in shares for question, reply in share.items()}
        return {question: replies[question] for question in questions}

    base = asked_by_crew(None, everything)
    done = len(everything)
    edited: dict[EditQuestion, EditReply] = {}
    immediate: dict[EditQuestion, EditReply] = {}
    for model, asked in questions.items():
        edited |= asked_by_crew(model.patch, asked)
        immediate |= model.immediate
        done += len(asked)
    return score_edits(base, edited, immediate or None)


def edit_score_rows(scores: EditScores) -> tuple[EditScore, ...]:
    """The edits' own scores as a report holds them; what no request can measure is left out."""
    return tuple(
        EditScore(measure, protocol, rate.value, rate.n, rate.lower, rate.upper)
        for measure, protocol, rate in scores.entries()
        if rate is not None
    )


class Soundness:
    """The integrity of edited models: each is measured when it is first asked for, and once; of a crew, by one."""

    def __init__(self, known: KnownModel, texts: Sequence[str], log_of: LogOf, crew: Crew, stages: Stages) -> None:
        """`texts` is what perplexity is measured on."""
        self._known, self._texts, self._log_of, self._crew, self._stages = known, texts, log_of, crew, stages
        self._measured: dict[EditedModel, Integrity] = {}

    def of(self, model: EditedModel) -> Integrity:
        """The integrity of one of them."""
        if model not in self._measured:
            with self._stages("integrity", "integrity"):
                self._measured[model] = self._crew.from_first(lambda: self._measure(model.patch))
        return self._measured[model]

    def worst(self, models: Sequence[EditedModel]) -> Integrity:
        """The integrity of the worst."""
        return worst_of([self.of(model) for model in models])

    @cached_property
    def _base(self) -> float:
        measure = partial(perplexity, self._known.lm, self._texts)
        found: float = _kept(self._log_of(None), ["perplexity", *self._texts], measure)
        return found

    def _measure(self, patch: Patch) -> Integrity:
        lm, base, texts = self._known.lm, self._base, self._texts

        def measure() -> dict[str, Any]:
            with originals_kept(lm) as originals:
                patch.write(lm, originals)
                return asdict(measure_integrity(lm, originals, texts, patch=patch, base_perplexity=base))

        plain = dict(_kept(self._log_of(patch), ["integrity", base, *texts], measure))
        return Integrity(**{**plain, "limits": IntegrityLimits(**plain["limits"])})


def weights_restored(known: KnownModel, crew: Crew) -> IntegrityRow:
    """The check that the weights are what they were when they were loaded, in every process of a crew."""
    same = all(crew.gather(lambda: weights_fingerprint(known.lm) == known.weights))
    are = "are what they were before it, bit for bit" if same else "differ: a patch was not taken back"
    return IntegrityRow("weights restored", same, same, f"After the run the weights {are}.")


def _replies(
    known: KnownModel,
    patch: Patch | None,
    questions: Sequence[EditQuestion],
    log: AnswerLog | None,
    progress: Progress,
) -> dict[EditQuestion, EditReply]:
    """What the model with the patch says, asked only where its log does not know."""
    held = {} if log is None else log.known()
    keys = {question: content_fingerprint(["edit", question.prompt, question.answer]) for question in questions}
    missing = [question for question in questions if keys[question] not in held]
    fresh: dict[EditQuestion, EditReply] = {}
    if missing:
        with nullcontext() if patch is None else patch.applied(known.lm):
            fresh = ask_edits(known.lm, missing, progress=progress)
        if log is not None:
            log.add({keys[question]: list(asdict(reply).values()) for question, reply in fresh.items()})
    return {question: fresh.get(question) or _reply(held[keys[question]]) for question in questions}


def _reply(plain: Sequence[Any]) -> EditReply:
    text, predictions, token_hits = plain
    return EditReply(text, tuple(predictions), tuple(token_hits))


def _kept(log: AnswerLog | None, question: Sequence[Any], measure: Callable[[], Any]) -> Any:
    """What the log holds for the question, or else what is measured now and added."""
    key = content_fingerprint(list(question))
    held = {} if log is None else log.known()
    if key in held:
        return held[key]
    answer = measure()
    if log is not None:
        log.add({key: answer})
    return answer
