"""Finished patches are reused from the store and from folders of the user; damaged ones never are."""

import errno
import json
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from audit.editing.plan_folder import ABANDONED_AFTER, PlanFolder
from audit.edits.plan import EditPlan
from audit.edits.requests import EditRequest
from audit.errors import AuditError
from audit.models.fingerprints import weights_fingerprint
from audit.models.language_model import LanguageModel
from audit.models.patches import ModulePatch, Patch, PatchSequence, WeightPatch, load_patch
from audit.store.content import Store
from audit.store.files import SetAsideWarning
from tests.editing.interrupted_plans import (
    PLANS,
    REQUESTS,
    StoppedError,
    apply,
    contents,
    flip_a_bit,
    interrupted_at,
    said,
    the_folder,
)
from tests.fake_editors import Nudge, Sticker
from tests.store.test_files import IRREGULAR, replaced


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


@pytest.mark.parametrize("in_store", [True, False])
def test_a_folder_that_cannot_be_written_is_an_error(in_store: bool, tiny_gpt2: LanguageModel, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    folder = the_folder(tiny_gpt2, tmp_path / "file" / "plan", in_store=in_store)
    with pytest.raises(AuditError, match=r"the edit plan cannot be stored in .* \(.*\); "):
        apply(tiny_gpt2, Nudge(), PLANS["one by one"], folder)


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
