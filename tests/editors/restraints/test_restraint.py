"""RECT, its random control, PRUNE, and their text forms: properties over shapes, ties and zeros."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from audit.editors.restraints import load_restraint
from audit.editors.restraints.choice import RestraintChoice, parse_restraint
from audit.editors.restraints.prune import Prune, largest_singular_value, pruned_delta, reduced_singular_values
from audit.editors.restraints.rect import RandomShare, Rect, kept_count, largest, relative_entry_changes
from audit.errors import AuditError
from audit.models.codebook import Codebook
from audit.models.fingerprints import weights_fingerprint
from audit.models.language_model import LanguageModel
from audit.models.patch_changes import total_changes
from audit.models.patches import (
    DenseDelta,
    LowRankDelta,
    ModulePatch,
    Patch,
    PatchSequence,
    SparseDelta,
    WeightPatch,
    identity_patch,
    originals_kept,
)

FEW = st.sampled_from([0.0, -0.0, 1.0, -1.0, 2.0, 0.5, 1e-30, 1e30])  # so that ties and zeros are common


@st.composite
def matrices(draw: st.DrawFn) -> tuple[Tensor, Tensor]:
    """A weight and its change, of one shape."""
    rows, columns = draw(st.integers(1, 5)), draw(st.integers(1, 5))
    entries = st.lists(FEW, min_size=rows * columns, max_size=rows * columns)
    weight, change = (torch.tensor(draw(entries)).view(rows, columns) for _ in range(2))
    return weight, change


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def low_rank(lm: LanguageModel, layer: int = 1, scale: float = 0.1, seed: int = 0, rank: int = 1) -> WeightPatch:
    name = lm.anatomy.weight_name(layer)
    shape = tuple(lm.model.get_parameter(name).shape)
    outer, inner = reversed(shape) if lm.anatomy.transposed else shape
    delta = LowRankDelta(scale * noise(outer, rank, seed=seed), noise(rank, inner, seed=seed + 100))
    return WeightPatch({name: delta}, frozenset({name} if lm.anatomy.transposed else ()), {"editor": "made up"})


def written(lm: LanguageModel, patch: Patch) -> str:
    with patch.applied(lm):
        return weights_fingerprint(lm)


# How they are written.


@pytest.mark.parametrize(
    ("text", "choice"),
    [
        ("rect:0.4", RestraintChoice("rect", 0.4)),
        (" rect : .20 ", RestraintChoice("rect", 0.2)),
        ("rect:1", RestraintChoice("rect", 1.0)),
        ("random:0.4", RestraintChoice("random", 0.4)),
        ("prune", RestraintChoice("prune", math.e)),
        ("prune:1.5", RestraintChoice("prune", 1.5)),
    ],
)
def test_restraints_are_parsed_and_printed(text: str, choice: RestraintChoice) -> None:
    assert parse_restraint(text) == choice
    assert parse_restraint(str(choice)) == choice


def test_every_restraint_has_one_text_form() -> None:
    texts = ("rect:.40", "random:1.0", "prune", "prune:2.0")
    assert [str(parse_restraint(text)) for text in texts] == ["rect:0.4", "random:1", "prune", "prune:2"]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (
            "rekt:0.4",
            "there is no restraint 'rekt'; choose rect:SHARE, random:SHARE, prune or prune:ALPHA (did you mean",
        ),
        ("", "there is no restraint ''"),
        ("rect", "the share of entries to keep is missing; write rect:0.4."),
        ("random:", "the share of entries to keep is missing; write random:0.4."),
        ("prune:", "the base of the logarithm is missing; write prune or prune:1.5."),
        ("rect:most", "'most' is not a number; write rect:0.4."),
        ("rect:40", "the share must be above 0 and at most 1; write rect:0.4."),
        ("rect:0", "the share must be above 0 and at most 1"),
        ("random:nan", "the share must be above 0 and at most 1"),
        ("prune:1", "the base of the logarithm must be above 1; write prune or prune:1.5."),
        ("prune:inf", "the base of the logarithm must be above 1"),
    ],
)
def test_invalid_restraints_are_refused(text: str, complaint: str) -> None:
    with pytest.raises(AuditError) as caught:
        parse_restraint(text)
    assert str(caught.value).startswith(f"--restraint {text!r}: ")
    assert complaint in str(caught.value)


# RECT and its control.


@given(matrices(), st.integers(1, 25))
def test_the_largest_relative_changes_stay_and_of_equal_ones_the_first(pair: tuple[Tensor, Tensor], count: int) -> None:
    weight, change = pair
    count = min(count, weight.numel())
    scores = relative_entry_changes(change, weight).flatten()
    ranked = sorted(range(len(scores)), key=lambda place: (-float(scores[place]), place))  # stable, in plain Python
    assert largest(scores, count).tolist() == sorted(ranked[:count])


@given(matrices())
def test_a_changed_zero_scores_highest_and_an_unchanged_one_lowest(pair: tuple[Tensor, Tensor]) -> None:
    weight, change = pair
    scores = relative_entry_changes(change, weight)
    assert bool((scores >= 0).all())
    assert bool(scores[(weight == 0) & (change != 0)].isinf().all())
    assert bool((scores[change == 0] == 0).all())


def test_nan_changes_are_kept() -> None:
    change = torch.tensor([1.0, math.nan, 3.0])
    assert largest(relative_entry_changes(change, torch.ones(3)), 1).tolist() == [1]


@given(st.floats(0, 1, exclude_min=True), st.integers(1, 10**6))
def test_the_share_is_exact_to_one_entry(share: float, entries: int) -> None:
    assert 1 <= kept_count(share, entries) <= entries
    assert abs(kept_count(share, entries) - share * entries) <= 0.5 or kept_count(share, entries) == 1
    assert kept_count(1.0, entries) == entries


@pytest.mark.parametrize("text", ["rect:0.4", "rect:0.2", "random:0.4"])
@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_the_requested_share_of_entries_is_kept_unchanged(
    text: str, family: str, tiny_gpt2: LanguageModel, tiny_llama: LanguageModel
) -> None:
    lm = {"gpt2": tiny_gpt2, "llama": tiny_llama}[family]
    patch = low_rank(lm)
    kept = load_restraint(text).after_edit(lm, patch)
    assert isinstance(kept, WeightPatch)
    ((name, delta),) = kept.deltas.items()
    assert isinstance(delta, SparseDelta)
    weight = lm.model.get_parameter(name)
    whole = patch.deltas[name].change(lm.anatomy.transposed, weight.device)
    change = delta.change(False, weight.device)
    support = change != 0
    assert int(support.sum()) == len(delta.entries) == round(parse_restraint(text).number * weight.numel())
    assert torch.equal(change[support], whole[support])
    assert kept.meta == {"editor": "made up", "restraint": text}
    if text.startswith("rect"):
        scores = (whole / weight).abs()  # both as the model stores them, Conv1D or not
        assert float(scores[support].min()) >= float(scores[~support].max())


@pytest.mark.parametrize("text", ["rect:1", "random:1"])
def test_a_share_of_1_keeps_the_patch(text: str, tiny_gpt2: LanguageModel) -> None:
    patch = low_rank(tiny_gpt2)
    assert load_restraint(text).after_edit(tiny_gpt2, patch) is patch
    # The rule itself, at a share of all, gives the same bits.
    name = tiny_gpt2.anatomy.weight_name(1)
    change = patch.deltas[name].change(True, torch.device("cpu"))
    places = largest(relative_entry_changes(change, tiny_gpt2.model.get_parameter(name)).flatten(), change.numel())
    all_kept = SparseDelta(change.flatten()[places], places, torch.tensor(change.shape))
    assert written(tiny_gpt2, WeightPatch({name: all_kept})) == written(tiny_gpt2, patch)


def test_each_edit_is_scored_against_the_current_weight(tiny_gpt2: LanguageModel) -> None:
    rect, patch = Rect(RestraintChoice("rect", 0.4)), low_rank(tiny_gpt2, seed=1)
    first = rect.after_edit(tiny_gpt2, patch)
    with originals_kept(tiny_gpt2) as originals:
        low_rank(tiny_gpt2, scale=2.0, seed=2).write(tiny_gpt2, originals)
        later = rect.after_edit(tiny_gpt2, patch)
    assert first.fingerprint != later.fingerprint
    assert rect.after_edit(tiny_gpt2, patch).fingerprint == first.fingerprint


def test_the_random_share_follows_the_seed_and_differs_from_edit_to_edit(tiny_gpt2: LanguageModel) -> None:
    def places(seed: int, patch: WeightPatch) -> list[int]:
        kept = RandomShare(RestraintChoice("random", 0.4), seed).after_edit(tiny_gpt2, patch)
        assert isinstance(kept, WeightPatch)
        (delta,) = kept.deltas.values()
        assert isinstance(delta, SparseDelta)
        return delta.places.tolist()

    one, other = low_rank(tiny_gpt2, seed=1), low_rank(tiny_gpt2, seed=2)
    assert places(0, one) == places(0, one)
    assert len({tuple(drawn) for drawn in (places(0, one), places(1, one), places(0, other))}) == 3


def test_an_edit_without_a_change_has_nothing_to_restrain(tiny_gpt2: LanguageModel) -> None:
    for text in ("rect:0.4", "random:0.4", "prune"):
        restraint = load_restraint(text)
        patch = restraint.after_plan(tiny_gpt2, restraint.after_edit(tiny_gpt2, identity_patch()))
        assert isinstance(patch, WeightPatch)
        assert not patch.deltas


@pytest.mark.parametrize("text", ["rect:0.4", "rect:1", "random:0.4", "prune"])
def test_attached_modules_are_refused(text: str, tiny_gpt2: LanguageModel) -> None:
    codebook = Codebook("transformer.h.1.mlp", torch.ones(1, 32), torch.ones(1, 32), torch.ones(1), ("x",))
    for patch in (ModulePatch((codebook,)), PatchSequence((identity_patch(), ModulePatch((codebook,))))):
        with pytest.raises(AuditError, match=rf"--restraint {text} needs changes of weights, but this editor"):
            load_restraint(text).after_edit(tiny_gpt2, patch)


# PRUNE.


@pytest.mark.parametrize("shape", [(7, 7), (12, 5), (3, 40), (1, 6), (60, 60)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_largest_singular_value_is_that_of_the_whole_decomposition(
    shape: tuple[int, int], dtype: torch.dtype
) -> None:
    weight = noise(*shape).to(dtype)
    exact = float(torch.linalg.svdvals(weight.double())[0])
    assert largest_singular_value(weight) == pytest.approx(exact, rel=1e-10)


@pytest.mark.parametrize("weight", [torch.zeros(4, 3), torch.eye(5), torch.ones(3, 4)])
def test_singular_values_of_degenerate_matrices(weight: Tensor) -> None:
    exact = float(torch.linalg.svdvals(weight.double())[0])
    assert largest_singular_value(weight) == pytest.approx(exact, abs=1e-12)


@given(st.lists(st.floats(1e-6, 1e6), min_size=1, max_size=6), st.floats(1e-3, 1e3), st.floats(1.01, 10))
def test_no_singular_value_grows_and_none_falls_below_the_weights_own(
    values: list[float], limit: float, base: float
) -> None:
    singular = torch.tensor(values, dtype=torch.float64)
    after = reduced_singular_values(singular, limit, base)
    assert bool((after <= singular).all())
    small = singular <= limit
    assert torch.equal(after[small], singular[small])
    assert bool((after[~small] >= limit).all())
    for before, now in zip(singular[~small].tolist(), after[~small].tolist(), strict=True):
        formula = math.log(before, base) - math.log(limit, base) + limit
        assert now == pytest.approx(min(before, formula), rel=1e-9)


@given(st.integers(2, 9), st.integers(2, 9), st.integers(1, 2), st.integers(0, 99), st.floats(0.05, 5))
def test_factors_and_dense_deltas_give_the_same_result(
    out: int, inner: int, rank: int, seed: int, limit: float
) -> None:
    left, right = noise(out, rank, seed=seed).double(), noise(rank, inner, seed=seed + 1).double()
    through = pruned_delta(LowRankDelta(left, right), limit, math.e)
    dense = pruned_delta(DenseDelta(left @ right), limit, math.e)
    assert isinstance(through, LowRankDelta)
    assert through.left.shape[1] == rank
    cpu = torch.device("cpu")
    assert torch.allclose(through.change(False, cpu), dense.change(False, cpu), atol=1e-10)


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_a_plan_without_large_singular_values_is_unchanged(
    family: str, tiny_gpt2: LanguageModel, tiny_llama: LanguageModel
) -> None:
    lm = {"gpt2": tiny_gpt2, "llama": tiny_llama}[family]
    prune, cpu = Prune(RestraintChoice("prune", 2.0)), torch.device("cpu")
    small = PatchSequence((low_rank(lm, scale=1e-3), low_rank(lm, scale=1e-3, seed=5)))
    assert prune.after_plan(lm, small) is small
    large = low_rank(lm, scale=1e4)
    (name,) = large.deltas
    pruned = prune.after_plan(lm, large)
    assert isinstance(pruned, WeightPatch)
    before, after = (float(torch.linalg.svdvals(p.deltas[name].change(False, cpu))[0]) for p in (large, pruned))
    limit = float(torch.linalg.svdvals(lm.model.get_parameter(name).double())[0])
    assert after == pytest.approx(math.log2(before) - math.log2(limit) + limit, rel=1e-5)


def test_the_whole_plan_is_replaced_so_that_nothing_is_added_twice(tiny_gpt2: LanguageModel) -> None:
    steps = PatchSequence(tuple(low_rank(tiny_gpt2, scale=50.0, seed=seed) for seed in range(3)))
    pruned = Prune(RestraintChoice("prune", math.e)).after_plan(tiny_gpt2, steps)
    assert isinstance(pruned, WeightPatch)
    assert pruned.meta["restraint"] == "prune"
    name = tiny_gpt2.anatomy.weight_name(1)
    cpu = torch.device("cpu")
    factors = [next(iter(low_rank(tiny_gpt2, scale=50.0, seed=seed).deltas.values())).parts() for seed in range(3)]
    total = (
        torch.stack([one["left"].double() @ one["right"].double() for one in factors]).sum(0).T
    )  # as Conv1D stores it
    limit = float(torch.linalg.svdvals(tiny_gpt2.model.get_parameter(name).double())[0])
    u, singular, vh = torch.linalg.svd(total, full_matrices=False)
    expected = (u * torch.where(singular > limit, (singular / limit).log() + limit, singular)) @ vh
    assert torch.allclose(pruned.deltas[name].change(True, cpu), expected, atol=1e-9)
    before = tiny_gpt2.model.get_parameter(name).clone()
    with pruned.applied(tiny_gpt2):
        assert torch.allclose(tiny_gpt2.model.get_parameter(name) - before, expected.float(), atol=1e-4)


def test_deltas_that_are_not_finite_are_unchanged(tiny_gpt2: LanguageModel) -> None:
    patch = low_rank(tiny_gpt2, scale=math.nan)
    assert Prune(RestraintChoice("prune", math.e)).after_plan(tiny_gpt2, patch) is patch


# The total of a plan.


@given(st.lists(st.sampled_from(["low", "dense", "sparse"]), min_size=1, max_size=4), st.integers(0, 9))
def test_the_total_is_the_sum_of_the_deltas(tiny_gpt2: LanguageModel, kinds: list[str], seed: int) -> None:
    name, cpu = tiny_gpt2.anatomy.weight_name(1), torch.device("cpu")
    steps: list[WeightPatch] = []
    for number, kind in enumerate(kinds):
        step = low_rank(tiny_gpt2, seed=seed + number)
        change = step.deltas[name].change(True, cpu)
        if kind != "low":
            step = WeightPatch({name: DenseDelta(change) if kind == "dense" else SparseDelta.of(change)})
        steps.append(step)
    totals = total_changes(tiny_gpt2, PatchSequence(tuple(steps)))
    expected = sum(step.deltas[name].change(name in step.transposed, cpu).double() for step in steps)
    assert torch.allclose(totals.deltas[name].change(name in totals.transposed, cpu).double(), expected, atol=1e-6)  # type: ignore[arg-type]
    assert isinstance(totals.deltas[name], LowRankDelta) == (set(kinds) == {"low"})


def test_a_total_of_full_rank_is_dense(tiny_gpt2: LanguageModel) -> None:
    name = tiny_gpt2.anatomy.weight_name(1)
    totals = total_changes(tiny_gpt2, PatchSequence((low_rank(tiny_gpt2, rank=16), low_rank(tiny_gpt2, rank=16))))
    assert isinstance(totals.deltas[name], DenseDelta)


def test_tied_weights_are_one_parameter(tiny_gpt2: LanguageModel) -> None:
    embeddings, head = "transformer.wte.weight", "lm_head.weight"
    change = torch.ones_like(tiny_gpt2.model.get_parameter(head))
    steps = PatchSequence((WeightPatch({head: DenseDelta(change)}), WeightPatch({embeddings: DenseDelta(change)})))
    totals = total_changes(tiny_gpt2, steps)
    assert list(totals.deltas) == [head]
    assert torch.equal(totals.deltas[head].change(False, torch.device("cpu")), 2 * change.double())
