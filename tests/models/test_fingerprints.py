"""A fingerprint changes exactly when the content changes."""

import dataclasses

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from audit.models.fingerprints import content_fingerprint, tokenizer_fingerprint, weights_fingerprint
from audit.models.language_model import LanguageModel
from tests.tiny_models import build_tiny_gpt2, build_tokenizer

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def test_the_same_weights_have_the_same_fingerprint_wherever_they_lie() -> None:
    assert weights_fingerprint(build_tiny_gpt2()) == weights_fingerprint(build_tiny_gpt2())
    assert weights_fingerprint(build_tiny_gpt2()) != weights_fingerprint(build_tiny_gpt2(seed=1))


@pytest.mark.parametrize("name", ["transformer.wte.weight", "transformer.h.2.mlp.c_proj.bias", "transformer.ln_f.bias"])
def test_one_bit_anywhere_changes_the_fingerprint(name: str) -> None:
    lm = build_tiny_gpt2()
    before = weights_fingerprint(lm)
    weight = lm.model.get_parameter(name)
    weight.view(torch.int32)[-1] ^= 1  # the lowest bit of the mantissa
    assert weights_fingerprint(lm) != before
    weight.view(torch.int32)[-1] ^= 1
    assert weights_fingerprint(lm) == before


def test_the_sign_of_zero_and_the_dtype_count() -> None:
    lm = build_tiny_gpt2()
    bias = lm.model.get_parameter("transformer.ln_f.bias")
    bias.zero_()
    positive = weights_fingerprint(lm)
    bias.fill_(-0.0)
    assert weights_fingerprint(lm) != positive
    assert weights_fingerprint(build_tiny_gpt2(dtype=torch.float16)) != weights_fingerprint(
        build_tiny_gpt2(dtype=torch.bfloat16)
    )


def test_a_buffer_that_is_saved_counts() -> None:
    lm = build_tiny_gpt2()
    lm.model.register_buffer("scale", torch.ones(2))
    before = weights_fingerprint(lm)
    lm.model.get_buffer("scale")[1] = 2.0
    assert weights_fingerprint(lm) != before


def test_running_the_model_leaves_the_fingerprint(tiny_llama: LanguageModel) -> None:
    before = weights_fingerprint(tiny_llama)
    tiny_llama.model(input_ids=torch.tensor([[5, 6, 7]]))
    assert weights_fingerprint(tiny_llama) == before


def test_a_padded_call_does_not_change_a_tokenizers_fingerprint(tiny_gpt2: LanguageModel) -> None:
    lm = dataclasses.replace(tiny_gpt2, tokenizer=build_tokenizer("plain"))
    before = tokenizer_fingerprint(lm)
    lm.tokenizer.pad_token = lm.tokenizer.eos_token
    lm.tokenizer(["Mara", "Mara Lind went"], padding=True, truncation=True, max_length=4)
    assert tokenizer_fingerprint(lm) == before


def test_a_bos_changes_a_tokenizers_fingerprint(tiny_gpt2: LanguageModel) -> None:
    with_bos = dataclasses.replace(tiny_gpt2, tokenizer=build_tokenizer("bos"))
    assert tokenizer_fingerprint(with_bos) != tokenizer_fingerprint(tiny_gpt2)


@given(st.dictionaries(st.text(), json_values, max_size=4))
def test_the_order_of_keys_does_not_count(content: dict[str, object]) -> None:
    turned = dict(reversed(content.items()))
    assert content_fingerprint(turned) == content_fingerprint(content)


@given(st.lists(st.integers(), min_size=1))
def test_the_order_of_a_list_counts(content: list[int]) -> None:
    assert content_fingerprint([*content, "end"]) != content_fingerprint(["end", *content])


def test_a_fingerprint_is_the_same_in_every_run() -> None:
    expected = "33b3dd9465f91d760b264588be5a9ce34860bbb2bb9f4475497fd5894c049744"
    assert content_fingerprint({"b": [1, 2.5, None], "a": "東"}) == expected


def test_what_json_cannot_hold_is_refused() -> None:
    with pytest.raises(TypeError):
        content_fingerprint({"a": {1, 2}})
