"""Carrying out an edit plan, and measuring the edits themselves in the models that came of it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from audit.editors.contract import Editor, RemembersSteps
from audit.edits.plan import EditPlan
from audit.edits.requests import EditRequest
from audit.measures.edit_success import (
    REWRITE,
    EditQuestion,
    EditReply,
    EditScores,
    ask_edits,
    edit_questions,
    score_edits,
)
from audit.measures.integrity import Integrity, measure_integrity, perplexity, worst_of
from audit.models.language_model import LanguageModel
from audit.models.patches import Patch, PatchSequence, originals_kept, without_replaced

Progress = Callable[[int, int], None]


@dataclass(frozen=True, eq=False)
class EditedModel:
    """A patch, the requests it holds, and what the model said to each right after its own step (if steps piled up)."""

    patch: Patch
    requests: tuple[EditRequest, ...]
    immediate: dict[EditQuestion, EditReply] = field(default_factory=dict)


def apply_plan(
    lm: LanguageModel, editor: Editor, plan: EditPlan, requests: Sequence[EditRequest], progress: Progress
) -> tuple[EditedModel, ...]:
    """The models that the plan leads to: one, or one a request under instance-single. `lm` is left as it was."""
    steps = plan.steps(requests)
    if plan.sequential:
        return (_pile_up(lm, editor, steps, progress),)
    made: list[EditedModel] = []
    for step in steps:
        patch = editor.edit(lm, step, progress if len(steps) == 1 else None)
        made.append(EditedModel(patch, step))
        progress(sum(len(one.requests) for one in made), len(requests))
    return tuple(made)


def score_edits_of(lm: LanguageModel, models: Sequence[EditedModel], progress: Progress) -> EditScores:
    """The edits' own scores; each request is asked of the model that holds it."""
    questions = {model: edit_questions(model.requests) for model in models}
    everything = tuple(dict.fromkeys(question for asked in questions.values() for question in asked))
    total = 2 * len(everything)
    done = 0

    def further(count: int, _: int) -> None:
        progress(done + count, total)

    base = ask_edits(lm, everything, progress=further)
    done = len(everything)
    edited: dict[EditQuestion, EditReply] = {}
    immediate: dict[EditQuestion, EditReply] = {}
    for model, asked in questions.items():
        with model.patch.applied(lm):
            edited |= ask_edits(lm, asked, progress=further)
        immediate |= model.immediate
        done += len(asked)
    return score_edits(base, edited, immediate or None)


def measure_integrity_of(lm: LanguageModel, models: Sequence[EditedModel], texts: Sequence[str]) -> Integrity:
    """Whether the edited models are sound; of several, the worst. `texts` is what perplexity is measured on."""
    base = perplexity(lm, texts)
    measured: list[Integrity] = []
    for model in models:
        with originals_kept(lm) as originals:
            model.patch.write(lm, originals)
            measured.append(measure_integrity(lm, originals, texts, base_perplexity=base))
    return worst_of(measured)


def _pile_up(
    lm: LanguageModel, editor: Editor, steps: Sequence[tuple[EditRequest, ...]], progress: Progress
) -> EditedModel:
    """Each step edits the model that the one before left, and is asked at once whether it took."""
    patches: list[Patch] = []
    immediate: dict[EditQuestion, EditReply] = {}
    requests = tuple(request for step in steps for request in step)
    done = 0
    with originals_kept(lm) as originals:
        if isinstance(editor, RemembersSteps):
            editor.forget(lm)
        for step in steps:
            patch = editor.edit(lm, step)
            patch.write(lm, originals)
            if isinstance(editor, RemembersSteps):
                editor.remember(lm, step)
            patches.append(patch)
            immediate |= ask_edits(lm, edit_questions(step, kinds=(REWRITE,)))
            done += len(step)
            progress(done, len(requests))
    return EditedModel(PatchSequence(without_replaced(patches)), requests, immediate)
