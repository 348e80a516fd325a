"""The curve and the budget over real models with planted harm."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from audit.answering import answers as asking
from audit.reports.rows import RunReport
from audit.reports.workflows.budget import Look
from audit.settings.options import AuditSettings
from audit.workflows.budget import find_budget
from audit.workflows.curve import measure_curve
from audit.workflows.edit_subsets import plan_run
from tests.small_audit import SmallWorld

RUINED_AT = 6  # the place of the planted edit in the plan, from 1


@pytest.fixture(scope="module")
def wanted(taught: SmallWorld, tmp_path_factory: pytest.TempPathFactory) -> AuditSettings:
    """Twelve edits one after the other, of which the sixth ruins."""
    store = tmp_path_factory.mktemp("store")

    def settings(victim: str) -> AuditSettings:
        more: dict[str, Any] = {"model": str(taught.model), "edits": str(taught.edits), "data": str(taught.rows)}
        return AuditSettings(
            editor="tests.workflows.planted:Planted",
            editor_config={"victim": victim},
            edit_mode="instance-sequential",
            edit_count=12,
            limit=60,
            margins={"open_qa": 0.2},
            store=store,
            **more,
        )

    with plan_run(settings("nobody")) as run:
        return settings(run.changes.drawn.requests[RUINED_AT - 1].case_id)


def test_a_curve_doubles_and_then_refines_around_the_change(wanted: AuditSettings) -> None:
    shown: list[RunReport] = []
    with plan_run(wanted) as run:
        points = measure_curve(run, ["open_qa"], refine=2, show=shown.append)
    assert [point.header.edit_count for point in shown] == [1, 2, 4, 8, 12, 6, 5]
    found = {point.header.edit_count: point.abilities[0].outcome for point in points}
    assert found == {1: "PASS", 2: "PASS", 4: "PASS", 5: "PASS", 6: "FAIL", 8: "FAIL", 12: "FAIL"}
    measures = {(score.measure, score.n) for score in points[-1].edit_scores}
    assert {("immediate efficacy", 12), ("efficacy", 12)} <= measures
    assert all(point.items == () for point in points)


def test_a_curve_without_refining_only_doubles(wanted: AuditSettings) -> None:
    with plan_run(wanted) as run:
        assert [p.header.edit_count for p in measure_curve(run, ["open_qa"], refine=0)] == [1, 2, 4, 8, 12]


def test_a_second_curve_asks_nothing(wanted: AuditSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    with plan_run(wanted) as run:
        first = measure_curve(run, ["open_qa"])

    def asked(*_: object, **__: object) -> None:
        raise AssertionError("a model was asked")

    monkeypatch.setattr("audit.answering.answers._ask", asked)
    with plan_run(wanted) as run:
        second = measure_curve(run, ["open_qa"])
    assert [p.abilities[0].verdict.drop for p in second] == [p.abilities[0].verdict.drop for p in first]


def test_an_interrupted_curve_continues_after_its_last_point(
    wanted: AuditSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = replace(wanted, store=tmp_path)
    asked: list[object] = []
    ask = asking._ask

    def counted(*args: Any) -> None:
        asked.append(args[5])  # the patch
        ask(*args)

    def interrupted(point: RunReport) -> None:
        if point.header.edit_count == 4:
            raise KeyboardInterrupt

    monkeypatch.setattr(asking, "_ask", counted)
    with pytest.raises(KeyboardInterrupt), plan_run(wanted) as run:
        measure_curve(run, ["open_qa"], refine=0, show=interrupted)
    assert len(asked) == 6  # twice in the pilot, the base model, and after 1, 2 and 4 edits
    with plan_run(wanted) as run:
        measure_curve(run, ["open_qa"], refine=0)
    assert len(asked) == 8  # after 8 and 12; the choice of the pilot is stored


def test_the_budget_is_confirmed_and_names_the_first_ability_that_breaks(wanted: AuditSettings) -> None:
    looks: list[Look] = []
    with plan_run(wanted) as run:
        found = find_budget(run, ["open_qa"], recheck=1, show=looks.append)
    assert found.edits == RUINED_AT - 1
    assert tuple(looks) == found.looks
    assert found.confirmed and found.confirmation[0].verdict.n == 40
    assert found.first_broken is not None and found.first_broken.edits == RUINED_AT
    sentences = found.sentences()
    assert sentences[0].startswith("budget: 5 edits of tests.workflows.planted:Planted on ")
    assert sentences[1].startswith("open_qa is the first to fail, at 6 edits: drop ")
    assert sentences[-1].startswith("5 edits passed again on at least 40 items per ability that no look used")
