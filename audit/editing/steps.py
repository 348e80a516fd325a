"""Carrying out an edit plan: the models that it leads to, as patches over the untouched one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from audit.editing.plan_folder import KeptStep, PlanFolder
from audit.editors.contract import Editor, RemembersSteps
from audit.editors.restraints import Restraint
from audit.edits.plan import EditPlan
from audit.edits.requests import EditRequest
from audit.measures.edit_success import REWRITE, EditQuestion, EditReply, ask_edits, edit_questions
from audit.models.language_model import LanguageModel
from audit.models.patches import ModulePatch, Patch, PatchSequence, WeightPatch, originals_kept, without_replaced
from audit.progress import Progress

Steps = Sequence[tuple[EditRequest, ...]]


@dataclass(frozen=True, eq=False)
class EditedModel:
    """A patch, the requests it holds, and what the model said to each right after its own step (if steps piled up).

    `resumed` is the number of its requests whose steps an interrupted run had finished.
    """

    patch: Patch
    requests: tuple[EditRequest, ...]
    immediate: Mapping[EditQuestion, EditReply] = field(default_factory=dict)
    resumed: int = 0


@dataclass(frozen=True, eq=False)
class RestrainedEditor:
    """An editor at work on a model, and what holds its changes back.

    `base` is the untouched model's weights' fingerprint; each patch that was made for that model tells it.
    """

    lm: LanguageModel
    editor: Editor
    restraint: Restraint | None = None
    base: str | None = None

    def after_edit(
        self, step: Sequence[EditRequest], progress: Progress | None = None, *, untouched: bool = True
    ) -> Patch:
        """The restrained patch of one step; `untouched` says whether the model is now as it was loaded."""
        patch = self.editor.edit(self.lm, step, progress)
        if self.base is not None and (untouched or isinstance(patch, ModulePatch)):  # modules replace earlier ones
            patch = made_for(self.base, patch)
        return patch if self.restraint is None else self.restraint.after_edit(self.lm, patch)

    def after_plan(self, patch: Patch) -> Patch:
        """What is left of a whole plan's patch."""
        return patch if self.restraint is None else self.restraint.after_plan(self.lm, patch)


def made_for(base: str, patch: Patch) -> Patch:
    """The same patch, telling the weights' fingerprint of the model that it was made for (a sequence: its first)."""
    if isinstance(patch, PatchSequence):
        return PatchSequence((*(made_for(base, first) for first in patch.patches[:1]), *patch.patches[1:]))
    if isinstance(patch, WeightPatch | ModulePatch):
        return replace(patch, meta={**patch.meta, "base": base})
    return patch  # somebody else's kind


def carry_out(
    restrained_editor: RestrainedEditor,
    plan: EditPlan,
    requests: Sequence[EditRequest],
    progress: Progress,
    *,
    folder: PlanFolder | None = None,
    versions: Mapping[str, str] | None = None,
) -> tuple[EditedModel, ...]:
    """The models that the plan leads to: one, or one a request under instance-single. The model is left as it was.

    With a `folder`, what it holds of this very plan is not done again, each step is kept there as it finishes, and a
    run that finds another at the same plan waits for its patch. `versions` are told in the finished plan's description.
    """
    steps = plan.steps(requests)
    if folder is None:
        return _models(restrained_editor, plan, steps, progress, None)
    with folder.alone():
        kept = folder.finished()
        if kept is not None:
            return edited_models(kept, plan, requests)
        folder.begin(requests)
        models = _models(restrained_editor, plan, steps, progress, folder)
        folder.finish([(KeptStep(model.patch, model.immediate), model.requests) for model in models], versions or {})
        return models


def edited_models(kept: Sequence[KeptStep], plan: EditPlan, requests: Sequence[EditRequest]) -> tuple[EditedModel, ...]:
    """The models of a finished plan, as a folder gave them back."""
    parts = plan.steps(requests) if plan.mode == "instance-single" else (tuple(requests),)
    return tuple(
        EditedModel(step.patch, part, step.immediate)
        for step, part in zip(kept, parts, strict=True)
        if step.patch is not None
    )


def _models(
    restrained_editor: RestrainedEditor, plan: EditPlan, steps: Steps, progress: Progress, folder: PlanFolder | None
) -> tuple[EditedModel, ...]:
    if len(steps) == 1:
        folder = None  # nothing to go on with before it is finished
    if plan.sequential:
        return (_pile_up(restrained_editor, steps, progress, folder),)
    return _one_by_one(restrained_editor, steps, progress, folder)


def _one_by_one(
    restrained_editor: RestrainedEditor, steps: Steps, progress: Progress, folder: PlanFolder | None
) -> tuple[EditedModel, ...]:
    """Each step edits the untouched model."""
    count = sum(map(len, steps))
    made = [
        EditedModel(kept.patch, step, resumed=len(step))
        for kept, step in zip(folder.steps() if folder else (), steps, strict=False)
        if kept.patch is not None
    ]
    if made:
        progress(sum(len(one.requests) for one in made), count)
    for number, step in enumerate(steps[len(made) :], start=len(made)):
        patch = restrained_editor.after_plan(restrained_editor.after_edit(step, progress if len(steps) == 1 else None))
        made.append(EditedModel(patch, step))
        if folder is not None:
            folder.keep(number, KeptStep(patch, {}), step)
        progress(sum(len(one.requests) for one in made), count)
    return tuple(made)


def _pile_up(
    restrained_editor: RestrainedEditor, steps: Steps, progress: Progress, folder: PlanFolder | None
) -> EditedModel:
    """Each step edits the model that the one before left, and is asked at once whether it took."""
    lm, editor = restrained_editor.lm, restrained_editor.editor
    remembers = editor if isinstance(editor, RemembersSteps) else None
    requests = tuple(request for step in steps for request in step)
    patches: list[Patch] = []
    immediate: dict[EditQuestion, EditReply] = {}
    kept = folder.steps() if folder else ()
    done = resumed = sum(map(len, steps[: len(kept)]))
    if kept:
        progress(done, len(requests))
    with originals_kept(lm) as originals:
        if remembers:
            remembers.forget(lm)
        if 0 < len(kept) < len(steps):
            # Editors take prefix contexts and covariances from the model as they first meet it, and that is the
            # untouched one: the first step is made again, and thrown away.
            restrained_editor.after_edit(steps[0])
        for number, step in enumerate(steps):
            if number < len(kept):
                patch, replies = kept[number].patch, kept[number].immediate
                if patch is not None:
                    patch.write(lm, originals)
            else:
                patch = restrained_editor.after_edit(step, untouched=number == 0)
                patch.write(lm, originals)
                replies = ask_edits(lm, edit_questions(step, kinds=(REWRITE,)))
                if folder is not None:
                    folder.keep(number, KeptStep(patch, replies), step)
                    if remembers is None and patches and len(without_replaced([patches[-1], patch])) == 1:
                        folder.drop_patch(number - 1)
                done += len(step)
                progress(done, len(requests))
            if remembers:
                remembers.remember(lm, step)
            if patch is not None:
                patches.append(patch)
            immediate |= replies
    patch = restrained_editor.after_plan(PatchSequence(without_replaced(patches)))
    return EditedModel(patch, requests, immediate, resumed)
