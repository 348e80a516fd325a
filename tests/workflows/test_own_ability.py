"""An ability from a .toml file takes part in every workflow, and its definition is part of every key."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from audit.answering.answers import AnswerLogs
from audit.answering.noise_floors import kept_calibration
from audit.audit import Audit
from audit.errors import AuditError
from audit.reports.folder import read_report, write_report
from audit.reports.rows import AbilityRow
from audit.reports.workflows.grid_cells import Cell, read_grid
from audit.settings.options import AuditSettings
from audit.store.content import Store
from audit.workflows.bisect import find_culprits
from audit.workflows.budget import find_budget
from audit.workflows.calibrate import calibrate
from audit.workflows.curve import measure_curve
from audit.workflows.edit_subsets import plan_run
from audit.workflows.grid.cells import GridSettings
from audit.workflows.grid.run import run_grid
from audit.workflows.preflight import Preflight
from audit.workflows.rescore import rescored
from audit.workflows.selfcheck import run_controls
from tests.abilities.triage import TWO_TEAMS, teach_teams, tickets, write_ability
from tests.small_audit import SmallWorld
from tests.workflows.grid.test_run import Finished

RUINED_AT = 6  # the place of the planted edit in the plan, from 1


@pytest.fixture(scope="module")
def rows(taught: SmallWorld, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """Tickets of two teams that the random model tells apart by its log-odds."""
    return teach_teams(str(taught.model), tmp_path_factory.mktemp("teams"), tickets(240))


@pytest.fixture(scope="module")
def toml(rows: list[dict[str, Any]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_ability(tmp_path_factory.mktemp("ability"), TWO_TEAMS, rows)


@pytest.fixture(scope="module")
def wanted(taught: SmallWorld, toml: Path, tmp_path_factory: pytest.TempPathFactory) -> AuditSettings:
    """Twelve edits one after the other, of which the sixth ruins."""

    def settings(victim: str) -> AuditSettings:
        more: dict[str, Any] = {"model": str(taught.model), "edits": str(taught.edits), "ability": [str(toml)]}
        return AuditSettings(
            editor="tests.workflows.planted:Planted",
            editor_config={"victim": victim},
            edit_mode="instance-sequential",
            edit_count=12,
            limit=100,
            margins={"triage": "80%"},
            reading={"triage": "likelihood"},
            store=tmp_path_factory.mktemp("store"),
            device="cpu",
            **more,
        )

    with plan_run(settings("nobody")) as run:
        return settings(run.changes.drawn.requests[RUINED_AT - 1].case_id)


def row(settings: AuditSettings) -> AbilityRow:
    return Audit(settings).verdict("triage")


def test_a_curve_a_budget_and_a_bisection_find_the_planted_edit(wanted: AuditSettings) -> None:
    with plan_run(wanted) as run:
        points = measure_curve(run, ["triage"], refine=2)
        budget = find_budget(run, recheck=0)
        culprits = find_culprits(run)
        victim = run.changes.drawn.requests[RUINED_AT - 1].case_id
    found = {point.header.edit_count: point.abilities[0].outcome for point in points}
    assert found == {1: "PASS", 2: "PASS", 4: "PASS", 5: "PASS", 6: "FAIL", 8: "FAIL", 12: "FAIL"}
    assert (budget.edits, budget.confirmed) == (RUINED_AT - 1, True)
    assert [edit.case_id for edit in culprits.edits] == [victim] and culprits.confirmed


def test_the_controls_show_that_it_can_be_judged(wanted: AuditSettings) -> None:
    (control,) = run_controls(replace(wanted, editor="memit", editor_config={}), ["triage"])
    assert control.works


def test_how_it_is_asked_is_chosen_and_a_run_may_stop_early(wanted: AuditSettings) -> None:
    plain = replace(wanted, editor="vandal", editor_config={}, reading={}, edit_count=2, edit_mode=None, margins={})
    whole = row(plain)
    assert whole.trials and whole.reading != "answers" and whole.outcome == "FAIL"
    early = Audit(replace(plain, early_stop=True)).verdict("triage")
    assert early.outcome == "FAIL" and early.verdict.n < whole.verdict.n == 100


def test_a_changed_template_reuses_no_answer_and_no_choice(
    wanted: AuditSettings, toml: Path, rows: list[dict[str, Any]], tmp_path: Path
) -> None:
    same = write_ability(tmp_path / "same", TWO_TEAMS, rows)
    other = write_ability(tmp_path / "other", TWO_TEAMS.replace("Ticket:", "Message:"), rows)
    plain = replace(wanted, editor="identity", editor_config={}, reading={}, edit_count=2, edit_mode=None)
    first, second, changed = (row(replace(plain, ability=[str(path)])) for path in (toml, same, other))
    assert second.base_from_store and second.trials == first.trials  # the same content in another place
    assert not changed.base_from_store
    assert changed.trials != first.trials and changed.items_fingerprint != first.items_fingerprint
    signatures = [Audit(replace(plain, ability=[str(path)])).signature(["triage"]) for path in (toml, same, other)]
    assert signatures[0] != signatures[2]


def test_a_calibration_is_that_of_one_definition(
    wanted: AuditSettings, rows: list[dict[str, Any]], tmp_path: Path
) -> None:
    calibrate(wanted, ["triage"])
    known = Audit(wanted).known
    assert wanted.store is not None
    log = AnswerLogs(Store(wanted.store)).of(known)
    assert kept_calibration(log, "triage", wanted, "pocket") is not None
    other = write_ability(tmp_path, TWO_TEAMS.replace("= 8", "= 9"), rows)
    assert kept_calibration(log, "triage", replace(wanted, ability=[str(other)]), "pocket") is None


def test_a_preflight_goes_by_past_runs_of_the_same_definition(
    wanted: AuditSettings, toml: Path, rows: list[dict[str, Any]], tmp_path: Path
) -> None:
    settings = replace(wanted, reports=tmp_path / "reports", edit_count=2)
    write_report(Audit(settings).run(), settings.reports)
    assert Preflight(settings).assess("triage").changes_from is not None
    named = replace(settings, ability=(), margins={}, reading={})  # a suite that names the file
    past = Preflight(named)
    past.settings = replace(past.settings.with_ability(str(toml)), reading={"triage": "likelihood"})
    assert past.assess(str(toml), keep="80%").items == 100
    other = write_ability(tmp_path, TWO_TEAMS.replace("Team:", "team:"), rows)
    assert Preflight(replace(settings, ability=[str(other)])).assess("triage").changes_from is None


def test_saved_answers_are_scored_again_by_the_file_as_it_is_now(
    wanted: AuditSettings, rows: list[dict[str, Any]], tmp_path: Path
) -> None:
    path = write_ability(tmp_path / "own", TWO_TEAMS, rows)
    settings = replace(wanted, ability=(), margins={}, reading={}, edit_count=2)
    audit = Audit(settings)
    audit.prepare()
    judged = audit.verdict(str(path), keep="80%", reading="likelihood")
    assert (judged.ability, judged.origin) == ("triage", str(path))
    folder = write_report(audit.report(), tmp_path / "reports")
    run = read_report(Path(folder), with_items=True)
    assert run.abilities[0].origin == str(path) and "ability triage" in run.fingerprints
    again = rescored(run, {})
    assert again.abilities[0].verdict == judged.verdict and again.abilities[0].origin == str(path)
    path.unlink()
    with pytest.raises(AuditError, match=r"triage\.toml cannot be read"):
        rescored(run, {})


def test_a_grid_runs_it_and_runs_it_again_when_it_changed(
    taught: SmallWorld, rows: list[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AUDIT_STORE", str(tmp_path / "store"))
    path = write_ability(tmp_path / "own", TWO_TEAMS, rows)
    cells = [Cell(str(taught.model), "identity", "", "batch-single", 2, 2)]
    settings = GridSettings(
        tmp_path / "grid", limit=20, edits={"pocket": str(taught.edits)}, abilities=(str(path),), device="cpu"
    )
    finished = Finished()
    for text in (TWO_TEAMS, TWO_TEAMS, TWO_TEAMS.replace("Ticket", "Message")):
        write_ability(tmp_path / "own", text, rows)
        assert run_grid(cells, settings, finished) == ()
    assert [kept for _, kept, _, _ in finished] == [False, True, False]
    (result,) = read_grid(settings.root)
    assert [one.ability for one in result.report.abilities] == ["triage"]
