"""The prefixes of an edit plan equal the shorter plans, and are not edited again."""

from pathlib import Path
from typing import Any

import pytest

from audit.audit import Audit
from audit.errors import AuditError
from audit.settings.options import AuditSettings
from audit.workflows.edit_subsets import FreshRows, plan_run
from tests.small_audit import SmallWorld

NUDGE, STICKER = "tests.fake_editors:Nudge", "tests.fake_editors:Sticker"


def settings(world: SmallWorld, store: Path, **more: Any) -> AuditSettings:
    wanted = {
        "model": str(world.model),
        "edits": str(world.edits),
        "data": str(world.rows),
        "editor": NUDGE,
        "edit_mode": "instance-sequential",
        "edit_count": 8,
        "limit": 20,
        "store": store,
    }
    return AuditSettings(**{**wanted, **more})


@pytest.mark.parametrize(
    ("more", "count"),
    [
        ({}, 3),
        ({"edit_mode": "batch-sequential", "edit_batch_size": 3}, 6),
        ({"edit_mode": "batch-single"}, 5),
        ({"editor": STICKER}, 3),
        ({"restraint": "rect:0.4"}, 3),
        ({"restraint": "prune"}, 3),
    ],
)
def test_the_first_edits_give_the_model_of_the_shorter_plan(
    taught: SmallWorld, tmp_path: Path, more: dict[str, Any], count: int
) -> None:
    with plan_run(settings(taught, tmp_path / "one", **more)) as run:
        (model,) = run.first(count).edited
    shorter = {**more, "edit_count": count}
    (alone,) = Audit(settings(taught, tmp_path / "two", **shorter)).edited
    assert model.patch.fingerprint == alone.patch.fingerprint
    assert model.requests == alone.requests
    assert model.immediate.keys() == alone.immediate.keys()


def test_a_sequence_is_edited_once_for_all_prefixes(taught: SmallWorld, tmp_path: Path) -> None:
    with plan_run(settings(taught, tmp_path)) as run:
        reports = [run.audit.under(run.first(count)).run(["open_qa"]) for count in run.counts]
        assert run.changes._parts().editor.edits == 8  # type: ignore[attr-defined]
    assert [report.header.edit_count for report in reports] == list(range(1, 9))
    assert reports[2].header.plan == "3 edits, instance-sequential"
    assert all(report.outcome for report in reports)


def test_counts_are_those_after_each_step(taught: SmallWorld, tmp_path: Path) -> None:
    more = {"edit_mode": "batch-sequential", "edit_batch_size": 3}
    with plan_run(settings(taught, tmp_path, **more)) as run:
        assert run.counts == (3, 6, 8)
    with plan_run(settings(taught, tmp_path, edit_mode="batch-single", edit_count=3)) as run:
        assert run.counts == (1, 2, 3)


def test_no_edits_give_the_base_model(taught: SmallWorld, tmp_path: Path) -> None:
    with plan_run(settings(taught, tmp_path)) as run:
        assert run.audit.under(run.only([])).verdict("open_qa").verdict.drop == 0


def test_fresh_items_are_not_asked_by_the_run(taught: SmallWorld, tmp_path: Path) -> None:
    wanted = settings(taught, tmp_path, limit=70)
    with plan_run(wanted) as run:
        base = run.audit.under(run.only([])).answers("open_qa").base
        fresh = run.audit.under(run.only([]), source=run.fresh()).answers("open_qa").base
    asked, new = ({item.fields["question"] for item in one.items} for one in (base, fresh))
    assert len(asked) == 70 and len(new) == 30 and not asked & new


def test_the_lack_of_fresh_items_is_one_error(taught: SmallWorld) -> None:
    with pytest.raises(AuditError, match="has no items of open_qa beyond the 100 that the search uses"):
        FreshRows(taught.source, 100, 0).rows("open_qa")


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        ({"edit_mode": "instance-single"}, "makes a model for every edit"),
        ({"edited": "x", "edit_mode": None, "editor": "memit"}, "--edited is a finished checkpoint"),
    ],
)
def test_a_checkpoint_or_single_instances_are_an_error(
    taught: SmallWorld, tmp_path: Path, more: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(AuditError, match=sentence), plan_run(settings(taught, tmp_path, **more)):
        pass
