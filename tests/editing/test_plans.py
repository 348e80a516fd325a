"""Edit plans that are interrupted, resumed, stored and reused give bit for bit what an undisturbed run gives."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from filelock import FileLock

from audit import Audit
from audit.editing.plan_folder import ABANDONED_AFTER, KeptStep, PlanFolder
from audit.editing.steps import EditedModel, RestrainedEditor, carry_out
from audit.editors.contract import Editor
from audit.editors.restraints import load_restraint
from audit.edits.plan import EditPlan
from audit.edits.requests import EditRequest
from audit.errors import AuditError
from audit.measures.edit_probes import EditProbe, EditReply
from audit.models.fingerprints import content_fingerprint, weights_fingerprint
from audit.models.language_model import LanguageModel
from audit.models.patches import ModulePatch, Patch, PatchSequence, WeightPatch, load_patch
from audit.reports.run_sentences import reuse_sentences
from audit.store.content import Store
from audit.store.files import SetAsideWarning
from tests.fake_editors import Diary, Nudge, Sticker
from tests.small_audit import NAMES, SmallWorld, build
from tests.store.test_files import IRREGULAR, replaced

ROOT = Path(__file__).resolve().parents[2]
REQUESTS = tuple(
    EditRequest(f"case-{number}", NAMES[number % 4], "{} lives in the city of", ("Velden", "Calton")[number % 2])
    for number in range(6)
)
PLANS = {
    "one by one": EditPlan("instance-sequential", 6, 1),
    "in batches": EditPlan("batch-sequential", 6, 2),
    "each alone": EditPlan("instance-single", 6, 1),
}


class StoppedError(Exception):
    """An interruption: Ctrl-C, or a machine that is switched off."""


def interrupted_at(editor: Editor, edit: int) -> Editor:
    """The same editor, which raises in its edit number `edit`."""
    whole = editor.edit

    def breaking(lm: LanguageModel, requests: Sequence[EditRequest], progress: Any = None) -> Patch:
        if editor.edits == edit - 1:  # type: ignore[attr-defined]
            raise StoppedError
        return whole(lm, requests, progress)

    editor.edit = breaking  # type: ignore[method-assign]
    return editor


def no_progress(done: int, total: int) -> None:
    pass


def apply(
    lm: LanguageModel,
    editor: Editor,
    plan: EditPlan,
    folder: PlanFolder | None = None,
    *,
    restraint: str | None = None,
    progress: Callable[[int, int], None] = no_progress,
) -> tuple[EditedModel, ...]:
    held = None if restraint is None else load_restraint(restraint)
    before = weights_fingerprint(lm)
    try:
        return carry_out(RestrainedEditor(lm, editor, held, before), plan, REQUESTS, progress, folder=folder)
    finally:
        assert weights_fingerprint(lm) == before
        assert not lm.attached


def the_folder(lm: LanguageModel, root: Path, *, in_store: bool = True, **more: Any) -> PlanFolder:
    return PlanFolder(root, {"weights": weights_fingerprint(lm), **more}, in_store=in_store)


def said(models: Sequence[EditedModel]) -> list[tuple[str, Mapping[EditProbe, EditReply]]]:
    return [(model.patch.fingerprint, model.immediate) for model in models]


def steps_of(root: Path) -> list[str]:
    return sorted(path.name for path in (root / "steps").glob("*"))


@pytest.mark.parametrize("plan", list(PLANS.values())[:2], ids=list(PLANS)[:2])
@pytest.mark.parametrize(
    ("kind", "restraint"),
    [(Nudge, None), (Diary, None), (Sticker, None), (Nudge, "random:0.4"), (Diary, "rect:0.4"), (Diary, "prune")],
)
def test_an_interrupted_plan_resumes_bit_for_bit(
    kind: type[Nudge], plan: EditPlan, restraint: str | None, tiny_gpt2: LanguageModel, tmp_path: Path
) -> None:
    undisturbed = apply(tiny_gpt2, kind(), plan, restraint=restraint)
    folder = the_folder(tiny_gpt2, tmp_path / "plan")
    with pytest.raises(StoppedError):
        apply(tiny_gpt2, interrupted_at(kind(), 3), plan, folder, restraint=restraint)
    assert steps_of(folder.root) == ["00000", "00001"]
    editor = kind()
    resumed = apply(tiny_gpt2, editor, plan, folder, restraint=restraint)
    assert said(resumed) == said(undisturbed)
    assert editor.edits == len(plan.steps(REQUESTS)) - 2 + 1  # the first step is repeated for the editor
    assert [model.resumed for model in resumed] == [2 * plan.batch_size]
    assert steps_of(folder.root) == []
    assert folder.finished() is not None


def test_models_with_one_edit_each_are_resumed(tiny_gpt2: LanguageModel, tmp_path: Path) -> None:
    plan, folder = PLANS["each alone"], the_folder(tiny_gpt2, tmp_path / "plan")
    undisturbed = apply(tiny_gpt2, Nudge(), plan)
    with pytest.raises(StoppedError):
        apply(tiny_gpt2, interrupted_at(Nudge(), 4), plan, folder)
    editor = Nudge()
    resumed = apply(tiny_gpt2, editor, plan, folder)
    assert said(resumed) == said(undisturbed)
    assert editor.edits == 3
    assert [model.resumed for model in resumed] == [1, 1, 1, 0, 0, 0]


KILLED = """
import os, signal, sys
from pathlib import Path
from tests.fake_editors import Diary
from tests.editing.test_plans import PLANS, apply, the_folder
from tests.tiny_models import build_tiny_gpt2

class Killed(Diary):
    def edit(self, lm, requests, progress=None):
        if self.edits == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().edit(lm, requests, progress)

lm = build_tiny_gpt2()
apply(lm, Killed(), PLANS["one by one"], the_folder(lm, Path(sys.argv[1])))
"""


def test_a_killed_process_leaves_complete_steps(tiny_gpt2: LanguageModel, tmp_path: Path) -> None:
    root = tmp_path / "plan"
    done = subprocess.run([sys.executable, "-c", KILLED, str(root)], cwd=ROOT, capture_output=True, timeout=300)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    assert steps_of(root) == ["00000", "00001"]
    resumed = apply(tiny_gpt2, Diary(), PLANS["one by one"], the_folder(tiny_gpt2, root))
    assert said(resumed) == said(apply(tiny_gpt2, Diary(), PLANS["one by one"]))
    assert resumed[0].resumed == 2


def flip_a_bit(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


@pytest.mark.parametrize(
    ("damage", "left"),
    [
        (lambda steps: flip_a_bit(steps / "00001" / "deltas.safetensors"), 1),
        (lambda steps: flip_a_bit(steps / "00001" / "step.json"), 1),
        (lambda steps: (steps / "00002" / "step.json").unlink(), 2),
        (lambda steps: (steps / "00001" / "patch.json").write_text("{"), 1),
        (lambda steps: (steps / "00001" / "patch.json").unlink(), 1),
        (lambda steps: shutil.rmtree(steps / "00000"), 0),
        (lambda steps: shutil.copytree(steps / "00000", steps / "00002", dirs_exist_ok=True), 2),
        (lambda steps: (steps.parent / "plan.json").write_text("[]"), 0),
        (lambda steps: (steps.parent / "plan.json").unlink(), 0),
        (lambda steps: (steps / ".writing-1").mkdir(), 3),
    ],
    ids="tensors step.json unfinished half lost-patch lost-step copied plan.json no-plan.json abandoned".split(),
)
def test_a_damaged_step_and_later_ones_are_repeated(
    damage: Callable[[Path], None], left: int, tiny_gpt2: LanguageModel, tmp_path: Path
) -> None:
    plan, folder = PLANS["one by one"], the_folder(tiny_gpt2, tmp_path / "plan")
    with pytest.raises(StoppedError):
        apply(tiny_gpt2, interrupted_at(Nudge(), 4), plan, folder)
    damage(folder.root / "steps")
    resumed = apply(tiny_gpt2, Nudge(), plan, folder)
    assert resumed[0].resumed == left
    assert said(resumed) == said(apply(tiny_gpt2, Nudge(), plan))


def test_steps_of_another_plan_are_not_reused(tiny_gpt2: LanguageModel, tmp_path: Path) -> None:
    plan = PLANS["one by one"]
    with pytest.raises(StoppedError):
        apply(tiny_gpt2, interrupted_at(Nudge(), 4), plan, the_folder(tiny_gpt2, tmp_path / "plan", seed=0))
    resumed = apply(tiny_gpt2, Nudge(), plan, the_folder(tiny_gpt2, tmp_path / "plan", seed=1))
    assert resumed[0].resumed == 0


def test_replaced_modules_are_deleted(tiny_gpt2: LanguageModel, tmp_path: Path) -> None:
    plan, folder = PLANS["one by one"], the_folder(tiny_gpt2, tmp_path / "plan")
    with pytest.raises(StoppedError):
        apply(tiny_gpt2, interrupted_at(Sticker(), 5), plan, folder)
    assert [(folder.root / "steps" / name / "patch.json").exists() for name in steps_of(folder.root)] == [0, 0, 0, 1]
    flip_a_bit(folder.root / "steps" / "00003" / "deltas.safetensors")  # so the steps that it replaced are lost too
    resumed = apply(tiny_gpt2, Sticker(), plan, folder)
    assert resumed[0].resumed == 0
    assert said(resumed) == said(apply(tiny_gpt2, Sticker(), plan))


@pytest.mark.parametrize("in_store", [True, False], ids=["store", "folder"])
@pytest.mark.parametrize("kind", [Nudge, Sticker])
@pytest.mark.parametrize("plan", [*PLANS.values(), EditPlan("batch-single", 6, 6)], ids=[*PLANS, "at once"])
def test_a_finished_patch_is_reused(
    in_store: bool, kind: type[Nudge], plan: EditPlan, tiny_gpt2: LanguageModel, tmp_path: Path
) -> None:
    folder = the_folder(tiny_gpt2, tmp_path / "patch", in_store=in_store)
    made = apply(tiny_gpt2, kind(), plan, folder)
    editor = kind()
    taken = apply(tiny_gpt2, editor, plan, folder)
    assert editor.edits == 0
    assert said(taken) == said(made)
    assert [model.requests for model in taken] == [model.requests for model in made]
    described = json.loads((folder.root / "plan.json").read_text(encoding="utf-8"))
    assert [case for model in described["models"] for case in model["case_ids"]] == [r.case_id for r in REQUESTS]
    assert not (folder.root / "steps").exists()
    places = [folder.root / f"{i:05d}" for i in range(6)] if plan.mode == "instance-single" else [folder.root]
    weights = weights_fingerprint(tiny_gpt2)
    assert [load_patch(place, base=weights).fingerprint for place in places] == [m.patch.fingerprint for m in made]
    with pytest.raises(AuditError, match="was made for a model with fingerprint"):
        load_patch(places[0], base="f" * 64)


def test_every_patch_records_the_model_it_was_made_for(tiny_gpt2: LanguageModel) -> None:
    weights = weights_fingerprint(tiny_gpt2)
    alone = [model.patch for model in apply(tiny_gpt2, Nudge(), PLANS["each alone"])]
    assert [patch.meta["base"] for patch in alone if isinstance(patch, WeightPatch)] == [weights] * 6
    (piled,) = apply(tiny_gpt2, Nudge(), PLANS["one by one"])
    assert isinstance(piled.patch, PatchSequence)
    assert [step.meta.get("base") for step in piled.patch.patches] == [weights] + [None] * 5  # type: ignore[attr-defined]
    (attached,) = apply(tiny_gpt2, Sticker(), PLANS["one by one"])
    assert isinstance(attached.patch, PatchSequence)
    (last,) = attached.patch.patches
    assert isinstance(last, ModulePatch)
    assert last.meta["base"] == weights
    (pruned,) = apply(tiny_gpt2, Nudge(), PLANS["one by one"], restraint="rect:0.2")
    assert isinstance(pruned.patch, PatchSequence)
    assert pruned.patch.patches[0].meta["base"] == weights  # type: ignore[attr-defined]


DAMAGED = pytest.mark.parametrize(
    ("damage", "complaint"),
    [
        (lambda root: flip_a_bit(root / "00002" / "deltas.safetensors"), "save it again"),
        (lambda root: (root / "plan.json").write_text("{"), "its plan.json cannot be read; give another folder"),
        (lambda root: (root / "plan.json").unlink(), "it holds other files but no plan.json; give another folder"),
        (lambda root: WeightPatch({}).save(root), "not the one that plan.json names; give another folder"),
    ],
    ids="patch plan.json no-plan.json exchanged".split(),
)


@DAMAGED
def test_a_damaged_patch_is_an_error_and_stays_as_it_is(
    damage: Callable[[Path], None], complaint: str, tiny_gpt2: LanguageModel, tmp_path: Path
) -> None:
    folder = the_folder(tiny_gpt2, tmp_path / "patch", in_store=False)
    apply(tiny_gpt2, Nudge(), PLANS["one by one"], folder)
    damage(folder.root)
    before = contents(folder.root)
    with pytest.raises(AuditError, match=complaint):
        folder.finished()
    with pytest.raises(AuditError, match=complaint):
        apply(tiny_gpt2, Nudge(), PLANS["one by one"], folder)
    assert contents(folder.root) == before


@DAMAGED
def test_a_damaged_patch_in_the_store_is_made_again(
    damage: Callable[[Path], None], complaint: str, tiny_gpt2: LanguageModel, tmp_path: Path
) -> None:
    folder = the_folder(tiny_gpt2, tmp_path / "patch")
    made = apply(tiny_gpt2, Nudge(), PLANS["one by one"], folder)
    damage(folder.root)
    editor = Nudge()
    assert said(apply(tiny_gpt2, editor, PLANS["one by one"], folder)) == said(made)
    assert editor.edits == len(REQUESTS)
    assert folder.finished() is not None


def refuse(*_: object, **__: object) -> None:
    raise PermissionError(errno.EACCES, "Permission denied")


def test_a_store_that_can_only_be_read_gives_its_patches_or_an_error(
    tiny_gpt2: LanguageModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = the_folder(tiny_gpt2, tmp_path / "patch")
    apply(tiny_gpt2, Nudge(), PLANS["one by one"], folder)
    monkeypatch.setattr(os, "utime", refuse)
    monkeypatch.setattr(Path, "unlink", refuse)
    assert folder.finished() is not None
    flip_a_bit(next(folder.root.rglob("deltas.safetensors")))
    with pytest.raises(AuditError, match=r"cannot be stored in .*patch \(Permission denied\); free some space or use"):
        folder.finished()


@pytest.mark.parametrize("kind", IRREGULAR)
@pytest.mark.parametrize("name", ["plan.json", "patch.json", "deltas.safetensors"])
def test_what_is_no_file_in_a_plan_of_the_store_is_moved_aside(
    name: str, kind: str, tiny_gpt2: LanguageModel, tmp_path: Path
) -> None:
    folder = the_folder(tiny_gpt2, tmp_path / "store" / "plans" / "one")
    made = apply(tiny_gpt2, Nudge(), PLANS["one by one"], folder)
    replaced(sorted(folder.root.rglob(name))[0], kind)
    with pytest.warns(SetAsideWarning, match=rf"{name} is .*, not a file"):
        assert folder.finished() is None
    assert said(apply(tiny_gpt2, Nudge(), PLANS["one by one"], folder)) == said(made)
    assert folder.finished() is not None


@pytest.mark.parametrize("kind", [kind for kind in IRREGULAR if kind != "link to a file"])
@pytest.mark.parametrize("name", ["step.json", "patch.json", "deltas.safetensors"])
def test_what_is_no_file_in_a_step_of_the_store_is_moved_aside(
    name: str, kind: str, tiny_gpt2: LanguageModel, tmp_path: Path
) -> None:
    plan, folder = PLANS["one by one"], the_folder(tiny_gpt2, tmp_path / "store" / "plans" / "one")
    with pytest.raises(StoppedError):
        apply(tiny_gpt2, interrupted_at(Nudge(), 4), plan, folder)
    replaced(folder.root / "steps" / "00001" / name, kind)
    with pytest.warns(SetAsideWarning):
        resumed = apply(tiny_gpt2, Nudge(), plan, folder)
    assert resumed[0].resumed == 1
    assert said(resumed) == said(apply(tiny_gpt2, Nudge(), plan))


@pytest.mark.parametrize("kind", [kind for kind in IRREGULAR if kind != "link to a file"])
@pytest.mark.parametrize("name", ["plan.json", "patch.json", "deltas.safetensors"])
def test_what_is_no_file_in_a_folder_of_the_user_is_one_sentence(
    name: str, kind: str, tiny_gpt2: LanguageModel, tmp_path: Path
) -> None:
    folder = the_folder(tiny_gpt2, tmp_path / "a" / "b" / "patch", in_store=False)
    apply(tiny_gpt2, Nudge(), PLANS["one by one"], folder)
    replaced(sorted(folder.root.rglob(name))[0], kind)
    with pytest.raises(AuditError, match=r"cannot be (used|read)|complete patch") as caught:
        folder.finished()
    assert "\n" not in str(caught.value)


def test_a_large_patch_is_not_kept_in_the_store(
    tiny_gpt2: LanguageModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("audit.editing.plan_folder.LARGEST_KEPT", 100)
    folder = the_folder(tiny_gpt2, tmp_path / "patch")
    apply(tiny_gpt2, Nudge(), PLANS["one by one"], folder)
    assert folder.finished() is None
    assert not list(folder.root.rglob("*.safetensors"))


@pytest.mark.parametrize("finished", [True, False])
def test_the_error_about_another_plan_names_what_differs(
    finished: bool, tiny_gpt2: LanguageModel, tmp_path: Path
) -> None:
    plan, root = PLANS["one by one"], tmp_path / "patch"
    mine = the_folder(tiny_gpt2, root, in_store=False, editor="nudge", seed=0)
    if finished:
        apply(tiny_gpt2, Nudge(), plan, mine)
    else:
        with pytest.raises(StoppedError):
            apply(tiny_gpt2, interrupted_at(Nudge(), 3), plan, mine)
    before = contents(root)
    for other, words in (({"seed": 1}, "(seed differs)"), ({"seed": 1, "editor": "rome"}, "(editor, seed differ)")):
        theirs = the_folder(tiny_gpt2, root, in_store=False, **({"editor": "nudge"} | other))
        with pytest.raises(AuditError) as caught:
            apply(tiny_gpt2, Nudge(), plan, theirs)
        assert str(caught.value) == (
            f"--patch {root} cannot be used: it holds the patch of another plan {words}; give another folder, "
            "or delete this one."
        )
    assert contents(root) == before


def test_a_plan_interrupted_at_its_end_is_finished(
    tiny_gpt2: LanguageModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, folder = PLANS["one by one"], the_folder(tiny_gpt2, tmp_path / "patch", in_store=False)

    def breaking(self: PlanFolder, content: Any) -> None:
        if content["finished"]:
            raise StoppedError
        written(self, content)

    written = PlanFolder._write_plan
    monkeypatch.setattr(PlanFolder, "_write_plan", breaking)
    with pytest.raises(StoppedError):
        apply(tiny_gpt2, Nudge(), plan, folder)
    assert folder.finished() is None
    monkeypatch.undo()
    editor = Nudge()
    assert said(apply(tiny_gpt2, editor, plan, folder)) == said(apply(tiny_gpt2, Nudge(), plan))
    assert editor.edits == 0


def contents(root: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in root.rglob("*") if path.is_file() and path.name != ".lock"}


SECOND = (
    KILLED.replace("class Killed", "class Other")
    .replace("self.edits == 2", "False")
    .replace(
        'Killed(), PLANS["one by one"], the_folder(lm, Path(sys.argv[1]))',
        'Diary(), PLANS["one by one"], the_folder(lm, Path(sys.argv[1]), in_store=False)',
    )
)


def test_a_second_run_waits_for_the_patch_of_the_first(tiny_gpt2: LanguageModel, tmp_path: Path) -> None:
    root = tmp_path / "patch"
    root.mkdir()
    waiting = FileLock(root / ".lock")
    waiting.acquire()
    command = [sys.executable, "-c", SECOND, str(root)]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE) as second:
        try:
            with pytest.raises(subprocess.TimeoutExpired):
                second.wait(timeout=0.5)
            waiting.release()
            first = apply(tiny_gpt2, Diary(), PLANS["one by one"], the_folder(tiny_gpt2, root, in_store=False))
            assert second.wait(timeout=300) == 0, second.stderr and second.stderr.read().decode()
        finally:
            second.kill()
    taken = the_folder(tiny_gpt2, root, in_store=False).finished()
    assert taken is not None
    assert [step.patch.fingerprint for step in taken if step.patch] == [model.patch.fingerprint for model in first]


def test_abandoned_plans_are_deleted_from_the_store(tiny_gpt2: LanguageModel, tmp_path: Path) -> None:
    store, plan = Store(tmp_path / "store"), PLANS["one by one"]
    old, fresh, new = (PlanFolder.in_store(store, {"seed": seed}) for seed in range(3))
    for folder in (old, fresh):
        with pytest.raises(StoppedError):
            apply(tiny_gpt2, interrupted_at(Nudge(), 2), plan, folder)
    long_ago = time.time() - ABANDONED_AFTER - 60
    for place in ("steps", "plan.json"):
        os.utime(old.root / place, (long_ago, long_ago))
    apply(tiny_gpt2, Nudge(), plan, new)
    assert [folder.root.exists() for folder in (old, fresh, new)] == [False, True, True]


def test_progress_starts_at_the_resumed_edits(tiny_gpt2: LanguageModel, tmp_path: Path) -> None:
    plan, folder = PLANS["one by one"], the_folder(tiny_gpt2, tmp_path / "plan")
    shown: list[tuple[int, int]] = []
    with pytest.raises(StoppedError):
        apply(tiny_gpt2, interrupted_at(Nudge(), 3), plan, folder)
    apply(tiny_gpt2, Nudge(), plan, folder, progress=lambda done, total: shown.append((done, total)))
    assert shown == [(2, 6), (3, 6), (4, 6), (5, 6), (6, 6)]


@pytest.mark.parametrize("in_store", [True, False])
def test_a_folder_that_cannot_be_written_is_an_error(in_store: bool, tiny_gpt2: LanguageModel, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    folder = the_folder(tiny_gpt2, tmp_path / "file" / "plan", in_store=in_store)
    with pytest.raises(AuditError, match=r"the edit plan cannot be stored in .* \(.*\); "):
        apply(tiny_gpt2, Nudge(), PLANS["one by one"], folder)


def test_any_reply_is_read_back_from_the_disk(tiny_gpt2: LanguageModel, tmp_path: Path) -> None:
    probe = EditProbe("a", "rewrite", 'São \ud800 \n"', "東京", ("東京都",), "京都")
    reply = EditReply("\x00\u2028 \udcff", (1, 2), (True, False), -1.25, -0.1)
    folder = the_folder(tiny_gpt2, tmp_path / "plan")
    with folder.alone():
        folder.begin(REQUESTS)
        folder.keep(0, KeptStep(WeightPatch({}), {probe: reply}), [replace(REQUESTS[0], case_id="é\ud800")])
        (step,) = folder.steps()
    assert step.immediate == {probe: reply}


def test_a_step_of_an_older_version_is_read_without_its_missing_fields(
    tiny_gpt2: LanguageModel, tmp_path: Path
) -> None:
    probe, folder = EditProbe("a", "rewrite", "Mara is", "Velden"), the_folder(tiny_gpt2, tmp_path / "plan")
    with folder.alone():
        folder.begin(REQUESTS)
        folder.keep(0, KeptStep(WeightPatch({}), {probe: EditReply("x", (1,), (True,))}), REQUESTS[:1])
        file = folder.root / "steps" / "00000" / "step.json"
        content = json.loads(file.read_text(encoding="utf-8"))
        del content["sha256"]
        for name in ("aliases", "rival", "log_probability", "rival_log_probability"):
            del content["immediate"][0][name]
        file.write_text(json.dumps({**content, "sha256": content_fingerprint(content)}), encoding="utf-8")
        (step,) = folder.steps()
    assert step.immediate == {probe: EditReply("x", (1,), (True,))}


@pytest.mark.parametrize("mode", ["instance-single", "batch-single"])
def test_plans_of_one_step_are_pruned(mode: str, tiny_gpt2: LanguageModel) -> None:
    plan = EditPlan(mode, 6, 6 if mode == "batch-single" else 1)

    class Heavy(Nudge):
        def edit(self, lm: LanguageModel, requests: Sequence[EditRequest], progress: Any = None) -> Patch:
            patch = super().edit(lm, requests, progress)
            assert isinstance(patch, WeightPatch)
            ((name, delta),) = patch.deltas.items()
            return replace(patch, deltas={name: replace(delta, left=1e5 * delta.left)})  # type: ignore[call-arg]

    for plain, pruned in zip(
        apply(tiny_gpt2, Heavy(), plan), apply(tiny_gpt2, Heavy(), plan, restraint="prune"), strict=True
    ):
        norms = [_norm(tiny_gpt2, model.patch) for model in (plain, pruned)]
        assert norms[1] < norms[0] / 100


def _norm(lm: LanguageModel, patch: Patch) -> float:
    assert isinstance(patch, WeightPatch)
    ((name, delta),) = patch.deltas.items()
    return float(delta.change(name in patch.transposed, torch.device("cpu")).norm())


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> SmallWorld:
    return build(tmp_path_factory.mktemp("world"))


class Fragile(Nudge):
    """Raises in its third edit while the file $FRAGILE exists."""

    name = "fragile"

    def edit(self, lm: LanguageModel, requests: Sequence[EditRequest], progress: Any = None) -> Patch:
        if self.edits == 2 and Path(os.environ["FRAGILE"]).exists():
            raise KeyboardInterrupt
        return super().edit(lm, requests, progress)


@pytest.mark.parametrize("keep", [True, False], ids=["--patch", "store"])
def test_an_interrupted_audit_resumes_and_reports_it(
    keep: bool, world: SmallWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FRAGILE", str(tmp_path / "fragile"))
    options = world.options(editor=f"{__name__}:Fragile", edit_mode="instance-sequential", device="cpu")
    undisturbed = Audit(**options, use_store=False)
    assert len(undisturbed.edit_scores.entries()) > 0
    (tmp_path / "fragile").touch()
    options |= {"store": tmp_path / "store", **({"patch": tmp_path / "patch"} if keep else {})}
    first = Audit(**options)
    with pytest.raises(KeyboardInterrupt):
        first.edit_scores  # noqa: B018
    (tmp_path / "fragile").unlink()
    second = Audit(**options)
    assert second.edit_scores == undisturbed.edit_scores
    report = second.report()
    assert report.fingerprints == undisturbed.report().fingerprints
    assert reuse_sentences(report.reuse) == ("edits: 2 of 4 come from an interrupted run",)
    assert not list((tmp_path / "store").glob("plans/*/steps"))
    assert (tmp_path / "patch" / "plan.json").exists() == keep


def test_without_a_store_nothing_is_kept(world: SmallWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FRAGILE", str(tmp_path / "fragile"))
    monkeypatch.setenv("AUDIT_STORE", str(tmp_path / "store"))
    (tmp_path / "fragile").touch()
    options = world.options(editor=f"{__name__}:Fragile", edit_mode="instance-sequential", device="cpu")
    with pytest.raises(KeyboardInterrupt):
        Audit(**options, use_store=False).edit_scores  # noqa: B018
    assert not (tmp_path / "store").exists()
