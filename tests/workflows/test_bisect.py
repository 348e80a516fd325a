"""Bisection over real models with one harmful edit planted among 64 others, in batches and in sequences."""

from pathlib import Path
from typing import Any

import pytest

from audit.errors import AuditError
from audit.reports.workflows.bisect import Culprits, Evaluation, culprits_markdown
from audit.settings.options import AuditSettings
from audit.workflows.bisect import NothingToFind, find_culprits, shares
from audit.workflows.edit_subsets import plan_run
from tests.small_audit import SmallWorld

PLANTED = "tests.workflows.planted:Planted"
BAR = 8  # evaluations of the failing ability


def settings(world: SmallWorld, store: Path | None, victim: str = "case-17", **more: Any) -> AuditSettings:
    return AuditSettings(
        **{
            "model": str(world.model),
            "edits": str(world.edits),
            "data": str(world.rows),
            "editor": PLANTED,
            "editor_config": {"victim": victim},
            "edit_mode": "batch-single",
            "edit_count": 65,
            "limit": 60,
            "margins": {"open_qa": 0.2},
            "store": store,
            "use_store": store is not None,
            **more,
        }
    )


def bisected(wanted: AuditSettings, **more: Any) -> Culprits:
    with plan_run(wanted) as run:
        return find_culprits(run, ["open_qa"], **more)


@pytest.mark.parametrize("seed", range(20))
def test_bisection_finds_a_planted_edit_of_a_batch_in_few_evaluations(
    taught: SmallWorld, tmp_path: Path, seed: int
) -> None:
    found = bisected(settings(taught, tmp_path, victim=f"case-{(7 * seed + 3) % 65}", seed=seed))
    assert [edit.case_id for edit in found.edits] == [f"case-{(7 * seed + 3) % 65}"]
    assert len(found.evaluations) <= BAR
    assert found.confirmed and found.minimal
    assert found.without.outcome == "PASS"


def test_prefix_search_finds_a_planted_edit_of_a_sequence(taught: SmallWorld, tmp_path: Path) -> None:
    wanted = settings(taught, tmp_path, edit_mode="instance-sequential", edit_count=24, seed=2)
    with plan_run(wanted) as run:
        victim = run.changes.drawn.requests[20].case_id
    found = bisected(settings(taught, tmp_path, victim, edit_mode="instance-sequential", edit_count=24, seed=2))
    assert [(edit.number, edit.case_id) for edit in found.edits] == [(21, victim)]
    assert found.method == "prefix search"
    assert len(found.evaluations) <= BAR


def test_a_batch_within_a_sequence_is_searched(taught: SmallWorld, tmp_path: Path) -> None:
    more: dict[str, Any] = {"edit_mode": "batch-sequential", "edit_batch_size": 8, "edit_count": 24, "seed": 2}
    with plan_run(settings(taught, tmp_path, **more)) as run:
        victim = run.changes.drawn.requests[20].case_id
    found = bisected(settings(taught, tmp_path, victim, **more))
    assert [edit.number for edit in found.edits] == [21]
    assert found.method == "prefix search and delta debugging"


def test_a_second_search_asks_nothing_again(
    taught: SmallWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = settings(taught, tmp_path)
    first = bisected(wanted)

    def asked(*_: object, **__: object) -> None:
        raise AssertionError("a model was asked")

    monkeypatch.setattr("audit.answering.answers._ask", asked)
    assert bisected(wanted).evaluations == first.evaluations


def test_no_store_gives_the_same_result_and_keeps_nothing(taught: SmallWorld) -> None:
    assert [edit.case_id for edit in bisected(settings(taught, None)).edits] == ["case-17"]


def test_one_of_two_planted_edits_is_found_and_the_rest_still_fails(taught: SmallWorld, tmp_path: Path) -> None:
    found = bisected(settings(taught, tmp_path, victim="case-3+case-40"))
    assert found.edits[0].case_id in ("case-3", "case-40")
    assert found.without.outcome == "FAIL"
    assert "other edits harm too" in found.sentences()[1]


def test_a_harmless_plan_has_nothing_to_find(taught: SmallWorld, tmp_path: Path) -> None:
    with pytest.raises(NothingToFind, match="the edit plan does not fail, so there is nothing to find: open_qa PASS"):
        bisected(settings(taught, tmp_path, victim="nobody"))


def test_the_search_needs_fresh_items(taught: SmallWorld, tmp_path: Path) -> None:
    with pytest.raises(AuditError, match="has no items of open_qa beyond the 100 that the search uses; give a"):
        bisected(settings(taught, tmp_path, limit=200))


def test_the_report_names_the_edit_its_cost_and_every_evaluation(taught: SmallWorld, tmp_path: Path) -> None:
    shown: list[Evaluation] = []
    found = bisected(settings(taught, tmp_path), show=shown.append)
    assert tuple(shown) == found.evaluations
    first, rest, how = found.sentences()
    assert first.startswith(f"edit #{found.edits[0].number} '{found.edits[0].question} -> Calton' costs ")
    assert "points of open_qa, 90 % interval [" in first and "on 40 items that the search did not use" in first
    assert rest.startswith("Without it the plan passes")
    assert how.startswith(f"Found by halving in {len(found.evaluations)} evaluations of open_qa")
    text = culprits_markdown(found)
    assert all(one.edits in text for one in found.evaluations)


def test_items_are_asked_in_growing_shares() -> None:
    assert shares(200) == (25, 50, 100, 200)
    assert shares(60) == (25, 30, 60)
    assert shares(10) == (10,)
