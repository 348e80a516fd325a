"""The store of a real audit: its size by base model, what is old, and what is damaged, without losing what is sound."""

import os
import shutil
import time
from pathlib import Path

import pytest

from audit import Audit
from audit.editing.plan_folder import is_sound
from audit.errors import AuditError
from audit.models.files.gguf import CONVERSION_FILE
from audit.store.inventory import LOG, MODEL, PLAN, entries
from audit.workflows.store_care import measured, pruned, verified
from tests.small_audit import SmallWorld, build

DAY = 86400.0


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> tuple[SmallWorld, Path]:
    """A store that an audit has filled."""
    world = build(tmp_path_factory.mktemp("world"))
    root = tmp_path_factory.mktemp("store")
    audited(world, root)
    return world, root


@pytest.fixture
def root(kept: tuple[SmallWorld, Path], tmp_path: Path) -> Path:
    """A copy of it, with a converted model."""
    copy = tmp_path / "store"
    shutil.copytree(kept[1], copy)
    model = copy / "models" / f"gguf-1-{'b' * 64}"
    model.mkdir(parents=True)
    (model / "config.json").write_text("{}")
    (model / CONVERSION_FILE).write_text('{"config.json": 2}')
    return copy


def audited(world: SmallWorld, root: Path) -> tuple[Audit, float]:
    """An audit with this store, and the score of its edited model."""
    audit = Audit(**world.options(editor="vandal", edit_count=3, device="cpu", store=root))
    return audit, audit.verdict("ner", 0.05).verdict.edited


def aged(root: Path, days: float) -> None:
    for path in root.rglob("*"):
        os.utime(path, (time.time() - days * DAY,) * 2)


def test_answers_and_plans_are_assigned_to_their_base_model(kept: tuple[SmallWorld, Path], root: Path) -> None:
    weights = audited(kept[0], root)[0].known.weights
    size = measured(root)
    assert {entry.kind for entry in size.entries} >= {LOG, PLAN, MODEL}
    assigned = [entry for entry in size.entries if entry.kind in (LOG, PLAN)]
    assert {size.models.get(entry.name) for entry in assigned} == {weights}
    assert size.bytes == sum(entry.bytes for entry in size.entries) > 0


def test_everything_in_the_store_of_an_audit_is_sound(root: Path) -> None:
    found = verified(root, remove_damaged=True)
    assert (found.read, found.damaged, found.sound) == (len(entries(root)), (), True)
    assert found.unchecked == {MODEL: 1}


def test_only_what_is_old_is_deleted_and_a_later_audit_computes_it_again(
    kept: tuple[SmallWorld, Path], root: Path
) -> None:
    aged(root, 40)
    (log, *_) = (entry for entry in entries(root) if entry.kind == LOG)
    os.utime(root / log.name)
    dry = pruned(root, older_than=30 * DAY, dry_run=True)
    assert len(entries(root)) == len(dry.deleted) + 1
    done = pruned(root, older_than=30 * DAY, dry_run=False)
    assert (done.deleted, done.in_use) == (dry.deleted, ())
    assert [entry.name for entry in entries(root)] == [log.name]
    assert audited(kept[0], root)[1] == audited(*kept)[1]


def test_what_an_audit_has_just_used_is_not_old(kept: tuple[SmallWorld, Path], root: Path) -> None:
    aged(root, 40)
    audited(kept[0], root)
    assert {entry.kind for entry in pruned(root, older_than=30 * DAY, dry_run=True).deleted} == {MODEL}


def test_an_age_under_an_hour_is_refused(root: Path) -> None:
    with pytest.raises(AuditError, match=r"--older-than 60 seconds: .* give at least 1h"):
        pruned(root, older_than=60.0, dry_run=True)


def flipped(path: Path) -> None:
    """Change one byte in the middle of a file."""
    whole = bytearray(path.read_bytes())
    whole[len(whole) // 2] ^= 1
    path.write_bytes(whole)


def test_every_damaged_entry_is_named_and_removed(kept: tuple[SmallWorld, Path], root: Path) -> None:
    expected = audited(*kept)[1]
    (plan,) = (root / entry.name for entry in entries(root) if entry.kind == PLAN)
    (log, *_) = (root / entry.name for entry in entries(root) if entry.kind == LOG)
    (model,) = (root / entry.name for entry in entries(root) if entry.kind == MODEL)
    flipped(plan / "deltas.safetensors")
    flipped(log)
    (model / "config.json").write_text("")
    before = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}

    found = verified(root, remove_damaged=False)
    assert {one.entry.name for one in found.damaged} == {one.relative_to(root).as_posix() for one in (plan, log, model)}
    assert not found.sound
    assert {path: path.read_bytes() for path in root.rglob("*") if path.is_file()} == before

    removed = verified(root, remove_damaged=True)
    assert {one.entry.kind: one.fate for one in removed.damaged} == {PLAN: "deleted", MODEL: "deleted", LOG: "repaired"}
    assert (removed.sound, plan.exists(), model.exists(), log.exists()) == (True, False, False, True)
    assert verified(root, remove_damaged=False).damaged == ()
    assert audited(kept[0], root)[1] == expected


@pytest.mark.parametrize("file", ["plan.json", "patch.json", "deltas.safetensors"])
def test_a_plan_is_damaged_if_any_of_its_files_is(root: Path, file: str) -> None:
    (plan,) = (root / entry.name for entry in entries(root) if entry.kind == PLAN)
    assert is_sound(plan)
    flipped(plan / file)
    assert not is_sound(plan)


def test_a_plan_under_another_name_is_damaged(root: Path) -> None:
    (plan,) = (root / entry.name for entry in entries(root) if entry.kind == PLAN)
    assert not is_sound(plan.rename(plan.with_name("0" * 32)))
