"""Attention to a constant prefix is the model's own attention with a cache, and so are its gradients."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from transformers import DynamicCache

from audit.engine.constant_prefix import constant_prefix
from audit.models.language_model import LanguageModel
from tests.editors.plain import relative_error
from tests.editors.tiny_families import FAMILIES

BEFORE, COLUMNS = 4, 3


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("joined_below", [0, 1 << 16])
def test_a_constant_prefix_is_an_ordinary_cache(
    family: str, joined_below: int, families: Callable[[str], LanguageModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("audit.engine.constant_prefix._SMALL", joined_below)
    lm = families(family)
    ids = torch.randint(3, 200, (3, BEFORE + COLUMNS), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(ids)
    mask[1, :2] = 0  # padding on the left
    mask[2, -1] = 0  # and on the right
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    ran = DynamicCache()
    with torch.no_grad():
        lm.model(
            input_ids=ids[:, :BEFORE],
            attention_mask=mask[:, :BEFORE],
            position_ids=positions[:, :BEFORE],
            past_key_values=ran,
            use_cache=True,
        )
    prefix = [(layer.keys.clone(), layer.values.clone()) for layer in ran.layers]
    embedded = lm.model.get_input_embeddings()(ids[:, BEFORE:]).detach()

    def answer(cache: DynamicCache) -> tuple[Tensor, Tensor]:
        entering = embedded.clone().requires_grad_()
        logits = lm.model(
            inputs_embeds=entering,
            attention_mask=mask,
            position_ids=positions[:, BEFORE:],
            past_key_values=cache,
            use_cache=True,
        ).logits[mask[:, BEFORE:].bool()]
        return logits.detach(), torch.autograd.grad(logits.square().sum(), entering)[0]

    expected = answer(ran)
    with constant_prefix(lm, prefix) as cache:
        found = answer(cache)
    for left, right in zip(found, expected, strict=True):
        assert relative_error(left, right) < 1e-5
