"""Asking a model an ability's items: prompts in, raw output of the engine, parsed answers and scores out.

Only the raw output is ever kept, under the fingerprints of the question and of the model's state; so a better parser or
metric reads old answers anew, and other weights never get them. Every batch is kept as it finishes.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict

from audit.abilities.contract import Ability, Answers, Item
from audit.answering.reuse import Reuse
from audit.answering.scores import Raw, read_raw
from audit.engine.drafts import write_from_drafts
from audit.engine.generation import GeneratedText, write_answers
from audit.engine.likelihoods import rank
from audit.models.fingerprints import content_fingerprint
from audit.models.language_model import LanguageModel
from audit.models.patches import Patch
from audit.progress import Progress
from audit.store.answer_log import AnswerLog


def ask(
    lm: LanguageModel,
    ability: Ability,
    items: Sequence[Item],
    *,
    patch: Patch | None = None,
    log: AnswerLog | None = None,
    progress: Progress | None = None,
    reuse: Reuse | None = None,
) -> Answers:
    """Ask the model, with `patch` applied, what its log does not hold yet, and read all answers.

    `log` is that of the model's state with the patch (`KnownModel.state`); each batch is added as it finishes. `reuse`
    is what the models of the plan share; the base model is asked first.
    """
    questions = [question_fingerprint(ability, item) for item in items]
    answers: dict[str, Raw] = {}
    if log is not None:
        held = log.known()
        answers = {question: held[question] for question in questions if question in held}
    missing = {question: item for question, item in zip(questions, items, strict=True) if question not in answers}
    from_store = sum(question in answers for question in questions)
    if missing:
        names = list(missing)

        def answered(fresh: Mapping[int, Raw]) -> None:
            batch = {names[number]: answer for number, answer in fresh.items()}
            answers.update(batch)
            if log is not None:
                log.add(batch)

        def further(done: int, total: int) -> None:
            if progress is not None:
                progress(from_store + done * len(missing) // total, from_store + len(missing))

        with nullcontext() if patch is None else patch.applied(lm):
            _ask(lm, ability, missing, answered, further, patch, reuse)
    if reuse is not None and patch is None and ability.decoding is not None:
        reuse.learn(answers)
    return read_raw(ability, items, [answers[question] for question in questions], from_store)


def question_fingerprint(ability: Ability, item: Item) -> str:
    """sha256 over what the engine is asked: the prompt, and the choices or how to decode."""
    decoding = None if ability.decoding is None else asdict(ability.decoding)
    return content_fingerprint([ability.prompt(item), list(item.choices), decoding])


def _ask(
    lm: LanguageModel,
    ability: Ability,
    asked: Mapping[str, Item],
    answered: Callable[[Mapping[int, Raw]], None],
    progress: Progress,
    patch: Patch | None,
    reuse: Reuse | None,
) -> None:
    """Hand the raw output of every batch to `answered`, by number of the item; `asked` names each by its question."""
    prompts = [ability.prompt(item) for item in asked.values()]
    if ability.decoding is None:
        forward = None if reuse is None else reuse.forward(lm, patch)
        choices = [item.choices for item in asked.values()]
        rank(lm, prompts, choices, progress=progress, on_batch=answered, forward=forward)
        return

    def written(fresh: Mapping[int, GeneratedText]) -> None:
        answered({number: {"text": one.text, "ids": list(one.ids)} for number, one in fresh.items()})

    if reuse is None or patch is None:
        write_answers(lm, prompts, ability.decoding, progress=progress, on_batch=written)
        return
    drafts, lower, counts = reuse.drafts(list(asked)), reuse.lower, reuse.counts
    write_from_drafts(
        lm, prompts, drafts, ability.decoding, lower=lower, counts=counts, progress=progress, on_batch=written
    )
