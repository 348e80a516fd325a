"""Edit plans that are interrupted and resumed give bit for bit what an undisturbed run gives."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from audit import Audit
from audit.editing.plan_folder import KeptStep, PlanFolder
from audit.edits.plan import EditPlan
from audit.edits.requests import EditRequest
from audit.measures.edit_probes import EditProbe, EditReply
from audit.models.fingerprints import content_fingerprint
from audit.models.language_model import LanguageModel
from audit.models.patches import Patch, WeightPatch
from audit.reports.run_sentences import reuse_sentences
from audit.store.files import SetAsideWarning
from tests.editing.interrupted_plans import (
    PLANS,
    REQUESTS,
    StoppedError,
    apply,
    flip_a_bit,
    interrupted_at,
    said,
    steps_of,
    the_folder,
)
from tests.fake_editors import Diary, Nudge, Sticker
from tests.small_audit import SmallWorld, build
from tests.store.test_files import IRREGULAR, replaced

ROOT = Path(__file__).resolve().parents[2]


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
from tests.editing.interrupted_plans import PLANS, apply, the_folder
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


def test_progress_starts_at_the_resumed_edits(tiny_gpt2: LanguageModel, tmp_path: Path) -> None:
    plan, folder = PLANS["one by one"], the_folder(tiny_gpt2, tmp_path / "plan")
    shown: list[tuple[int, int]] = []
    with pytest.raises(StoppedError):
        apply(tiny_gpt2, interrupted_at(Nudge(), 3), plan, folder)
    apply(tiny_gpt2, Nudge(), plan, folder, progress=lambda done, total: shown.append((done, total)))
    assert shown == [(2, 6), (3, 6), (4, 6), (5, 6), (6, 6)]


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
