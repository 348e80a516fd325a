"""Calibration measures the noise of a model's scores, stores it, and later audits check margins against it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import audit.workflows.calibrate as calibration
from audit.abilities.contract import Answers
from audit.answering.answers import AnswerLogs
from audit.answering.items import drawn_items
from audit.answering.noise_floors import kept_calibration
from audit.audit import Audit
from audit.errors import AuditError
from audit.models.language_model import LanguageModel
from audit.models.loading import load_language_model
from audit.settings.options import AuditSettings
from audit.verdicts.intervals import resolution
from audit.verdicts.margins import Points, Retained
from audit.workflows.calibrate import BATCH_SIZES, asked_in_other_batches, calibrate
from tests.small_audit import SmallWorld, build, teach

ITEMS = 60
Forward = Callable[[LanguageModel, torch.Tensor], torch.Tensor]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> SmallWorld:
    small = build(tmp_path_factory.mktemp("world"))
    teach(small, ITEMS)  # open_qa
    return small


def settings(world: SmallWorld, tmp_path: Path, **more: Any) -> AuditSettings:
    wanted: dict[str, Any] = {"model": str(world.model), "data": str(world.rows), "edits": str(world.edits)}
    return AuditSettings(
        **wanted | {"limit": ITEMS, "store": tmp_path / "store", "device": "cpu", "editor": "identity"} | more
    )


@pytest.fixture
def planted(monkeypatch: pytest.MonkeyPatch) -> Callable[[Forward], list[LanguageModel]]:
    """Lets calibration load a model whose logits (rows, new, vocabulary) go through a function; the models loaded."""

    def plant(changed: Forward) -> list[LanguageModel]:
        loaded: list[LanguageModel] = []

        def load(*names: Any, **how: Any) -> LanguageModel:
            lm = load_language_model(*names, **how)

            def change(module: Any, arguments: Any, output: Any) -> Any:
                output.logits = changed(lm, output.logits)
                return output

            lm.model.register_forward_hook(change)
            loaded.append(lm)
            return lm

        monkeypatch.setattr(calibration, "load_language_model", load)
        return loaded

    return plant


def noisy_among_few(lm: LanguageModel, logits: torch.Tensor) -> torch.Tensor:
    """Other words where few rows are computed together."""
    return logits.roll(1, -1) if len(logits) < 8 else logits


def test_the_floor_in_float32_is_the_resolution_of_the_items(world: SmallWorld, tmp_path: Path) -> None:
    (one,) = calibrate(settings(world, tmp_path), ["open_qa"]).abilities
    assert (one.batches.flips, one.batches.n, one.base) == (0, ITEMS, 1.0)
    assert one.held.floor == resolution(ITEMS)
    assert (one.dtype, one.other) == ("float32", "bfloat16")


def test_an_audit_of_the_same_model_and_data_reports_the_floor(world: SmallWorld, tmp_path: Path) -> None:
    calibrate(settings(world, tmp_path), ["open_qa"])
    row = Audit(settings(world, tmp_path, limit=30)).verdict("open_qa", max_drop=0.2)  # on fewer items
    assert row.noise_floor == resolution(ITEMS)
    assert row.noise_items == ITEMS
    other = Audit(settings(world, tmp_path, limit=4)).verdict("sentiment", max_drop=0.01)
    assert other.noise_floor is None  # no calibration of this ability
    read = Audit(settings(world, tmp_path, limit=4)).verdict("open_qa", max_drop=0.2, reading="likelihood")
    assert read.noise_floor is None  # none of this reading


def test_a_margin_below_the_floor_is_refused_before_editing(
    world: SmallWorld, tmp_path: Path, planted: Callable[[Forward], list[LanguageModel]]
) -> None:
    planted(noisy_among_few)
    (one,) = calibrate(settings(world, tmp_path), ["open_qa"]).abilities
    assert one.batches.flips > 10
    audit = Audit(settings(world, tmp_path))
    with pytest.raises(AuditError, match=r"open_qa: a margin of 0\.05 is under the noise floor of 0\.\d+"):
        audit.verdict("open_qa", max_drop=0.05)
    with pytest.raises(AuditError, match=r"open_qa: a margin of 90% \(0\.\d+\) is under the noise floor"):
        audit.verdict("open_qa", max_drop="90%")
    assert not {"_edited", "integrity"} & audit.__dict__.keys()
    assert not audit.measured
    row = audit.verdict("open_qa", max_drop=0.9)
    assert (row.outcome, row.noise_floor) == ("PASS", one.held.floor)


def test_a_run_checks_all_margins_before_it_asks_the_first_ability(world: SmallWorld, tmp_path: Path) -> None:
    calibrate(settings(world, tmp_path), ["open_qa"])
    audit = Audit(settings(world, tmp_path))
    with pytest.raises(AuditError, match=r"open_qa: a margin of 0\.02 is under the noise floor"):
        audit.run(["sentiment", "open_qa"], max_drop=0.02)
    assert not audit.measured


def test_a_new_calibration_replaces_the_old_one(
    world: SmallWorld, tmp_path: Path, planted: Callable[[Forward], list[LanguageModel]], monkeypatch: Any
) -> None:
    planted(noisy_among_few)
    calibrate(settings(world, tmp_path), ["open_qa"])
    monkeypatch.setattr(calibration, "load_language_model", load_language_model)
    calibrate(settings(world, tmp_path), ["open_qa"])
    assert Audit(settings(world, tmp_path)).verdict("open_qa", max_drop=0.05).noise_floor == resolution(ITEMS)


def test_other_items_of_an_ability_have_their_own_floor(world: SmallWorld, tmp_path: Path) -> None:
    calibrate(settings(world, tmp_path), ["open_qa"])
    audit = Audit(settings(world, tmp_path))
    log, wanted = AnswerLogs(audit.edit_run.logs.store).of(audit.known), audit.settings
    assert kept_calibration(log, "open_qa", wanted, str(world.rows)) is not None
    assert kept_calibration(log, "open_qa", wanted, "pocket") is None
    assert kept_calibration(log, "open_qa", settings(world, tmp_path, shots=1), str(world.rows)) is None
    assert kept_calibration(log, "open_qa", settings(world, tmp_path, protocol="gu2024"), "x") is None


@pytest.mark.parametrize(("dtype", "held"), [("float32", False), ("bfloat16", True)])
def test_the_other_dtype_sets_the_floor_in_half_precision_only(
    dtype: str, held: bool, world: SmallWorld, tmp_path: Path, planted: Callable[[Forward], list[LanguageModel]]
) -> None:
    first = getattr(torch, dtype)
    planted(lambda lm, logits: logits if lm.dtype == first else logits.roll(1, -1))
    (one,) = calibrate(settings(world, tmp_path, dtype=dtype), ["open_qa"]).abilities
    assert one.arithmetic is not None
    assert one.arithmetic.flips > ITEMS // 2 > one.batches.flips
    assert one.held is (one.arithmetic if held else one.batches)


def test_the_other_dtype_uses_the_same_weights(
    world: SmallWorld, tmp_path: Path, planted: Callable[[Forward], list[LanguageModel]]
) -> None:
    loaded = planted(lambda lm, logits: logits)
    calibrate(settings(world, tmp_path, dtype="bfloat16"), ["sentiment"])
    half, full = (dict(lm.model.named_parameters()) for lm in loaded)
    assert {p.dtype for p in full.values()} == {torch.float32}
    assert all(torch.equal(half[name].float(), full[name]) for name in half)


def test_a_model_too_large_for_the_other_dtype_is_calibrated_by_batches(
    world: SmallWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(*names: Any, dtype: str, **how: Any) -> LanguageModel:
        if dtype == "float32":
            raise torch.OutOfMemoryError("CUDA out of memory")
        return load_language_model(*names, dtype=dtype, **how)

    monkeypatch.setattr(calibration, "load_language_model", load)
    wanted = settings(world, tmp_path, dtype="bfloat16")
    found = calibrate(wanted, ["open_qa"])
    assert found.abilities[0].arithmetic is None
    assert found.sentences()[-1] == (
        "Nothing was asked in float32: the model does not fit into the memory of the device in float32."
    )
    row = Audit(wanted).verdict("open_qa", max_drop=0.9)
    assert row.noise_floor == found.abilities[0].batches.floor


def test_the_other_batches_are_shuffled_and_small(
    world: SmallWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = settings(world, tmp_path)
    audit = Audit(wanted)
    drawn = drawn_items("open_qa", audit.source, wanted)
    ability, items = drawn.ability, drawn.items
    batches: list[list[str]] = []

    def ask(lm: Any, ability: Any, some: Any) -> Answers:
        batches.append([item.key for item in some])
        return Answers("open_qa", tuple(some), (), (), tuple({"text": item.key, "ids": []} for item in some))

    monkeypatch.setattr(calibration, "ask", ask)
    progress: list[tuple[int, int]] = []
    asked = asked_in_other_batches(audit.lm, ability, items, 0, lambda done, total: progress.append((done, total)))
    assert [raw["text"] for raw in asked.raw] == [item.key for item in items]
    assert [len(batch) for batch in batches[:-1]] == [*BATCH_SIZES, *BATCH_SIZES][: len(batches) - 1]
    assert [key for batch in batches for key in batch] != [item.key for item in items]
    assert progress[-1] == (ITEMS, ITEMS)


def test_abilities_that_cannot_be_asked_do_not_stop_the_others(world: SmallWorld, tmp_path: Path) -> None:
    folder = tmp_path / "rows"
    folder.mkdir()
    (folder / "nq_open.jsonl").write_bytes((world.rows / "nq_open.jsonl").read_bytes())
    found = calibrate(settings(world, tmp_path, data=str(folder), limit=4), ["nli", "open_qa"])
    assert [one.ability for one in found.abilities] == ["open_qa"]
    assert found.sentences()[0].startswith("nli was not asked: ")
    with pytest.raises(AuditError, match="no ability was asked: nli: "):
        calibrate(settings(world, tmp_path, data=str(folder)), ["nli"])


def test_calibration_needs_a_store(world: SmallWorld, tmp_path: Path) -> None:
    with pytest.raises(AuditError, match="leave --no-store out"):
        calibrate(settings(world, tmp_path, store=None, use_store=False), ["open_qa"])


def test_a_share_to_retain_is_compared_in_points_at_the_base_score(world: SmallWorld, tmp_path: Path) -> None:
    (one,) = calibrate(settings(world, tmp_path), ["open_qa"]).abilities
    assert one.require(Retained(0.9)) == one.require(Points(0.06)) == one.held
    with pytest.raises(AuditError, match="a margin of 99%"):
        one.require(Retained(0.99))
