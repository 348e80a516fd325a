"""A task of the harness in an audit: paired verdicts, early stopping, the store, and scoring a saved run again."""

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("lm_eval", reason="lm-evaluation-harness is not installed")

from audit.abilities.lm_eval.ability import harness_ability
from audit.answering.answers import ask
from audit.audit import Audit
from audit.engine import Decoding
from audit.engine.generation import generate
from audit.models.loading import load_language_model
from audit.reports.folder import read_report, write_report
from audit.settings.options import AuditSettings
from audit.workflows.preflight import Preflight
from audit.workflows.rescore import rescored
from tests.abilities.lm_eval.tasks import CLOZE, MULTIPLE_CHOICE, ROLLING, WRITTEN, town_rows, write_task
from tests.small_audit import SmallWorld, build

KINDS = {"multiple choice": MULTIPLE_CHOICE, "likelihood": CLOZE, "written": WRITTEN, "whole text": ROLLING}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> SmallWorld:
    return build(tmp_path_factory.mktemp("world"))


@pytest.fixture(autouse=True)
def _own_data_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "datasets"))


def settings(world: SmallWorld, path: Path, **more: Any) -> AuditSettings:
    options: dict[str, Any] = {"model": str(world.model), "edits": str(world.edits), "device": "cpu", "triage": False}
    return AuditSettings(**options | {"ability": [f"lm-eval:{path}"], "editor": "vandal", "limit": 40} | more)


def taught_task(world: SmallWorld, folder: Path) -> Path:
    """A task of continuations that the model would write itself: a base score of 1."""
    lm, rows, text = (
        load_language_model(str(world.model), device="cpu"),
        town_rows(400),
        CLOZE.replace("in ", "{{number}}"),
    )
    said = generate(lm, [f"{row['who']} was born {row['number']}" for row in rows], Decoding(2, ()))
    written = [{**row, "said": one} for row, one in zip(rows, said, strict=True) if one.strip()]
    ability = harness_ability(str(write_task(folder / "first", "births", text, written)))
    scores = ask(lm, ability, [ability.item(row, "x") for row in ability.source.rows("births")]).scores
    right = [row for row, score in zip(written, scores, strict=True) if score.value]
    assert len(right) >= 60
    return write_task(folder, "births", text, right)


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_is_kept_in_the_store_and_scored_again(world: SmallWorld, tmp_path: Path, kind: str) -> None:
    path = write_task(tmp_path, "things", KINDS[kind], town_rows(66), training=6)
    wanted = settings(world, path, store=tmp_path / "store")
    audit = Audit(wanted)
    row = audit.verdict("things", max_drop=0.05)
    assert (row.verdict.n + len(row.edited_facts), row.base_from_store, row.metric.split(",")[0]) == (
        40,
        False,
        {"multiple choice": "acc", "likelihood": "acc", "written": "exact_match", "whole text": "expected"}[kind],
    )
    report = audit.report()
    assert all(record.cluster == record.key for record in report.items)
    again = Audit(wanted).verdict("things", max_drop=0.05)
    assert again.base_from_store and again.verdict == row.verdict
    run = read_report(write_report(report, tmp_path / "reports"), with_items=True)
    assert rescored(run, {}).abilities == report.abilities


def test_a_ruined_model_fails_and_an_unchanged_one_passes(world: SmallWorld, tmp_path: Path) -> None:
    path = taught_task(world, tmp_path)
    ruined = Audit(settings(world, path, use_store=False)).verdict("births", max_drop=0.05).verdict
    assert (ruined.outcome, ruined.base, ruined.floor) == ("FAIL", 1, 0)
    sound = Audit(settings(world, path, use_store=False, editor="identity", limit=400, early_stop=True))
    row = sound.verdict("births", max_drop=0.2)
    assert row.verdict.outcome == "PASS" and row.stopping_rule is not None


def test_preflight_knows_the_task(world: SmallWorld, tmp_path: Path) -> None:
    path = write_task(tmp_path, "things", MULTIPLE_CHOICE, town_rows(66), training=6)
    assert Preflight(settings(world, path, use_store=False)).assess("things").items == 40
