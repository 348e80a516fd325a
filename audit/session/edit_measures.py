"""What became of the edits and of the weights: the edits' own scores and the integrity of every edited model.

What was measured on a model state is kept beside its answers, so that a later run of the same state asks nothing.
"""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import asdict
from typing import Any

from audit.answer_log import AnswerLog
from audit.measures.edit_success import EditQuestion, EditReply, EditScores, ask_edits, edit_questions, score_edits
from audit.measures.integrity import Integrity, IntegrityLimits, measure_integrity, perplexity, worst_of
from audit.models.fingerprints import content_fingerprint
from audit.models.patches import Patch, originals_kept
from audit.session.asking import KnownModel
from audit.session.crew import Crew
from audit.session.editing import EditedModel

Progress = Callable[[int, int], None]
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


def measure_integrity_of(
    known: KnownModel, models: Sequence[EditedModel], texts: Sequence[str], log_of: LogOf
) -> Integrity:
    """Whether the edited models are sound; of several, the worst. `texts` is what perplexity is measured on."""
    base = _kept(log_of(None), ["perplexity", *texts], lambda: perplexity(known.lm, texts))
    measured: list[Integrity] = []
    for model in models:

        def measure(patch: Patch = model.patch) -> dict[str, Any]:
            with originals_kept(known.lm) as originals:
                patch.write(known.lm, originals)
                found = measure_integrity(known.lm, originals, texts, patch=patch, base_perplexity=base)
            return asdict(found)

        plain = dict(_kept(log_of(model.patch), ["integrity", base, *texts], measure))
        measured.append(Integrity(**{**plain, "limits": IntegrityLimits(**plain["limits"])}))
    return worst_of(measured)


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
