"""Models that share their lower blocks rank as they do alone, whichever states are stored or missing."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
import torch

from audit.engine import prefill as prefill_module
from audit.engine.likelihoods import rank
from audit.engine.lower_blocks import FromLowerStates, LowerStates
from audit.engine.reuse_counts import ReuseCounts
from audit.models.language_model import LanguageModel
from audit.models.patches import DenseDelta, WeightPatch
from tests.editors.tiny_families import FAMILIES, build_family
from tests.engine.reference import BUDGETS, mixed_prompts
from tests.tiny_models import build_tiny_gpt2, build_tiny_llama

PROMPTS = mixed_prompts(9)
ENDINGS = ("French.", "the harbour of Belton, where it employs 250 people", "a painter", "7", "Łódź or São Paulo")
CHOICES = [[ENDINGS[(i + k) % 5] for k in range(1 + i % 4)] for i in range(len(PROMPTS))]


def edit(lm: LanguageModel, layer: int, seed: int = 1, size: float = 0.3) -> WeightPatch:
    """Noise in block `layer`."""
    name = lm.anatomy.weight_name(layer)
    weight = lm.model.get_parameter(name)
    noise = torch.randn(weight.shape, generator=torch.Generator().manual_seed(seed))
    return WeightPatch({name: DenseDelta(size * noise)})


def ranked(
    lm: LanguageModel, forward: FromLowerStates | None = None, budget: int = 8192, which: slice = slice(None)
) -> list[list[float]]:
    return rank(lm, PROMPTS[which], CHOICES[which], token_budget=budget, forward=forward)


def same(found: Sequence[Sequence[float]], expected: Sequence[Sequence[float]]) -> bool:
    return all(a == pytest.approx(b, rel=1e-5, nan_ok=True) for a, b in zip(found, expected, strict=True))


@contextmanager
def blocks_run(lm: LanguageModel) -> Iterator[list[int]]:
    """How often each block's attention ran."""
    counts = [0] * lm.anatomy.depth
    hooks = []
    for layer, path in enumerate(lm.anatomy.attentions):

        def count(*_: Any, layer: int = layer) -> None:
            counts[layer] += 1

        hooks.append(lm.model.get_submodule(path).register_forward_hook(count))
    try:
        yield counts
    finally:
        for hook in hooks:
            hook.remove()


@pytest.mark.parametrize("budget", BUDGETS)
@pytest.mark.parametrize("first_edited", [0, 1, 2, 3])
@pytest.mark.parametrize("build", [build_tiny_gpt2, build_tiny_llama])
def test_edited_models_rank_as_they_do_alone(
    build: Callable[[], LanguageModel], first_edited: int, budget: int
) -> None:
    lm, states = build(), LowerStates(first_edited)
    base = ranked(lm)
    assert same(ranked(lm, states.forward(lm), budget), base)
    for seed in (1, 2):
        with edit(lm, min(first_edited, 2), seed).applied(lm):
            expected = ranked(lm)
            assert not same(expected, base)
            if first_edited < 3:
                with blocks_run(lm) as counts:
                    assert same(ranked(lm, states.forward(lm), budget), expected)
                assert counts[:first_edited] == [0] * first_edited and counts[first_edited] > 0


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_shares_its_lower_blocks(name: str) -> None:
    lm, states = build_family(name), LowerStates(2)
    ranked(lm, states.forward(lm))
    with edit(lm, 2).applied(lm), blocks_run(lm) as counts:
        found = ranked(lm, states.forward(lm))
        assert counts[:2] == [0, 0]
        assert same(found, ranked(lm))


def test_rows_without_stored_states_run_the_whole_model(tiny_llama: LanguageModel) -> None:
    states = LowerStates(1)
    ranked(tiny_llama, states.forward(tiny_llama), which=slice(0, 4))
    with edit(tiny_llama, 1).applied(tiny_llama):
        expected = ranked(tiny_llama)
        for budget in (60, 8192):
            assert same(ranked(tiny_llama, states.forward(tiny_llama), budget), expected)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.3, 0.5, 0.7, 0.9])
def test_states_beyond_the_limit_are_computed_again(tiny_gpt2: LanguageModel, share: float) -> None:
    everything = LowerStates(2)
    ranked(tiny_gpt2, everything.forward(tiny_gpt2), 60)
    states = LowerStates(2, limit_bytes=int(share * everything.bytes))
    ranked(tiny_gpt2, states.forward(tiny_gpt2), 60)
    assert states.bytes <= states.limit_bytes
    with edit(tiny_gpt2, 2).applied(tiny_gpt2):
        expected = ranked(tiny_gpt2)
        for budget in (60, 300):
            assert same(ranked(tiny_gpt2, states.forward(tiny_gpt2), budget), expected)


def test_a_row_is_completed_when_only_its_beginning_is_stored(tiny_llama: LanguageModel) -> None:
    states = LowerStates(2)
    ranked(tiny_llama, states.forward(tiny_llama))
    states._known = {row: state for row, state in states._known.items() if row[1] == 0}  # only beginnings
    with edit(tiny_llama, 2).applied(tiny_llama):
        assert same(ranked(tiny_llama, states.forward(tiny_llama)), ranked(tiny_llama))


@pytest.mark.parametrize("which", [slice(0, 9), slice(4, 9)])
def test_a_shared_prefix_is_part_of_the_rows(
    tiny_llama: LanguageModel, which: slice, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prefill_module, "PORTION", 100)  # several portions a batch
    headers = ("Mara Lind plays the piano in New Avaria, and " * 3, "Kara Quinwick was born in the harbour. " * 4)
    states = LowerStates(2)
    for header in headers:
        asked = [f"{header}{prompt}" for prompt in PROMPTS]
        rank(tiny_llama, asked[which], CHOICES[which], forward=states.forward(tiny_llama))
        with edit(tiny_llama, 2).applied(tiny_llama):
            expected = rank(tiny_llama, asked, CHOICES)
            for _ in range(2):
                assert same(rank(tiny_llama, asked, CHOICES, forward=states.forward(tiny_llama)), expected)


def test_forget_drops_all_states(tiny_llama: LanguageModel) -> None:
    states = LowerStates(1)
    ranked(tiny_llama, states.forward(tiny_llama))
    assert states.bytes > 0
    states.forget()
    assert states.bytes == 0
    with blocks_run(tiny_llama) as counts:
        ranked(tiny_llama, states.forward(tiny_llama))
    assert counts[0] == counts[2] > 0


def test_block_tokens_are_counted(tiny_llama: LanguageModel) -> None:
    states, base, edited = LowerStates(2), ReuseCounts(), ReuseCounts()
    ranked(tiny_llama, states.forward(tiny_llama, base))
    ranked(tiny_llama, states.forward(tiny_llama, edited))
    assert base.block_tokens_shared == 0
    assert edited.block_tokens == base.block_tokens
    assert 3 * edited.block_tokens_shared == 2 * edited.block_tokens


def test_a_collapsed_model_gives_nan_as_it_does_alone(tiny_llama: LanguageModel) -> None:
    states = LowerStates(1)
    ranked(tiny_llama, states.forward(tiny_llama))
    with edit(tiny_llama, 1, size=float("nan")).applied(tiny_llama):
        assert same(ranked(tiny_llama, states.forward(tiny_llama)), [[float("nan")] * len(row) for row in CHOICES])


def test_states_are_stored_in_the_models_dtype() -> None:
    lm, states = build_tiny_llama(dtype=torch.bfloat16), LowerStates(1)
    base = ranked(lm, states.forward(lm))
    assert {state.dtype for state in states._known.values()} == {torch.bfloat16}
    assert ranked(lm, states.forward(lm)) == base  # calls of the same shape round alike


def test_the_blocks_are_restored_after_an_error(tiny_llama: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    states = LowerStates(2)
    expected = ranked(tiny_llama, states.forward(tiny_llama))
    head = tiny_llama.model.get_output_embeddings()
    with monkeypatch.context() as broken:
        broken.setattr(head, "forward", lambda _: [][0])
        with pytest.raises(IndexError):
            ranked(tiny_llama, states.forward(tiny_llama))
    assert same(ranked(tiny_llama), expected)
