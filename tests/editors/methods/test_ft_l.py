"""FT-L: no entry moves by more than ε, and the objective can be chosen."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from audit.editors.methods.ft import FineTuning
from audit.editors.methods.ft_l import NormConstrained, NormConstrainedSettings, all_at_prompt_last
from audit.editors.stages.editor_settings import Shapes
from audit.editors.stages.fine_tuning import TargetBatch, target_row, trainable
from audit.errors import AuditError
from audit.models.fingerprints import weights_fingerprint
from audit.models.language_model import LanguageModel
from audit.models.patches import WeightPatch, originals_kept
from tests.editors.plain import REQUESTS, relative_error
from tests.tiny_models import build_tiny_gpt2, build_tiny_llama

CONFIG = {"layers": "1", "steps": "4", "learning_rate": "0.01", "epsilon": "0.003"}
DTYPES = [torch.float32, torch.bfloat16, torch.float16]


def furthest(lm: LanguageModel, patch: WeightPatch, name: str) -> float:
    """How far the entry that the patch moves most is moved, in exact arithmetic."""
    before = lm.model.get_parameter(name).detach().double().clone()
    with patch.applied(lm):
        return float((lm.model.get_parameter(name).detach().double() - before).abs().max())


@settings(max_examples=30)
@given(epsilon=st.floats(1e-7, 1.0), dtype=st.sampled_from(DTYPES), seed=st.integers(0, 9))
def test_no_patched_entry_moves_more_than_epsilon(epsilon: float, dtype: torch.dtype, seed: int) -> None:
    """Also if the weight's dtype can represent neither end of the interval."""
    lm = SMALL[dtype]
    name = lm.anatomy.weight_name(0)
    gradient = torch.randn(128, 32, generator=torch.Generator().manual_seed(seed))
    with trainable(lm, [name], learning_rate=0.7 * epsilon) as weights:
        for _ in range(3):
            weights.step([gradient], radius=epsilon)
        deltas = weights.deltas(radius=epsilon)
    moved = furthest(lm, WeightPatch(deltas), name)
    assert moved <= epsilon
    if dtype == torch.float32:  # and the bound is reached
        assert moved >= 0.9 * epsilon


SMALL = {dtype: build_tiny_gpt2(layers=1, dtype=dtype) for dtype in DTYPES}


@pytest.mark.parametrize("family", ["gpt-2", "llama-3", "opt", "gemma-2"])
def test_an_edit_keeps_to_the_bound(family: str, families: Callable[[str], LanguageModel]) -> None:
    lm = families(family)
    before, name = weights_fingerprint(lm), lm.anatomy.weight_name(1)
    patch = NormConstrained(CONFIG).edit(lm, REQUESTS)
    assert isinstance(patch, WeightPatch) and set(patch.deltas) == {name}
    assert 0.0029 < furthest(lm, patch, name) <= 0.003
    assert weights_fingerprint(lm) == before


def test_each_step_of_a_sequence_is_bounded_by_where_it_starts(tiny_llama: LanguageModel) -> None:
    name = tiny_llama.anatomy.weight_name(1)
    with originals_kept(tiny_llama) as originals:
        first = NormConstrained(CONFIG).edit(tiny_llama, REQUESTS[:1])
        first.write(tiny_llama, originals)
        second = NormConstrained(CONFIG).edit(tiny_llama, REQUESTS[:1])
        assert isinstance(second, WeightPatch) and furthest(tiny_llama, second, name) <= 0.003
        second.write(tiny_llama, originals)
        ((_, original, now),) = originals.touched()
        assert float((now - original).abs().max()) > 0.004


def test_a_wide_bound_is_no_bound(tiny_gpt2: LanguageModel) -> None:
    name = tiny_gpt2.anatomy.weight_name(1)
    free = FineTuning({key: CONFIG[key] for key in ("layers", "steps", "learning_rate")}).edit(tiny_gpt2, REQUESTS)
    bound = NormConstrained(CONFIG | {"epsilon": "100", "objective": "target"}).edit(tiny_gpt2, REQUESTS)
    assert isinstance(free, WeightPatch) and isinstance(bound, WeightPatch)
    device = torch.device("cpu")
    expected = free.deltas[name].change(False, device)
    assert relative_error(bound.deltas[name].change(False, device), expected) < 1e-4


@pytest.mark.parametrize("build", [build_tiny_gpt2, build_tiny_llama])
def test_prompt_last_scores_all_target_tokens_after_the_prompt(build: Callable[[], LanguageModel]) -> None:
    lm = build()
    rows = [target_row(lm, request) for request in REQUESTS]
    expected = []
    for row, request in zip(rows, REQUESTS, strict=True):
        prompt = row.ids[: row.places[0] + 1]
        assert lm.tokenizer.decode(prompt, skip_special_tokens=True) == request.filled_prompt
        log_p = lm.model(input_ids=torch.tensor([prompt]), use_cache=False).logits[0, -1].log_softmax(-1)
        expected.append(-log_p[list(row.labels)].mean())
    with trainable(lm, [lm.anatomy.weight_name(0)], 1e-3) as weights:
        batch = TargetBatch(lm, [all_at_prompt_last(row) for row in rows], 0, 4096)
        loss, _ = batch.loss_and_gradients(weights.parameters)
    assert loss == pytest.approx(float(torch.stack(expected).mean()), rel=1e-4)
    changed = NormConstrained(CONFIG).edit(lm, REQUESTS)  # the published objective is the default
    assert changed.fingerprint == NormConstrained(CONFIG | {"objective": "prompt_last"}).edit(lm, REQUESTS).fingerprint
    assert changed.fingerprint != NormConstrained(CONFIG | {"objective": "target"}).edit(lm, REQUESTS).fingerprint


def test_for_targets_of_one_token_both_objectives_are_one(tiny_gpt2: LanguageModel) -> None:
    single = [replace(REQUESTS[0], target_new="is")]
    row = target_row(tiny_gpt2, single[0])
    assert len(row.labels) == 1 and all_at_prompt_last(row) == row


def test_epsilon_is_the_published_one() -> None:
    assert NormConstrainedSettings.published[Shapes.GPT2_XL] == {"layers": (0,), "epsilon": 5e-4}
    assert NormConstrainedSettings.published[Shapes.GPT_J]["epsilon"] == 5e-5


@pytest.mark.parametrize(
    "config, sentence",
    [
        ({"epsilon": "0"}, "epsilon is 0.0: give a number above 0"),
        ({"objective": "last"}, "objective is last: give target or prompt_last"),
    ],
)
def test_settings_out_of_range_are_refused(config: dict[str, str], sentence: str, tiny_gpt2: LanguageModel) -> None:
    with pytest.raises(AuditError, match=sentence):
        NormConstrained(config).edit(tiny_gpt2, REQUESTS)
