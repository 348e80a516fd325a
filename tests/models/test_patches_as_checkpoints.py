"""Patches and files of differences are read like checkpoints."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from audit.errors import AuditError
from audit.models.checkpoints import open_checkpoint, read_checkpoint
from audit.models.deltas import LowRankDelta
from audit.models.fingerprints import weights_fingerprint
from audit.models.language_model import LanguageModel
from audit.models.patches import PatchSequence, WeightPatch, parameter_at
from tests.tiny_models import build_tiny_gpt2, build_tiny_llama


def change_of(lm: LanguageModel) -> WeightPatch:
    name = lm.anatomy.weight_name(1)
    delta = LowRankDelta(torch.ones(32, 1), torch.ones(1, lm.anatomy.inner_size))
    return WeightPatch({name: delta}, meta={"base": weights_fingerprint(lm)})


def test_a_saved_patch_is_read_unchanged(tmp_path: Path) -> None:
    lm = build_tiny_llama()
    patch = change_of(lm)
    patch.save(tmp_path)
    read = open_checkpoint(lm, str(tmp_path))
    assert (read.kind, read.patch.fingerprint) == ("patch", patch.fingerprint)
    PatchSequence((WeightPatch({}), WeightPatch({}))).save(tmp_path / "nothing")
    assert open_checkpoint(lm, str(tmp_path / "nothing")).identical
    with pytest.raises(AuditError, match="was made for a model with fingerprint"):
        read_checkpoint(build_tiny_llama(seed=1), str(tmp_path))


def test_a_plan_folder_with_several_patches_or_none_is_refused(tmp_path: Path) -> None:
    from audit.editing import plan_folder
    from audit.models.checkpoints import PLAN_FILE

    assert plan_folder.PLAN_FILE == PLAN_FILE
    lm = build_tiny_llama()
    (tmp_path / PLAN_FILE).write_text("{}")
    with pytest.raises(AuditError, match="is not finished; run it again"):
        read_checkpoint(lm, str(tmp_path))
    for number in ("00000", "00001"):
        change_of(lm).save(tmp_path / number)
    with pytest.raises(AuditError, match=r"holds 2 patches, one per edit request; .*/00000\."):
        read_checkpoint(lm, str(tmp_path))
    assert open_checkpoint(lm, str(tmp_path / "00000")).kind == "patch"


@pytest.mark.parametrize("prefix", ["", "transformer."])
def test_a_file_of_differences_is_added(prefix: str, tmp_path: Path) -> None:
    change = torch.randn(128, 32, generator=torch.Generator().manual_seed(0))
    tensors = {f"{prefix}h.1.mlp.c_proj.weight": change.half(), f"{prefix}ln_f.weight": torch.zeros(32)}
    save_file(tensors, tmp_path / "delta.safetensors")
    lm = build_tiny_gpt2()
    before = parameter_at(lm.model, "transformer.h.1.mlp.c_proj.weight").detach().clone()
    read = open_checkpoint(lm, str(tmp_path / "delta.safetensors"))
    assert isinstance(read.patch, WeightPatch) and read.kind == "differences"
    assert list(read.patch.deltas) == ["transformer.h.1.mlp.c_proj.weight"]
    with read.patch.applied(lm):
        after = parameter_at(lm.model, "transformer.h.1.mlp.c_proj.weight").detach()
        assert torch.equal(after, before + change.half().float())
