"""A patch changes the model and is reverted bit for bit, in every precision, also after an exception."""

from collections.abc import Callable
from contextlib import ExitStack

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from audit.errors import AuditError
from audit.models.fingerprints import weights_fingerprint
from audit.models.language_model import LanguageModel
from audit.models.patches import (
    Delta,
    DenseDelta,
    LowRankDelta,
    Originals,
    PatchSequence,
    SparseDelta,
    WeightPatch,
    identity_patch,
    originals_kept,
)
from tests.tiny_models import build_tiny_gpt2, build_tiny_llama

HEAD, EMBEDDING = "lm_head.weight", "transformer.wte.weight"  # one tensor under two names in a tied GPT-2
DTYPES = [torch.float32, torch.bfloat16, torch.float16]
BUILDERS = [build_tiny_gpt2, build_tiny_llama]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("builder", BUILDERS)
@pytest.mark.parametrize("fill", [1e-3, 1e4, float("nan"), float("inf")])
def test_reverting_a_patch_is_exact(builder: Callable[..., LanguageModel], dtype: torch.dtype, fill: float) -> None:
    lm = builder(dtype=dtype)
    before = weights_fingerprint(lm)
    patch = random_patch(lm, layers=(0, 2), scale=fill)
    with patch.applied(lm):
        assert weights_fingerprint(lm) != before
    assert weights_fingerprint(lm) == before


@pytest.mark.parametrize("builder", BUILDERS)
def test_an_exception_reverts_the_patch(builder: Callable[..., LanguageModel]) -> None:
    lm = builder()
    before = weights_fingerprint(lm)
    with pytest.raises(KeyboardInterrupt), random_patch(lm).applied(lm):
        raise KeyboardInterrupt
    assert weights_fingerprint(lm) == before


def test_a_failing_patch_is_reverted() -> None:
    lm = build_tiny_gpt2()
    before = weights_fingerprint(lm)

    class Failing(WeightPatch):
        def write(self, lm: LanguageModel, originals: Originals) -> None:
            super().write(lm, originals)
            raise OverflowError

    with pytest.raises(OverflowError), Failing(random_patch(lm).deltas, random_patch(lm).transposed).applied(lm):
        pytest.fail("a patch that was not written must not be yielded")
    assert weights_fingerprint(lm) == before


def test_a_low_rank_delta_is_out_by_in_however_the_model_stores_the_weight() -> None:
    for builder in BUILDERS:
        lm = builder()
        name = lm.anatomy.weight_name(1)
        weight = lm.model.get_parameter(name).clone()
        patch = random_patch(lm, layers=(1,))
        delta = patch.deltas[name]
        assert isinstance(delta, LowRankDelta)
        with patch.applied(lm):
            product = delta.left @ delta.right  # (hidden, inner)
            expected = weight + (product.T if lm.anatomy.transposed else product)
            assert torch.equal(lm.model.get_parameter(name), expected)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_a_change_is_added_in_float32_and_rounded_once(dtype: torch.dtype) -> None:
    lm = build_tiny_llama(dtype=dtype)
    name = lm.anatomy.weight_name(0)
    weight = lm.model.get_parameter(name).clone()
    # Smaller than half a step of the weight in half precision: rounding the change first would lose more.
    values = torch.randn(weight.shape, generator=torch.Generator().manual_seed(1)) * 3e-3
    with WeightPatch({name: DenseDelta(values)}).applied(lm):
        assert torch.equal(lm.model.get_parameter(name), (weight.float() + values).to(dtype))
        assert lm.model.get_parameter(name).dtype == dtype


def test_float64_factors_are_not_rounded_before_they_are_added() -> None:
    lm = build_tiny_llama()
    name = lm.anatomy.weight_name(0)
    weight = lm.model.get_parameter(name).clone()
    delta = random_delta(lm, dtype=torch.float64)
    with WeightPatch({name: delta}).applied(lm):
        assert torch.equal(lm.model.get_parameter(name), (weight.double() + delta.left @ delta.right).float())


@pytest.mark.parametrize("kind", ["low rank", "dense", "sparse"])
def test_a_change_goes_to_the_device_of_its_weight(kind: str) -> None:
    """The meta device computes nothing, so what mixes it with another device is refused or stays behind."""
    whole = torch.eye(4)[:, :3]
    delta = {"low rank": LowRankDelta(torch.eye(4), whole), "dense": DenseDelta(whole), "sparse": SparseDelta.of(whole)}
    change = delta[kind].change(False, torch.device("meta"))
    assert change.is_meta and change.shape == whole.shape
    assert torch.equal(delta[kind].change(False, torch.device("cpu")), whole)


def test_tied_weights_are_reverted_as_one_tensor() -> None:
    lm = build_tiny_gpt2()
    before = weights_fingerprint(lm)
    weight = lm.model.get_parameter(EMBEDDING).clone()
    change = torch.ones_like(weight)
    with WeightPatch({HEAD: DenseDelta(change), EMBEDDING: DenseDelta(change)}).applied(lm):
        assert torch.equal(lm.model.get_parameter(HEAD), weight + change + change)
        assert lm.model.get_parameter(HEAD) is lm.model.get_parameter(EMBEDDING)
    assert weights_fingerprint(lm) == before


@given(order=st.permutations(range(4)), depth=st.integers(1, 4))
@settings(max_examples=10)
def test_nested_patches_come_off_one_by_one(order: list[int], depth: int) -> None:
    lm = build_tiny_gpt2(dtype=torch.bfloat16)
    patches = [random_patch(lm, layers=(0, seed % 3), seed=seed) for seed in order[:depth]]
    states = []
    with ExitStack() as outside:
        stacks = []
        for patch in patches:
            states.append(weights_fingerprint(lm))
            stacks.append(outside.enter_context(ExitStack()))
            stacks[-1].enter_context(patch.applied(lm))
        for stack, state in zip(reversed(stacks), reversed(states), strict=True):
            stack.close()
            assert weights_fingerprint(lm) == state


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("builder", BUILDERS)
def test_a_sequence_is_the_same_as_one_after_another(builder: Callable[..., LanguageModel], dtype: torch.dtype) -> None:
    lm = builder(dtype=dtype)
    before = weights_fingerprint(lm)
    patches = tuple(random_patch(lm, layers=(seed % 2, 2), seed=seed, scale=0.01) for seed in range(4))
    with ExitStack() as stack:
        for patch in patches:
            stack.enter_context(patch.applied(lm))
        one_by_one = weights_fingerprint(lm)
    with PatchSequence(patches).applied(lm):
        assert weights_fingerprint(lm) == one_by_one
    with PatchSequence((PatchSequence(patches[:1]), *patches[1:])).applied(lm):
        assert weights_fingerprint(lm) == one_by_one
    assert weights_fingerprint(lm) == before


def test_the_identity_changes_nothing(tiny_gpt2: LanguageModel) -> None:
    before = weights_fingerprint(tiny_gpt2)
    with identity_patch().applied(tiny_gpt2):
        assert weights_fingerprint(tiny_gpt2) == before


def test_originals_remember_the_first_touch_only() -> None:
    lm = build_tiny_gpt2()
    before = weights_fingerprint(lm)
    with originals_kept(lm) as originals:
        for _ in range(3):
            with torch.no_grad():
                originals.keep(EMBEDDING).add_(1.0)
        with torch.no_grad():
            originals.keep(HEAD).mul_(2.0)
    assert weights_fingerprint(lm) == before


def test_a_parameter_that_was_replaced_is_noticed_on_the_way_out() -> None:
    lm = build_tiny_llama()
    name = lm.anatomy.weight_name(0)
    module = lm.model.get_submodule(lm.anatomy.down_projections[0])
    with (
        pytest.raises(AuditError, match=f"{name} could not be restored because it was replaced"),
        originals_kept(lm) as originals,
    ):
        module.weight = nn.Parameter(originals.keep(name) + 1.0, requires_grad=False)


@pytest.mark.parametrize("name", ["transformer.h.9.mlp.c_proj.weight", "transformer.h", "lm_head", "nonsense"])
def test_a_patch_for_another_model_is_refused_before_anything_is_written(tiny_gpt2: LanguageModel, name: str) -> None:
    before = weights_fingerprint(tiny_gpt2)
    good = tiny_gpt2.anatomy.weight_name(0)
    deltas: dict[str, Delta] = {good: random_delta(tiny_gpt2), name: DenseDelta(torch.ones(1))}
    patch = WeightPatch(deltas, frozenset({good}))
    with pytest.raises(AuditError, match=f"the model has no parameter '{name}'"), patch.applied(tiny_gpt2):
        pytest.fail("the patch must not be applied")
    assert weights_fingerprint(tiny_gpt2) == before


def test_a_delta_of_the_wrong_shape_is_refused(tiny_gpt2: LanguageModel) -> None:
    name = tiny_gpt2.anatomy.weight_name(0)
    patch = WeightPatch({name: random_delta(tiny_gpt2)})  # not told that the weight is stored transposed
    with pytest.raises(AuditError, match=r"by a \(32, 128\) matrix, but the model has \(128, 32\)"):
        patch.applied(tiny_gpt2).__enter__()


@pytest.mark.parametrize(
    ("left", "right", "complaint"),
    [
        (torch.ones(3, 2), torch.ones(3, 4), "cannot be multiplied"),
        (torch.ones(3), torch.ones(3, 4), "cannot be multiplied"),
        (torch.ones(3, 2).half(), torch.ones(2, 4).half(), "float32 or in float64"),
        (torch.ones(3, 2), torch.ones(2, 4).double(), "float32 or in float64"),
    ],
)
def test_factors_that_make_no_delta_are_refused(left: Tensor, right: Tensor, complaint: str) -> None:
    with pytest.raises(AuditError, match=complaint):
        LowRankDelta(left, right)


def random_delta(
    lm: LanguageModel, *, seed: int = 0, scale: float = 0.1, dtype: torch.dtype = torch.float32
) -> LowRankDelta:
    generator = torch.Generator().manual_seed(seed)
    left = torch.randn(lm.anatomy.hidden_size, 2, generator=generator, dtype=dtype)
    right = torch.randn(2, lm.anatomy.inner_size, generator=generator, dtype=dtype)
    return LowRankDelta(left * scale, right)


def random_patch(
    lm: LanguageModel, *, layers: tuple[int, ...] = (0, 1), seed: int = 0, scale: float = 0.1
) -> WeightPatch:
    found = {lm.anatomy.weight_name(layer): random_delta(lm, seed=seed + layer, scale=scale) for layer in layers}
    return WeightPatch(found, frozenset(found) if lm.anatomy.transposed else frozenset())
