"""The numbers of `audit diff` against their formulas in plain torch and numpy, and their properties."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from audit.measures import checkpoint_diff
from audit.measures.checkpoint_diff import (
    PARAMETER_ROLES,
    CheckpointDiff,
    block_and_role,
    compare,
    effective_rank,
    singular_values,
)
from audit.models.checkpoints import EditedCheckpoint, open_checkpoint
from audit.models.deltas import Delta, DenseDelta, LowRankDelta, Replacement
from audit.models.demonstrations import Demonstrations
from audit.models.fingerprints import weights_fingerprint
from audit.models.language_model import LanguageModel
from audit.models.loading import load_language_model
from audit.models.patches import ModulePatch, Patch, PatchSequence, WeightPatch, parameter_at
from tests.editors.tiny_families import FAMILIES, build_family
from tests.models.gguf_files import write_gguf
from tests.tiny_models import build_tiny_gpt2, build_tiny_llama

WEIGHT = "transformer.h.1.mlp.c_proj.weight"


def diff_of(lm: LanguageModel, deltas: dict[str, Delta] | Patch) -> CheckpointDiff:
    patch = WeightPatch(deltas) if isinstance(deltas, dict) else deltas
    return compare(lm, EditedCheckpoint("edited", "patch", None, patch))


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_every_number_follows_its_formula(tiny_gpt2: LanguageModel) -> None:
    before = weights_fingerprint(tiny_gpt2)
    weight = parameter_at(tiny_gpt2.model, WEIGHT).detach().numpy().astype(np.float64)
    content = parameter_at(tiny_gpt2.model, WEIGHT).detach() + 0.05 * noise(128, 32)
    (change,) = diff_of(tiny_gpt2, {WEIGHT: Replacement(content)}).changes
    assert weights_fingerprint(tiny_gpt2) == before

    delta = content.numpy().astype(np.float64) - weight
    values = np.linalg.svd(delta, compute_uv=False)
    shares = values / values.sum()
    assert (change.name, change.layer, change.role, change.shape) == (WEIGHT, 1, "MLP", (128, 32))
    assert change.norm == pytest.approx(np.linalg.norm(delta), rel=1e-5)
    assert change.relative_norm == pytest.approx(np.linalg.norm(delta) / np.linalg.norm(weight), rel=1e-5)
    assert change.spectral_norm == pytest.approx(values[0], rel=1e-5)
    assert change.relative_spectral_norm == pytest.approx(values[0] / np.linalg.norm(weight, 2), rel=1e-5)
    assert change.effective_rank == pytest.approx(np.exp(-np.sum(shares * np.log(shares))), rel=1e-5)
    assert change.numerical_rank == np.linalg.matrix_rank(delta) == 32
    assert change.largest_entry == pytest.approx(np.abs(delta).max(), rel=1e-5)
    assert change.entry_shares[0.1] == np.mean(np.abs(delta) > 0.1 * np.abs(weight))
    assert change.singular_values == pytest.approx(tuple(values), rel=1e-5)


@pytest.mark.parametrize("rank", [1, 3])
def test_the_rank_of_an_edit_is_found_despite_rounding(rank: int) -> None:
    lm = build_tiny_llama()
    name = lm.anatomy.weight_name(2)
    weight = parameter_at(lm.model, name).detach()
    product = 0.1 * noise(32, rank) @ noise(rank, 80, seed=1)
    (written,) = diff_of(lm, {name: Replacement(weight + product)}).changes
    (factored,) = diff_of(lm, {name: LowRankDelta(0.1 * noise(32, rank), noise(rank, 80, seed=1))}).changes
    assert written.numerical_rank == factored.numerical_rank == rank
    assert written.effective_rank == pytest.approx(factored.effective_rank, rel=1e-3)
    assert len(factored.singular_values) == rank
    assert written.spectral_norm == pytest.approx(factored.spectral_norm, rel=1e-5)


def test_weights_that_were_only_saved_in_another_precision_have_rank_zero(tmp_path: Path) -> None:
    other = build_tiny_gpt2()
    with torch.no_grad():
        parameter_at(other.model, WEIGHT).add_(torch.outer(noise(128), noise(32, seed=1)))
    other.model.half().save_pretrained(tmp_path)
    lm = build_tiny_gpt2()
    diff = compare(lm, open_checkpoint(lm, str(tmp_path)))
    ranks = {change.name: change.numerical_rank for change in diff.changes if len(change.shape) == 2}
    assert diff.stored_as == "float16" and diff.tensors == len(list(lm.model.parameters()))
    assert len(ranks) > 10 and {name for name, rank in ranks.items() if rank} == {WEIGHT}
    assert ranks[WEIGHT] == 1
    assert [change.name for change in diff.changes if not change.rounding_only] == [WEIGHT]


@pytest.mark.parametrize("base_kind", ["F32", "Q8_0"])
def test_the_quantization_of_gguf_files_is_kept(base_kind: str, tmp_path: Path) -> None:
    other = build_tiny_llama()
    with torch.no_grad():
        parameter_at(other.model, "model.layers.1.self_attn.q_proj.weight")[:, 0].add_(1)
    write_gguf(other, tmp_path / "edited.gguf", GGMLQuantizationType.Q8_0)
    write_gguf(build_tiny_llama(), tmp_path / "base.gguf", GGMLQuantizationType[base_kind])
    lm = load_language_model(str(tmp_path / "base.gguf"))
    diff = compare(lm, open_checkpoint(lm, str(tmp_path / "edited.gguf")))
    assert (diff.quantized_as, diff.base_quantized_as) == ("Q8_0", "" if base_kind == "F32" else "Q8_0")
    if base_kind == "Q8_0":  # only what was edited differs
        assert [change.name for change in diff.changes] == ["model.layers.1.self_attn.q_proj.weight"]
    else:
        assert len(diff.changes) > 10


def test_weights_of_a_gguf_file_in_half_precision_differ_by_rounding(tmp_path: Path) -> None:
    lm = load_language_model(str(write_gguf(build_tiny_llama(), tmp_path / "single.gguf")), dtype="float32")
    file = write_gguf(build_tiny_llama(), tmp_path / "half.gguf", GGMLQuantizationType.F16)
    diff = compare(lm, open_checkpoint(lm, str(file)))
    assert diff.stored_as == "float16" and diff.changes and all(change.rounding_only for change in diff.changes)


def test_the_largest_change_comes_first_and_shares_are_over_all_entries(tiny_gpt2: LanguageModel) -> None:
    weight = parameter_at(tiny_gpt2.model, WEIGHT).detach()
    other = "transformer.h.0.attn.c_proj.weight"  # (32, 32), a quarter of the entries
    small = parameter_at(tiny_gpt2.model, other).detach()
    diff = diff_of(tiny_gpt2, {WEIGHT: DenseDelta(0.15 * weight), other: DenseDelta(0.6 * small)})
    assert [(change.name, change.role) for change in diff.changes] == [(other, "attention"), (WEIGHT, "MLP")]
    assert diff.changes[1].relative_norm == pytest.approx(0.15, rel=1e-4)
    assert diff.entry_shares[0.5] == pytest.approx(1 / 5) and diff.entry_shares[0.1] == 1


def test_vectors_and_broken_changes_have_no_singular_values(tiny_gpt2: LanguageModel) -> None:
    bias = "transformer.h.0.mlp.c_proj.bias"  # zero in a fresh model
    broken = torch.full((128, 32), torch.nan)
    changes = {
        c.name: c for c in diff_of(tiny_gpt2, {bias: DenseDelta(torch.ones(32)), WEIGHT: DenseDelta(broken)}).changes
    }
    assert changes[bias].spectral_norm is changes[bias].numerical_rank is None
    assert changes[bias].relative_norm == math.inf and changes[bias].entry_shares[1.0] == 1
    assert changes[WEIGHT].relative_norm == math.inf and changes[WEIGHT].effective_rank is None


def test_a_sequence_is_compared_as_a_whole(tiny_gpt2: LanguageModel) -> None:
    step = WeightPatch({WEIGHT: LowRankDelta(noise(32, 1), noise(1, 128))}, frozenset({WEIGHT}))
    other = WeightPatch({WEIGHT: LowRankDelta(noise(32, 1, seed=2), noise(1, 128, seed=3))}, frozenset({WEIGHT}))
    (change,) = diff_of(tiny_gpt2, PatchSequence((step, other))).changes
    assert change.numerical_rank == 2


def test_an_empty_patch_and_attached_modules_are_distinguished(tiny_gpt2: LanguageModel) -> None:
    assert diff_of(tiny_gpt2, {}).identical
    attached = diff_of(tiny_gpt2, ModulePatch((Demonstrations((), "plain", 1, 1, None, 1),)))
    assert attached.changes == () and attached.attaches_modules and not attached.identical


def test_progress_counts_tensors(tiny_gpt2: LanguageModel) -> None:
    told: list[tuple[int, int]] = []
    patch = WeightPatch({WEIGHT: DenseDelta(noise(128, 32)), "lm_head.weight": DenseDelta(noise(400, 32))})
    compare(tiny_gpt2, EditedCheckpoint("x", "patch", None, patch), progress=lambda *at: told.append(at))
    assert told == [(1, 2), (2, 2)]


@pytest.mark.parametrize("family", FAMILIES)
def test_every_parameter_of_every_family_has_its_place(family: str) -> None:
    lm = build_family(family)
    places = {name: block_and_role(lm, name) for name, _ in lm.model.named_parameters()}
    assert {role for _, role in places.values()} <= set(PARAMETER_ROLES) - {"other"}
    for layer in range(lm.anatomy.depth):
        assert places[lm.anatomy.weight_name(layer)] == (layer, "MLP")
        assert places[f"{lm.anatomy.attention_projections[layer]}.weight"] == (layer, "attention")
        assert (layer, "norm") in places.values()
    assert places[f"{lm.anatomy.embeddings}.weight"] == (None, "embedding")
    assert places[f"{lm.anatomy.final_norm}.weight"] == (None, "norm")


matrices = st.tuples(st.integers(1, 7), st.integers(1, 7), st.integers(0, 999)).map(
    lambda drawn: noise(drawn[0], drawn[1], seed=drawn[2]).double()
)


@given(matrices, st.floats(1e-6, 1e6))
def test_effective_rank_lies_between_one_and_the_smaller_side_whatever_the_scale(matrix: Tensor, scale: float) -> None:
    rank = effective_rank(singular_values(matrix))
    assert 1 - 1e-9 <= rank <= min(matrix.shape) + 1e-9
    assert effective_rank(singular_values(scale * matrix)) == pytest.approx(rank, rel=1e-6)


@pytest.mark.parametrize("shape", [(40, 12), (12, 40), (9, 9)])
def test_large_matrices_have_the_same_singular_values(shape: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    matrix = noise(*shape) @ torch.diag(10.0 ** -torch.arange(shape[1]).clamp(max=5))
    exact = singular_values(matrix)
    monkeypatch.setattr(checkpoint_diff, "EXACT_ENTRIES", 0)
    torch.testing.assert_close(singular_values(matrix), exact, rtol=1e-4, atol=1e-7 * float(exact[0]))


@given(st.integers(1, 8))
def test_equal_directions_count_in_full(size: int) -> None:
    assert effective_rank(singular_values(torch.eye(size, 9).double())) == pytest.approx(size)
    assert effective_rank(torch.zeros(size)) == 0


@given(st.integers(1, 4), st.integers(5, 8), st.integers(5, 8), st.integers(0, 99))
def test_factors_have_the_singular_values_of_their_product(rank: int, out: int, inner: int, seed: int) -> None:
    factors = LowRankDelta(noise(out, rank, seed=seed), noise(rank, inner, seed=seed + 1))
    whole = singular_values(factors.left.double() @ factors.right.double())
    torch.testing.assert_close(singular_values(torch.empty(out, inner), factors), whole[:rank], rtol=1e-6, atol=1e-9)


@given(scale=st.floats(0.01, 100), seed=st.integers(0, 99))
@settings(max_examples=15)
def test_relative_norms_do_not_depend_on_the_scale_of_the_weights(scale: float, seed: int) -> None:
    lm = build_tiny_gpt2(layers=2)
    weight = parameter_at(lm.model, WEIGHT)
    update = 0.1 * noise(128, 32, seed=seed)
    (one,) = diff_of(lm, {WEIGHT: DenseDelta(update)}).changes
    with torch.no_grad():
        weight.mul_(scale)
    (other,) = diff_of(lm, {WEIGHT: DenseDelta(scale * update)}).changes
    assert other.relative_norm == pytest.approx(one.relative_norm, rel=1e-4)
    assert other.relative_spectral_norm == pytest.approx(one.relative_spectral_norm, rel=1e-4)
    assert other.effective_rank == pytest.approx(one.effective_rank, rel=1e-3)
