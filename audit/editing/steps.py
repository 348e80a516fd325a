"""The steps of an edit plan, and the edited models they produce, as patches of the base model."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from audit.editing.plan_folder import KeptStep, PlanFolder
from audit.editors.contract import Editor, RemembersSteps
from audit.editors.restraints import Restraint
from audit.edits.plan import EditPlan
from audit.edits.requests import EditRequest
from audit.measures.edit_probes import REWRITE, EditProbe, EditReply, ask_edits, edit_probes
from audit.models.language_model import LanguageModel
from audit.models.patches import ModulePatch, Patch, PatchSequence, WeightPatch, originals_kept, without_replaced
from audit.progress import Progress

Steps = Sequence[tuple[EditRequest, ...]]


@dataclass(frozen=True, eq=False)
class EditedModel:
    """A patch and the requests it holds.

    `immediate` are the replies to the requests right after their own step, for a sequential plan only. `resumed` counts
    the requests whose steps an interrupted run had finished.
    """

    patch: Patch
    requests: tuple[EditRequest, ...]
    immediate: Mapping[EditProbe, EditReply] = field(default_factory=dict)
    resumed: int = 0


def caveats_of(models: Sequence[EditedModel]) -> tuple[str, ...]:
    """What editors say of their own edits: the meta of the patches under names that end in ".caveat", each once."""
    found: dict[str, None] = {}
    for model in models:
        parts = model.patch.patches if isinstance(model.patch, PatchSequence) else (model.patch,)
        for part in parts:
            if isinstance(part, WeightPatch | ModulePatch):
                found.update((text, None) for name, text in part.meta.items() if name.endswith(".caveat"))
    return tuple(found)


@dataclass(frozen=True, eq=False)
class RestrainedEditor:
    """An editor for one model, with an optional restraint on its patches.

    `base` is the fingerprint of the base model's weights, which is recorded in each patch made for that model.
    """

    lm: LanguageModel
    editor: Editor
    restraint: Restraint | None = None
    base: str | None = None

    def after_edit(
        self, step: Sequence[EditRequest], progress: Progress | None = None, *, untouched: bool = True
    ) -> Patch:
        """The restrained patch of one step; `untouched` says whether the model has no edits yet."""
        patch = self.editor.edit(self.lm, step, progress)
        if self.base is not None and (untouched or isinstance(patch, ModulePatch)):  # modules replace earlier ones
            patch = made_for(self.base, patch)
        return patch if self.restraint is None else self.restraint.after_edit(self.lm, patch)

    def after_plan(self, patch: Patch) -> Patch:
        """The patch of the whole plan, after the restraint."""
        return patch if self.restraint is None else self.restraint.after_plan(self.lm, patch)


def made_for(base: str, patch: Patch) -> Patch:
    """The same patch with the fingerprint of the model it was made for; in a sequence, the first patch gets it."""
    if isinstance(patch, PatchSequence):
        return PatchSequence((*(made_for(base, first) for first in patch.patches[:1]), *patch.patches[1:]))
    if isinstance(patch, WeightPatch | ModulePatch):
        return replace(patch, meta={**patch.meta, "base": base})
    return patch  # a third-party class


def carry_out(
    restrained_editor: RestrainedEditor,
    plan: EditPlan,
    requests: Sequence[EditRequest],
    progress: Progress,
    *,
    folder: PlanFolder | None = None,
    versions: Mapping[str, str] | None = None,
) -> tuple[EditedModel, ...]:
    """The edited models of the plan: one, or one for each request under instance-single.

    The weights of the model are left as they were. With a `folder`, steps that it holds are not repeated, and each new
    step is stored there as it finishes. If another run works on the same plan, this one waits for its patch. `versions`
    go into the description of the finished plan.
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
    """The models of a finished plan, from the steps that its folder holds."""
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
        folder = None  # a single step cannot be resumed
    if plan.sequential:
        return (_sequential(restrained_editor, steps, progress, folder),)
    return _single(restrained_editor, steps, progress, folder)


def _single(
    restrained_editor: RestrainedEditor, steps: Steps, progress: Progress, folder: PlanFolder | None
) -> tuple[EditedModel, ...]:
    """Each step edits the base model."""
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


def _sequential(
    restrained_editor: RestrainedEditor, steps: Steps, progress: Progress, folder: PlanFolder | None
) -> EditedModel:
    """Each step edits the model of the step before; the replies to its requests are collected right after it."""
    lm, editor = restrained_editor.lm, restrained_editor.editor
    remembers = editor if isinstance(editor, RemembersSteps) else None
    requests = tuple(request for step in steps for request in step)
    patches: list[Patch] = []
    immediate: dict[EditProbe, EditReply] = {}
    kept = folder.steps() if folder else ()
    done = resumed = sum(map(len, steps[: len(kept)]))
    if kept:
        progress(done, len(requests))
    with originals_kept(lm) as originals:
        if remembers:
            remembers.forget(lm)
        if 0 < len(kept) < len(steps):
            # Editors compute prefix contexts and covariances on the first model they get, which must be the base model.
            # So the first step is repeated, and its patch is discarded.
            restrained_editor.after_edit(steps[0])
        for number, step in enumerate(steps):
            if number < len(kept):
                patch, replies = kept[number].patch, kept[number].immediate
                if patch is not None:
                    patch.write(lm, originals)
            else:
                patch = restrained_editor.after_edit(step, untouched=number == 0)
                patch.write(lm, originals)
                replies = ask_edits(lm, edit_probes(step, kinds=(REWRITE,)))
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
