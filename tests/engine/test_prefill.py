"""Answers do not change when prompts are computed in portions, after a shared prefix, or with delayed reading."""

import dataclasses
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import PreTrainedModel

from audit.engine import Decoding, generation
from audit.engine import prefill as prefill_module
from audit.engine.forward import CausalForward
from audit.engine.generation import end_tokens, generate
from audit.engine.likelihoods import rank
from audit.engine.prefill import common_prefix, compute_prefix, prefill
from audit.models.anatomy import find_anatomy
from audit.models.language_model import LanguageModel
from audit.models.tokens import encode
from tests.engine.reference import full_logits, greedy_text, mixed_prompts
from tests.engine.test_generation import FAMILIES
from tests.tiny_models import build_tiny_gpt2

HEADER = "Question: How many coins does Alra have? Answer: She has 3 + 4 = 7 coins. #### 7\n\n"
LIMITED = Decoding(12, (" M", "in"))


@pytest.fixture(scope="module", params=["gpt2", "llama", *FAMILIES])
def lm(request: pytest.FixtureRequest, tiny_gpt2: LanguageModel, tiny_llama: LanguageModel) -> LanguageModel:
    if request.param in ("gpt2", "llama"):
        return tiny_gpt2 if request.param == "gpt2" else tiny_llama
    model_class, config_class, extra = FAMILIES[request.param]
    sizes = {"vocab_size": len(tiny_llama.tokenizer), "hidden_size": 32, "num_hidden_layers": 2}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        config = config_class(**({**sizes, "num_attention_heads": 4, "initializer_range": 0.2} | extra))
        model: PreTrainedModel = model_class(config).eval().requires_grad_(False)
    return dataclasses.replace(tiny_llama, name=request.param, model=model, anatomy=find_anatomy(model))


@pytest.fixture(scope="module")
def after_a_header() -> list[str]:
    return [HEADER + prompt for prompt in mixed_prompts(9)]


@pytest.fixture(scope="module")
def one_by_one(lm: LanguageModel, after_a_header: list[str]) -> list[str]:
    return [greedy_text(lm, prompt, LIMITED, end_tokens(lm)) for prompt in after_a_header]


@pytest.mark.parametrize("portion", [1, 60, 100_000])
@pytest.mark.parametrize("worth_sharing", [1, 1_000_000])
@pytest.mark.parametrize("unread", [1, 3])
def test_answers_do_not_depend_on_portions_prefix_or_delay(
    lm: LanguageModel,
    after_a_header: list[str],
    one_by_one: list[str],
    monkeypatch: pytest.MonkeyPatch,
    portion: int,
    worth_sharing: int,
    unread: int,
) -> None:
    monkeypatch.setattr(prefill_module, "PORTION", portion)
    monkeypatch.setattr(prefill_module, "WORTH_SHARING", worth_sharing)
    monkeypatch.setattr(generation, "STEPS_UNREAD", {"cpu": unread})
    assert generate(lm, after_a_header, LIMITED) == one_by_one


def test_a_common_prefix_is_computed_once(tiny_gpt2: LanguageModel, after_a_header: list[str]) -> None:
    rows = [tuple(encode(tiny_gpt2.tokenizer, prompt)) for prompt in after_a_header]
    forward = CausalForward(tiny_gpt2)
    prefix = compute_prefix(forward, rows)
    assert prefix is not None
    assert prefix.ids == common_prefix([row[:-1] for row in rows])
    seen: list[int] = []
    hook = tiny_gpt2.model.register_forward_pre_hook(
        lambda _, args, kwargs: seen.append(kwargs["input_ids"].shape[1]), with_kwargs=True
    )
    try:
        computed = prefill(forward, rows, prefix)
    finally:
        hook.remove()
    assert seen == [max(map(len, rows)) - len(prefix.ids)]
    for row, logits in zip(rows, computed.logits, strict=True):
        torch.testing.assert_close(logits, full_logits(tiny_gpt2, list(row))[-1], rtol=1e-4, atol=1e-4)


def test_a_short_prefix_is_not_computed_in_a_call_of_its_own(tiny_gpt2: LanguageModel) -> None:
    assert compute_prefix(CausalForward(tiny_gpt2), [(1, 2, 3), (1, 2, 4)]) is None


@given(st.lists(st.lists(st.integers(0, 1), max_size=6).map(tuple), min_size=1, max_size=5))
def test_the_common_prefix_is_the_longest_that_all_rows_share(rows: list[tuple[int, ...]]) -> None:
    common = common_prefix(rows)
    assert all(row[: len(common)] == common for row in rows)
    assert len({row[: len(common) + 1] for row in rows}) > 1 or common in rows


@pytest.mark.parametrize("ask", ["generate", "rank"])
def test_answers_do_not_change_when_batches_exceed_the_memory(ask: str, monkeypatch: pytest.MonkeyPatch) -> None:
    lm = build_tiny_gpt2()
    prompts = mixed_prompts(9)
    choices = [["French.", "a painter"]] * len(prompts)

    def answers() -> Any:
        return generate(lm, prompts, LIMITED) if ask == "generate" else rank(lm, prompts, choices)

    expected = answers()
    original = lm.model.forward
    refused: list[int] = []

    def forward(**arguments: Any) -> Any:
        if arguments["input_ids"].shape[0] > 4:
            refused.append(arguments["input_ids"].shape[0])
            raise torch.OutOfMemoryError("CUDA out of memory")
        return original(**arguments)

    monkeypatch.setattr(lm.model, "forward", forward)
    found = answers()
    assert refused
    if ask == "generate":
        assert found == expected
    else:
        for row, other in zip(found, expected, strict=True):
            assert row == pytest.approx(other, rel=1e-5)
