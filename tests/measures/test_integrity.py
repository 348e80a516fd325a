"""Integrity checks of an edited model."""

import math
from typing import TYPE_CHECKING

import pytest
import torch

from audit.measures.integrity import (
    Integrity,
    IntegrityLimits,
    logits_finite,
    measure_integrity,
    perplexity,
    relative_change,
    worst_of,
)
from audit.models.fingerprints import weights_fingerprint
from audit.models.originals import originals_kept
from audit.models.patches import DenseDelta, LowRankDelta, Patch, PatchSequence, WeightPatch, identity_patch
from tests.tiny_models import build_tiny_llama

if TYPE_CHECKING:
    from audit.models.language_model import LanguageModel

TEXTS = ("Mara Lind was born in Velden and works for Hexatech.", "Kara Quinwick plays the piano.")
WEIGHT = "model.layers.1.mlp.down_proj.weight"


def check_integrity(lm: "LanguageModel", patch: Patch, texts: tuple[str, ...] = ()) -> Integrity:
    """`measure_integrity` of one patch, with the base perplexity."""
    base = perplexity(lm, texts) if texts else None
    with originals_kept(lm) as originals:
        patch.write(lm, originals)
        return measure_integrity(lm, originals, texts, patch=patch, base_perplexity=base)


def scaled(lm: "LanguageModel", factor: float) -> WeightPatch:
    """Adds `factor` times the weight to itself."""
    return WeightPatch({WEIGHT: DenseDelta(lm.model.get_parameter(WEIGHT).detach().clone() * factor)})


def sound(**change: object) -> Integrity:
    values: dict[str, object] = {
        "finite_weights": True,
        "finite_logits": True,
        "update_norms": {"a": 0.1, "b": 0.3},
        "perplexity_base": 10.0,
        "perplexity_edited": 11.0,
    }
    return Integrity(**(values | change))  # type: ignore[arg-type]


def test_a_sound_model_has_no_problems() -> None:
    found = sound()
    assert (found.sound, found.problems) == (True, ())
    assert found.largest_update == 0.3
    assert found.perplexity_ratio == pytest.approx(1.1)
    assert [check.name for check in found.checks] == [
        "finite weights",
        "finite logits",
        "relative update norm",
        "perplexity ratio",
    ]


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        ({"finite_weights": False}, ["touched weights", "NaN or infinite"]),
        ({"finite_logits": False}, ["logits", "NaN or infinite"]),
        ({"update_norms": {"a": 0.1, "b": 1.5}}, ["b changed by 1.5 times", "beyond the limit of 1"]),
        ({"update_norms": {"a": math.inf}}, ["a changed by inf times", "beyond"]),
        ({"perplexity_edited": 16.0}, ["from 10 to 16", "by a factor of 1.6", "beyond the limit of 1.5."]),
        ({"perplexity_edited": math.nan}, ["from 10 to nan", "beyond"]),
        ({"perplexity_edited": math.inf}, ["from 10 to inf", "beyond"]),
    ],
)
def test_each_problem_is_one_sentence(change: dict[str, object], parts: list[str]) -> None:
    found = sound(**change)
    (sentence,) = found.problems
    assert not found.sound
    assert all(part in sentence for part in parts), sentence
    assert "\n" not in sentence


def test_limits_are_inclusive_and_can_be_moved() -> None:
    assert sound(update_norms={"a": 1.0}, perplexity_edited=15.0).sound
    strict = IntegrityLimits(relative_update=0.2, perplexity_ratio=1.05)
    assert len(sound(limits=strict).problems) == 2


def test_unmeasured_perplexity_is_neither_a_problem_nor_sound() -> None:
    found = sound(perplexity_base=None, perplexity_edited=None)
    assert found.perplexity_ratio is None
    assert found.checks[-1].sound is None
    assert found.problems == ()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_relative_change_of_known_matrices(dtype: torch.dtype) -> None:
    original = torch.tensor([[3.0, 0.0], [0.0, 4.0]], dtype=dtype)
    assert relative_change(original, original.clone()) == 0.0
    assert relative_change(original, original * 1.5) == pytest.approx(0.5)
    assert relative_change(torch.zeros_like(original), original) == math.inf
    assert relative_change(torch.zeros_like(original), torch.zeros_like(original)) == 0.0
    assert relative_change(original, original * math.nan) == math.inf
    assert relative_change(original, original * math.inf) == math.inf


def test_an_identity_patch_is_sound_and_changes_no_perplexity(tiny_llama: "LanguageModel") -> None:
    found = check_integrity(tiny_llama, identity_patch(), TEXTS)
    assert found.sound
    assert (found.largest_update, found.perplexity_ratio) == (0.0, 1.0)
    assert found.perplexity_base == perplexity(tiny_llama, TEXTS)
    assert found.checks[2].sentence == "No weight was changed."


def test_norms_are_measured_on_what_was_written(tiny_llama: "LanguageModel") -> None:
    before = weights_fingerprint(tiny_llama)
    once = check_integrity(tiny_llama, scaled(tiny_llama, 0.25))
    twice = check_integrity(tiny_llama, PatchSequence((scaled(tiny_llama, 0.25), scaled(tiny_llama, 0.25))))
    assert dict(once.update_norms) == {WEIGHT: pytest.approx(0.25)}
    assert dict(twice.update_norms) == {WEIGHT: pytest.approx(0.5)}
    assert once.perplexity_ratio is None
    assert weights_fingerprint(tiny_llama) == before


def test_a_low_rank_patch_of_a_transposed_weight(tiny_gpt2: "LanguageModel") -> None:
    name = "transformer.h.1.mlp.c_proj.weight"
    weight = tiny_gpt2.model.get_parameter(name)  # (in, out)
    rows, columns = weight.shape
    delta = LowRankDelta(torch.ones(columns, 1), torch.ones(1, rows))
    found = check_integrity(tiny_gpt2, WeightPatch({name: delta}, frozenset({name})))
    expected = math.sqrt(rows * columns) / weight.double().norm().item()
    assert found.update_norms[name] == pytest.approx(expected, rel=1e-5)


def test_broken_weights_are_found(tiny_llama: "LanguageModel") -> None:
    found = check_integrity(tiny_llama, scaled(tiny_llama, math.nan), TEXTS)
    assert not found.finite_weights
    assert not found.finite_logits
    assert len(found.problems) == 4
    assert logits_finite(tiny_llama, TEXTS[0])


def test_noise_raises_perplexity(tiny_llama: "LanguageModel") -> None:
    found = check_integrity(tiny_llama, scaled(tiny_llama, 60.0), TEXTS)
    assert found.largest_update == pytest.approx(60.0, rel=1e-4)
    assert found.perplexity_ratio is not None
    assert found.perplexity_ratio != 1.0
    assert not found.sound


def test_the_worst_of_several() -> None:
    worst = worst_of([sound(), sound(update_norms={"b": 2.0, "c": 0.1}), sound(perplexity_edited=math.nan)])
    assert dict(worst.update_norms) == {"a": 0.1, "b": 2.0, "c": 0.1}
    assert worst.perplexity_edited is not None
    assert math.isnan(worst.perplexity_edited)
    assert not worst_of([sound(), sound(finite_logits=False)]).finite_logits
    with pytest.raises(ValueError, match="no edited model"):
        worst_of([])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("steps", [1, 3])
def test_the_rounding_loss_is_reported_in_half_precision(dtype: torch.dtype, steps: int) -> None:
    lm = build_tiny_llama(dtype=dtype)
    weight = lm.model.get_parameter(WEIGHT).detach().double()
    noise = torch.randn(weight.shape, generator=torch.Generator().manual_seed(0))
    step = WeightPatch({WEIGHT: DenseDelta(1e-3 * noise)})
    found = check_integrity(lm, PatchSequence((step,) * steps))
    wanted = steps * 1e-3 * noise.double()
    taken = weight.clone()
    for _ in range(steps):
        taken = (taken.float() + 1e-3 * noise).to(dtype).double()
    assert found.rounding_loss == pytest.approx(float((taken - weight - wanted).norm() / wanted.norm()), rel=1e-6)
    assert 0.001 < found.rounding_loss < 2
    row = found.checks[-1]
    assert (row.name, row.sound) == ("rounding loss", None)
    assert row.sentence.startswith(
        f"Rounding to half precision removed {100 * found.rounding_loss:.3g} % of the update"
    )
    assert found.sound


def test_there_is_no_rounding_loss_without_rounding_or_with_nan(tiny_llama: "LanguageModel") -> None:
    assert check_integrity(tiny_llama, scaled(tiny_llama, 0.1)).rounding_loss is None  # float32
    half = build_tiny_llama(dtype=torch.bfloat16)
    assert check_integrity(half, identity_patch()).rounding_loss is None
    assert check_integrity(half, scaled(half, math.nan)).rounding_loss is None
    assert worst_of([sound(), sound(rounding_loss=0.2), sound(rounding_loss=0.1)]).rounding_loss == 0.2
