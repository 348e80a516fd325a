"""A replacement puts new content in a weight's place bit for bit, and is refused where only a change makes sense."""

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from audit.editors.restraints import load_restraint
from audit.errors import AuditError
from audit.models.files.stored_weights import same_bits
from audit.models.fingerprints import weights_fingerprint
from audit.models.patch_changes import total_changes
from audit.models.patches import (
    DenseDelta,
    PatchSequence,
    Replacement,
    WeightPatch,
    load_patch,
    originals_kept,
    parameter_at,
)
from tests.measures.test_integrity import check_integrity
from tests.tiny_models import build_tiny_gpt2

WEIGHT = "transformer.h.1.mlp.c_proj.weight"


@given(
    dtype=st.sampled_from([torch.float32, torch.bfloat16, torch.float16]),
    entries=st.lists(st.floats(width=32), min_size=1, max_size=8),
)
@settings(max_examples=25, deadline=None)
def test_the_weight_becomes_the_content_and_comes_back_bit_for_bit(dtype: torch.dtype, entries: list[float]) -> None:
    lm = build_tiny_gpt2(layers=2, dtype=dtype)
    before = weights_fingerprint(lm)
    content = parameter_at(lm.model, WEIGHT).detach().clone()
    content.view(-1)[: len(entries)] = torch.tensor(entries).to(dtype)  # NaN, infinities and −0 among them
    with WeightPatch({WEIGHT: Replacement(content)}).applied(lm):
        assert same_bits(parameter_at(lm.model, WEIGHT).detach(), content)
    assert weights_fingerprint(lm) == before


def test_adding_a_rounded_difference_would_miss_bits_that_a_replacement_keeps() -> None:
    lm = build_tiny_gpt2(layers=2)
    weight = parameter_at(lm.model, WEIGHT).detach().clone()
    content = 1e-3 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(0))
    with WeightPatch({WEIGHT: DenseDelta(content - weight)}).applied(lm):
        assert not torch.equal(parameter_at(lm.model, WEIGHT), content)
    with WeightPatch({WEIGHT: Replacement(content)}).applied(lm):
        assert torch.equal(parameter_at(lm.model, WEIGHT), content)


def test_a_saved_replacement_comes_back_as_one(tmp_path: Path) -> None:
    patch = WeightPatch({WEIGHT: Replacement(torch.full((128, 32), 0.1, dtype=torch.bfloat16))})
    patch.save(tmp_path)
    loaded = load_patch(tmp_path)
    assert isinstance(loaded, WeightPatch) and isinstance(loaded.deltas[WEIGHT], Replacement)
    assert loaded.fingerprint == patch.fingerprint
    assert loaded.fingerprint != WeightPatch({WEIGHT: DenseDelta(torch.full((128, 32), 0.1).bfloat16())}).fingerprint


def test_content_of_another_shape_is_refused_before_anything_is_written() -> None:
    lm = build_tiny_gpt2(layers=2)
    patch = WeightPatch({WEIGHT: Replacement(torch.ones(128, 32)), "lm_head.weight": Replacement(torch.ones(3))})
    with pytest.raises(AuditError, match=r"changes lm_head\.weight by a \(3,\) matrix"), originals_kept(lm) as kept:
        patch.write(lm, kept)
    assert not torch.equal(parameter_at(lm.model, WEIGHT), torch.ones(128, 32))


@pytest.mark.parametrize("restraint", ["rect:0.4", "random:0.4", "prune"])
def test_a_replacement_cannot_be_restrained(restraint: str) -> None:
    lm = build_tiny_gpt2(layers=2)
    patch = WeightPatch({WEIGHT: Replacement(torch.ones(128, 32))})
    held = load_restraint(restraint)
    with pytest.raises(AuditError, match="replaces weights stores their new content, not the difference"):
        held.after_plan(lm, held.after_edit(lm, patch))


def test_one_replacement_is_its_own_total_and_cannot_be_summed_with_another_change() -> None:
    lm = build_tiny_gpt2(layers=2)
    patch = WeightPatch({WEIGHT: Replacement(torch.ones(128, 32))})
    assert total_changes(lm, patch).deltas[WEIGHT] is patch.deltas[WEIGHT]
    with pytest.raises(AuditError, match="cannot be summed or restrained"):
        total_changes(lm, PatchSequence((patch, WeightPatch({WEIGHT: DenseDelta(torch.ones(128, 32))}))))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_integrity_is_measured_on_what_was_written(dtype: torch.dtype) -> None:
    lm = build_tiny_gpt2(layers=2, dtype=dtype)
    weight = parameter_at(lm.model, WEIGHT).detach().clone()
    checked = check_integrity(lm, WeightPatch({WEIGHT: Replacement(1.5 * weight)}), ("Mara Lind was born in Velden.",))
    assert checked.update_norms[WEIGHT] == pytest.approx(0.5, rel=1e-2)
    assert checked.rounding_loss is None  # nothing is rounded: the content is what the model has
