"""An edited model that equals its base model: the run says so and fails, unless that was asked for."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch

from audit import Audit, markdown, summary
from audit.errors import NoChangeError
from audit.models.patches import DenseDelta, WeightPatch
from audit.reports.rows import RunReport
from audit.settings.options import AuditSettings
from audit.workflows.grid.cells import GridSettings, product_cells
from tests.small_audit import SmallWorld, build, teach

SENTENCE = "The edited model equals the base model: nothing was changed."


class TooSmall:
    """An editor whose change is lost when it is rounded into the weights."""

    name: ClassVar[str] = "too-small"
    batches: ClassVar[bool] = False

    def edit(self, lm: Any, requests: Sequence[Any], progress: Any = None) -> WeightPatch:
        weight = lm.anatomy.weight_name(0)
        return WeightPatch({weight: DenseDelta(torch.full_like(lm.model.get_parameter(weight), 1e-30))})


class Half(TooSmall):
    """An editor that changes something for half of the requests only."""

    def edit(self, lm: Any, requests: Sequence[Any], progress: Any = None) -> WeightPatch:
        weight = lm.anatomy.weight_name(0)
        size = 0.1 if requests[0].case_id in ("case-0", "case-2") else 0.0
        return WeightPatch({weight: DenseDelta(torch.full_like(lm.model.get_parameter(weight), size))})


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> SmallWorld:
    small = build(tmp_path_factory.mktemp("world"))
    teach(small)
    return small


@pytest.fixture
def options(world: SmallWorld, tmp_path: Path) -> dict[str, Any]:
    return world.options(store=tmp_path / "store", device="cpu", limit=60)


def shown(report: RunReport) -> str:
    return summary(report, width=1000)


def last_line(report: RunReport) -> str:
    return shown(report).splitlines()[-2]  # advice comes below


@pytest.mark.parametrize("way", ["checkpoint", "editor"])
def test_it_fails_before_any_item_is_asked_and_says_so_first_and_last(
    world: SmallWorld, options: dict[str, Any], way: str
) -> None:
    what = {"edited": str(world.model)} if way == "checkpoint" else {"editor": f"{__name__}:TooSmall"}
    audit = Audit(**options | what)
    with pytest.raises(NoChangeError, match=f"{SENTENCE} No ability was asked. Use --allow-unchanged"):
        audit.verdict("open_qa")
    report = audit.run(["open_qa", "nli"])
    assert (report.outcome, report.abilities, report.items) == ("FAIL", (), ())
    assert "edited answers" not in report.seconds
    assert last_line(report).startswith("FAIL: ")
    assert last_line(report).endswith(": nothing was changed, so no ability was asked")
    assert summary(report, width=1000, verbosity=-1) == last_line(report)
    assert SENTENCE in shown(report)
    assert shown(report).splitlines()[-1].startswith("Next: nothing was changed; ")
    title, _, found, *_ = lines = markdown(report).splitlines()
    assert title.startswith("# FAIL")
    assert found == "nothing was changed, so no ability was asked."
    assert f"**{SENTENCE}**" in lines


@pytest.mark.parametrize("allowed", [{"edited": "base", "allow_unchanged": True}, {"editor": "identity"}])
def test_it_is_judged_if_that_was_asked_for_and_the_report_still_says_so(
    world: SmallWorld, options: dict[str, Any], allowed: dict[str, Any]
) -> None:
    if "edited" in allowed:
        allowed = allowed | {"edited": str(world.model)}
    report = Audit(**options | allowed).run(["open_qa"])
    assert (report.outcome, report.abilities[0].outcome) == ("PASS", "PASS")
    assert last_line(report).endswith(": nothing was changed, 1 PASS")
    assert f"**{SENTENCE}**" in markdown(report).splitlines()


def test_a_model_that_differs_is_not_mentioned(options: dict[str, Any]) -> None:
    report = Audit(**options | {"editor": "vandal"}).run(["open_qa"])
    assert report.unchanged is None
    assert "changed" not in last_line(report)
    assert Audit(**options | {"editor": "vandal", "editor_config": {"scale": "0"}}).run(["open_qa"]).outcome == "FAIL"


def test_of_several_models_the_share_is_stated_and_only_all_of_them_fail(options: dict[str, Any]) -> None:
    one_each = {"edit_mode": "instance-single", "edit_count": 4}
    half = Audit(**options | one_each | {"editor": f"{__name__}:Half"}).run(["open_qa"])
    assert half.abilities
    assert "50% of the edited models are unchanged, 1 " in last_line(half)
    assert half.unchanged is not None
    assert (half.unchanged.value, half.unchanged.sound) == (0.5, None)
    assert "2 of 4 edited models equal the base model" in half.unchanged.sentence
    none = Audit(**options | one_each | {"editor": f"{__name__}:TooSmall"}).run(["open_qa"])
    assert (none.outcome, none.abilities) == ("FAIL", ())
    assert "All 4 edited models equal the base model" in shown(none)


def test_a_second_run_takes_the_finding_from_the_store(
    options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = options | {"editor": f"{__name__}:TooSmall"}
    first = Audit(**wanted).run(["open_qa"])
    monkeypatch.setattr("audit.editing.edit_run.equals_base", pytest.fail)
    assert Audit(**wanted).run(["open_qa"]).unchanged == first.unchanged


def test_a_workflow_that_looks_at_many_models_goes_on(tmp_path: Path) -> None:
    (cell,) = product_cells(models=("m",), editors={"rome": False}, counts=(1,))
    assert GridSettings(tmp_path).audit_settings(cell).allow_unchanged
    assert not AuditSettings().allow_unchanged
