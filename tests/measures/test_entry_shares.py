"""Shares of changed entries against counting by hand, and their properties."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from audit.measures.integrity import THRESHOLDS, entry_shares
from audit.models.language_model import LanguageModel
from audit.models.patches import DenseDelta, WeightPatch, originals_kept

WEIGHT, OTHER = "transformer.h.0.mlp.c_proj.weight", "transformer.h.1.mlp.c_proj.weight"


def shares_after(lm: LanguageModel, **changes: torch.Tensor) -> dict[float, float]:
    deltas = {{"first": WEIGHT, "second": OTHER}[name]: DenseDelta(change) for name, change in changes.items()}
    with originals_kept(lm) as originals:
        WeightPatch(deltas).write(lm, originals)
        return dict(entry_shares(originals))


def test_without_changes_all_shares_are_zero(tiny_gpt2: LanguageModel) -> None:
    assert shares_after(tiny_gpt2) == dict.fromkeys(THRESHOLDS, 0.0)


def test_entries_are_counted_over_all_touched_tensors(tiny_gpt2: LanguageModel) -> None:
    weight = tiny_gpt2.model.get_parameter(WEIGHT)
    change = torch.zeros_like(weight)
    change[0] = 0.3 * weight[0]  # one row of 128 by 30 %
    shares = shares_after(tiny_gpt2, first=change, second=torch.zeros_like(weight))
    assert shares[0.2] == shares[0.01] == 1 / 256
    assert shares[0.5] == 0


def test_an_entry_that_became_nan_has_changed(tiny_gpt2: LanguageModel) -> None:
    change = torch.zeros_like(tiny_gpt2.model.get_parameter(WEIGHT))
    change[:64] = float("nan")
    assert shares_after(tiny_gpt2, first=change)[1.0] == 0.5


@given(scale=st.floats(0.001, 4), seed=st.integers(0, 99))
def test_shares_fall_with_the_threshold_and_are_shares(scale: float, seed: int) -> None:
    from tests.tiny_models import build_tiny_gpt2

    lm = build_tiny_gpt2(layers=2)
    weight = lm.model.get_parameter(WEIGHT)
    noise = scale * torch.randn(weight.shape, generator=torch.Generator().manual_seed(seed)) * weight.abs().mean()
    values = list(shares_after(lm, first=noise).values())
    assert all(0 <= value <= 1 for value in values)
    assert values == sorted(values, reverse=True)
