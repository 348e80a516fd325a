"""The workflows on abilities read by likelihood: controls, calibration, curve, search, preflight, early stop."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from audit import Audit
from audit.errors import AbilityError
from audit.reports.folder import read_report, write_report
from audit.reports.workflows.preflight import CERTIFIABLE, DEPENDS
from audit.settings.options import AuditSettings
from audit.verdicts.margins import Retained
from audit.workflows.bisect import find_culprits
from audit.workflows.calibrate import calibrate
from audit.workflows.curve import measure_curve
from audit.workflows.edit_subsets import plan_run
from audit.workflows.expectation import Expectation, Sample
from audit.workflows.preflight import Preflight
from audit.workflows.rescore import rescored
from audit.workflows.selfcheck import run_controls
from tests.small_audit import SmallWorld, teach_labels


@pytest.fixture(scope="module")
def taught(taught: SmallWorld, tmp_path_factory: pytest.TempPathFactory) -> SmallWorld:
    """Sentences that the model ranks perfectly; other rows and requests are those of the taught world."""
    rows = tmp_path_factory.mktemp("rows")
    for file in taught.rows.iterdir():
        (rows / file.name).write_bytes(file.read_bytes())
    world = replace(taught, rows=rows)
    teach_labels(world, 100)
    return world


BY_LIKELIHOOD = {"reading": {"": "likelihood"}, "prompting": "plain"}


def settings(world: SmallWorld, store: Path, **more: Any) -> AuditSettings:
    wanted: dict[str, Any] = {"model": str(world.model), "edits": str(world.edits), "data": str(world.rows)}
    wanted |= {"limit": 60, "store": store, "device": "cpu", "editor": "identity"}
    return AuditSettings(**wanted | BY_LIKELIHOOD | more)


def planted(world: SmallWorld, store: Path) -> AuditSettings:
    """Eight edits one after the other, of which the fourth ruins."""
    more: dict[str, Any] = {"editor": "tests.workflows.planted:Planted", "edit_mode": "instance-sequential"}
    wanted = settings(world, store, **more, edit_count=8, editor_config={"victim": "nobody", "scale": "16"})
    with plan_run(wanted) as run:
        return replace(wanted, editor_config={"victim": run.changes.drawn.requests[3].case_id, "scale": "16"})


def test_the_controls_pass_and_fail(taught: SmallWorld, tmp_path: Path) -> None:
    (control,) = run_controls(settings(taught, tmp_path), ["sentiment"])
    assert control.works, control.sentence
    assert control.identity is not None and control.vandal is not None
    assert (control.identity.reading, control.identity.verdict.drop) == ("likelihood", 0.0)
    assert control.vandal.verdict.kept is not None and control.vandal.verdict.kept < 0.9


def test_a_calibration_holds_for_shares(taught: SmallWorld, tmp_path: Path) -> None:
    (one,) = calibrate(settings(taught, tmp_path), ["sentiment"]).abilities
    assert one.reading == "likelihood"
    assert (one.base, one.chance) == (1.0, 0.5)
    row = Audit(settings(taught, tmp_path)).verdict("sentiment", keep="50%")
    assert (row.noise_floor, row.noise_items) == (one.batches.floor, 60)
    assert one.batches.floor < 1e-4  # the likelihoods move in their last digits only
    assert Audit(settings(taught, tmp_path)).verdict("sentiment", keep="99.9%").noise_floor == one.batches.floor
    answers = replace(settings(taught, tmp_path), reading={})
    assert Audit(answers).verdict("sentiment", keep="99.9%").noise_floor is None  # another way of asking


def test_a_curve_shows_the_harm(taught: SmallWorld, tmp_path: Path) -> None:
    with plan_run(planted(taught, tmp_path)) as run:
        points = measure_curve(run, ["sentiment"], refine=0)
    found = {point.header.edit_count: point.abilities[0] for point in points}
    assert [row.outcome for row in found.values()] == ["PASS", "PASS", "FAIL", "FAIL"]
    assert {row.reading for row in found.values()} == {"likelihood"}
    assert list(found) == [1, 2, 4, 8]


def test_a_search_finds_the_edit_that_harms(taught: SmallWorld, tmp_path: Path) -> None:
    wanted = planted(taught, tmp_path)
    with plan_run(wanted) as run:
        found = find_culprits(run, ["sentiment"])
    assert [one.case_id for one in found.edits] == [wanted.editor_config["victim"]]


def test_an_early_stop_asks_fewer_items_and_is_scored_again(taught: SmallWorld, tmp_path: Path) -> None:
    for editor, keep, outcome in (("identity", "60%", "PASS"), ("vandal", "90%", "FAIL")):
        config = {"scale": "16"} if editor == "vandal" else {}
        wanted = settings(taught, tmp_path, editor=editor, editor_config=config, early_stop=True, limit=100)
        audit = Audit(replace(wanted, triage=False))
        row = audit.verdict("sentiment", keep=keep)
        assert (row.outcome, row.planned) == (outcome, 100), row.sentence
        assert row.verdict.n < 100
        run = read_report(write_report(audit.report(), tmp_path / editor), with_items=True)
        assert rescored(run, {}).abilities == (row,)


def test_a_preflight_takes_the_reading_and_promises_a_height_above_the_floor(
    taught: SmallWorld, tmp_path: Path
) -> None:
    wanted = settings(taught, tmp_path / "store", reports=tmp_path / "reports")
    before = Preflight(wanted)
    row = before.assess("open_qa", keep="80%")
    assert (row.items, row.asked_margin, row.prospect) == (60, "80%", DEPENDS)
    assert row.needed_base is not None and " above its floor; " in row.sentence

    edited = replace(wanted, editor="tests.fake_editors:Nudge", edit_count=2, triage=False)
    audit = Audit(edited)
    past = audit.verdict("open_qa", keep="80%").verdict
    write_report(audit.report(), tmp_path / "reports")
    after = Preflight(edited).assess("open_qa", keep="80%")
    assert past.floor > 0.1
    assert after.margin == pytest.approx(0.2 * (past.base - past.floor))
    assert after.changes_from is not None and not after.above_floor


def test_a_preflight_of_a_suite_reads_as_the_suite_says(taught: SmallWorld, tmp_path: Path) -> None:
    wanted = replace(settings(taught, tmp_path), reading={}, reports=tmp_path)
    found = {
        name: Preflight(wanted).assess("nli", 0.05, "80%", name).asked_margin
        for name in ("", "answers", "choices", "likelihood")
    }
    assert found == {"": "0.05", "answers": "0.05", "choices": "0.05", "likelihood": "80%"}
    with pytest.raises(AbilityError, match="reasoning under the protocol standard is read by answers or likelihood"):
        Preflight(wanted).assess("reasoning", reading="choices")


@pytest.mark.parametrize("name", ["open_qa", "nli", "dialogue"])
def test_every_likelihood_is_expected_to_move_a_little(name: str, taught: SmallWorld, tmp_path: Path) -> None:
    from audit.answering.items import drawn_items

    wanted = settings(taught, tmp_path)
    drawn = drawn_items(name, Audit(wanted).source, wanted)
    sample = Sample.of(drawn.ability, drawn.items)
    assert sample.weights is None and not sample.whole
    expected = Expectation.of(sample, None, Retained(0.8), 0.05)
    assert (expected.changes, expected.whole) == (1.0, False)
    few, many = expected.power(50).smallest_margin, expected.power(400).smallest_margin
    assert few is not None and many is not None and 0 < many < few < 0.2


def test_a_margin_that_the_past_run_would_certify_is_said_to_be_certifiable(taught: SmallWorld, tmp_path: Path) -> None:
    wanted = settings(taught, tmp_path / "store", reports=tmp_path / "reports", editor="tests.fake_editors:Nudge")
    wanted = replace(wanted, edit_count=2, triage=False)
    audit = Audit(wanted)
    audit.verdict("sentiment", keep="50%")
    write_report(audit.report(), tmp_path / "reports")
    found = Preflight(wanted).assess("sentiment", keep="50%")
    assert found.prospect == CERTIFIABLE, found.sentence
