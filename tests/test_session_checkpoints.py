"""A checkpoint that somebody else edited, audited against its base: no editor, and no second model."""

from pathlib import Path
from typing import Any

import pytest
import torch

from audit import Audit
from audit.errors import AuditError
from audit.models.fingerprints import weights_fingerprint
from tests.small_audit import SmallWorld, build, teach
from tests.tiny_models import build_tiny_gpt2


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> SmallWorld:
    small = build(tmp_path_factory.mktemp("world"))
    teach(small)
    return small


@pytest.fixture
def options(world: SmallWorld, tmp_path: Path) -> dict[str, Any]:
    wanted = world.options(store=tmp_path / "store", device="cpu", limit=60)
    return {name: value for name, value in wanted.items() if name != "edits"}


def textbook_update(world: SmallWorld, folder: Path, size: float) -> Path:
    """A rank-one change of one down projection, made and saved with nothing of the audit's."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(world.model)
    weight = model.transformer.h[1].mlp.c_proj.weight  # (inner, hidden): a Conv1D
    chance = torch.Generator().manual_seed(0)
    column, row = (torch.randn(width, generator=chance) for width in weight.shape)
    with torch.no_grad():
        weight += size * torch.outer(column, row)
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(world.model).save_pretrained(folder)
    return folder


def test_a_small_change_by_another_tool_passes_and_a_large_one_fails(
    world: SmallWorld, options: dict[str, Any], tmp_path: Path
) -> None:
    small = textbook_update(world, tmp_path / "small", 1e-6)
    kept = Audit(**options | {"edited": str(small)})
    assert kept.verdict("open_qa").outcome == "PASS"
    large = Audit(**options | {"edited": str(textbook_update(world, tmp_path / "large", 5.0))})
    before = weights_fingerprint(large.lm)
    report = large.run(["open_qa"])
    (row,) = report.abilities
    assert (row.outcome, row.base) == ("FAIL", 1.0)
    assert row.base_from_store
    assert weights_fingerprint(large.lm) == before
    assert report.edit_scores == ()
    assert f"{tmp_path / 'large'}, a checkpoint of " in report.header.lines()[0]


def test_identical_weights_lose_nothing(world: SmallWorld, options: dict[str, Any]) -> None:
    report = Audit(**options | {"edited": str(world.model), "limit": 6}).run()
    assert {row.drop for row in report.abilities} == {0.0}
    assert {row.changed for row in report.abilities} == {0}


def test_an_edits_file_beside_it_is_measured(world: SmallWorld, options: dict[str, Any], tmp_path: Path) -> None:
    edited = textbook_update(world, tmp_path / "edited", 1e-3)
    report = Audit(**options | {"edited": str(edited), "edits": str(world.edits), "limit": 4}).run(["ner"])
    assert {score.n for score in report.edit_scores if score.measure == "efficacy"} == {4}
    assert report.header.plan == "a checkpoint with 4 known edits"


def test_a_patch_of_ours_is_a_checkpoint_too(world: SmallWorld, options: dict[str, Any], tmp_path: Path) -> None:
    editor = {"editor": "rome", "edits": str(world.edits), "edit_count": 2, "limit": 6}
    config = {"editor_config": {"covariance": "identity", "steps": "2", "contexts_per_length": "0"}}
    made = Audit(**options | editor | config | {"patch": tmp_path / "patch"}).run(["open_qa"])
    taken = Audit(**options | {"edited": str(tmp_path / "patch"), "limit": 6}).run(["open_qa"])
    assert [item.edited[0].text for item in taken.items] == [item.edited[0].text for item in made.items]


def test_another_architecture_is_refused_before_anything_is_asked(options: dict[str, Any], tmp_path: Path) -> None:
    other = build_tiny_gpt2()
    other.model.config.n_layer = 4
    other.model.save_pretrained(tmp_path / "other")
    with pytest.raises(AuditError) as caught:
        Audit(**options | {"edited": str(tmp_path / "other")}).prepare()
    assert "n_layer is 4 and not 3" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "wanted", [{"edit_mode": "batch-single"}, {"restraint": "rect:0.4"}, {"editor_config": {"layers": "1"}}]
)
def test_what_says_how_to_edit_does_not_go_with_it(options: dict[str, Any], wanted: dict[str, Any]) -> None:
    with pytest.raises(AuditError, match="says how to edit, but --edited x is edited already"):
        Audit(**options | {"edited": "x"} | wanted)
