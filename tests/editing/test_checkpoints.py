"""An audit of a checkpoint that was edited elsewhere: in plain torch, saved by transformers."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from audit import Audit
from audit.models.fingerprints import weights_fingerprint
from audit.reports.rows import RunReport
from tests.small_audit import SmallWorld, build, teach

ASKED = ("nli", "open_qa", "summarization")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> SmallWorld:
    small = build(tmp_path_factory.mktemp("world"))
    teach(small)
    return small


@pytest.fixture
def options(world: SmallWorld, tmp_path: Path) -> dict[str, Any]:
    return world.options(store=tmp_path / "store", device="cpu", limit=60)


def textbook_edit(world: SmallWorld, folder: Path, size: float, shard: str = "1GB") -> Path:
    """W + (v − W k) kᵀ / (kᵀ k) in one block's down projection, v with `size` standard deviations; none of our code."""
    model = AutoModelForCausalLM.from_pretrained(world.model)
    weight = model.transformer.h[1].mlp.c_proj.weight  # (in, out)
    generator = torch.Generator().manual_seed(0)
    key = torch.randn(weight.shape[0], generator=generator)
    value = size * torch.randn(weight.shape[1], generator=generator)
    with torch.no_grad():
        weight += torch.outer(key, value - key @ weight) / key.dot(key)
    model.save_pretrained(folder, max_shard_size=shard)
    AutoTokenizer.from_pretrained(world.model).save_pretrained(folder)
    return folder


def edited_texts(report: RunReport) -> dict[tuple[str, str], str]:
    return {(item.ability, item.key): item.edited[0].text for item in report.items}


def test_the_edited_answers_equal_those_of_the_checkpoint(
    world: SmallWorld, options: dict[str, Any], tmp_path: Path
) -> None:
    folder = textbook_edit(world, tmp_path / "edited", 300.0, shard="50KB")
    few = options | {"limit": 8, "reading": {"open_qa": "answers", "nli": "answers"}, "prompting": "plain"}
    audit = Audit(**few | {"edited": str(folder)})
    before = weights_fingerprint(audit.lm)
    report = audit.run(ASKED)
    assert weights_fingerprint(audit.lm) == before
    alone = Audit(**few | {"model": str(folder), "editor": "identity"}).run(ASKED)
    assert edited_texts(report) == {(item.ability, item.key): item.base.text for item in alone.items}
    assert any(item.base.text != item.edited[0].text for item in report.items)
    (update,) = [row.value for row in report.integrity if row.check == "relative update norm"]
    assert update is not None and update > 0


def test_an_unedited_checkpoint_passes_and_a_ruined_one_fails(
    world: SmallWorld, options: dict[str, Any], tmp_path: Path
) -> None:
    same = Audit(**options | {"edited": str(world.model), "allow_unchanged": True}).verdict("open_qa")
    assert (same.outcome, same.changed, same.verdict.drop) == ("PASS", 0, 0.0)
    ruined = Audit(**options | {"edited": str(textbook_edit(world, tmp_path / "ruined", 3000.0))}).verdict("open_qa")
    assert ruined.outcome == "FAIL" and ruined.verdict.right_to_wrong > 30
