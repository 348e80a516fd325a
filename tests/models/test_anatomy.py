"""The parts of a model are found in every dense decoder family; errors name what is missing."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import transformers
from transformers import PreTrainedModel

from audit.errors import AuditError
from audit.models.anatomy import find_anatomy, module_at
from audit.models.language_model import LanguageModel
from tests.tiny_models import build_tiny_gpt2, build_tiny_llama

# family, configuration, and where its parts are: block, MLP, attention, its projection, down projection, norm
SMALL: dict[str, Any] = {"vocab_size": 50, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
LLAMA_LIKE: dict[str, Any] = SMALL | {"intermediate_size": 24, "num_key_value_heads": 1}
LLAMA_PATHS = ("model.layers.{}", "mlp", "self_attn", "self_attn.o_proj", "mlp.down_proj", "model.norm")
NEOX_PATHS = ("mlp", "attention", "attention.dense", "mlp.dense_4h_to_h")
FAMILIES: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "Mistral": (LLAMA_LIKE, LLAMA_PATHS),
    "Qwen2": (LLAMA_LIKE, LLAMA_PATHS),
    "Qwen3": (LLAMA_LIKE | {"head_dim": 12}, LLAMA_PATHS),  # attention is as wide inside as the MLP
    "Gemma2": (LLAMA_LIKE | {"head_dim": 12}, LLAMA_PATHS),
    "Phi3": (
        LLAMA_LIKE | {"pad_token_id": 0, "eos_token_id": 0},
        LLAMA_PATHS,
    ),  # gate and up are one map
    "GPTJ": (
        {"vocab_size": 50, "n_embd": 16, "n_layer": 2, "n_head": 2, "rotary_dim": 4},
        ("transformer.h.{}", "mlp", "attn", "attn.out_proj", "mlp.fc_out", "transformer.ln_f"),
    ),
    "GPTNeo": (
        {"vocab_size": 50, "hidden_size": 16, "num_layers": 2, "num_heads": 2, "attention_types": [[["global"], 2]]},
        ("transformer.h.{}", "mlp", "attn", "attn.attention.out_proj", "mlp.c_proj", "transformer.ln_f"),
    ),
    "GPTNeoX": (
        SMALL | {"intermediate_size": 24},
        ("gpt_neox.layers.{}", *NEOX_PATHS, "gpt_neox.final_layer_norm"),
    ),
    "Bloom": (
        {"vocab_size": 50, "hidden_size": 16, "n_layer": 2, "n_head": 2},
        ("transformer.h.{}", "mlp", "self_attention", "self_attention.dense", "mlp.dense_4h_to_h", "transformer.ln_f"),
    ),
    "OPT": (  # its two maps stand in the block itself
        SMALL | {"ffn_dim": 24, "word_embed_proj_dim": 16, "max_position_embeddings": 32},
        (
            "model.decoder.layers.{}",
            "fc2",
            "self_attn",
            "self_attn.out_proj",
            "fc2",
            "model.decoder.final_layer_norm",
        ),
    ),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_every_part_of_other_families_is_found(family: str) -> None:
    settings, (block, mlp, attention, projection, down, norm) = FAMILIES[family]
    anatomy = find_anatomy(build(family, settings))

    blocks = tuple(block.format(layer) for layer in range(2))
    assert anatomy.blocks == blocks
    assert anatomy.mlps == tuple(f"{path}.{mlp}" for path in blocks)
    assert anatomy.attentions == tuple(f"{path}.{attention}" for path in blocks)
    assert anatomy.attention_projections == tuple(f"{path}.{projection}" for path in blocks)
    assert anatomy.down_projections == tuple(f"{path}.{down}" for path in blocks)
    assert anatomy.final_norm == norm
    assert (anatomy.hidden_size, anatomy.transposed) == (16, False)


def test_gpt2_stores_its_weights_transposed(tiny_gpt2: LanguageModel) -> None:
    anatomy = tiny_gpt2.anatomy
    assert anatomy.depth == 3
    assert anatomy.weight_name(1) == "transformer.h.1.mlp.c_proj.weight"
    assert anatomy.embeddings == "transformer.wte"
    assert anatomy.final_norm == "transformer.ln_f"
    assert anatomy.transposed
    assert tuple(tiny_gpt2.model.get_parameter(anatomy.weight_name(1)).shape) == (
        anatomy.inner_size,
        anatomy.hidden_size,
    )


def test_llama_stores_its_weights_plainly(tiny_llama: LanguageModel) -> None:
    anatomy = tiny_llama.anatomy
    assert anatomy.weight_name(2) == "model.layers.2.mlp.down_proj.weight"
    assert anatomy.attention_projections[0] == "model.layers.0.self_attn.o_proj"
    assert not anatomy.transposed
    assert tuple(tiny_llama.model.get_parameter(anatomy.weight_name(2)).shape) == (
        anatomy.hidden_size,
        anatomy.inner_size,
    )


@pytest.mark.parametrize("builder", [build_tiny_gpt2, build_tiny_llama])
def test_only_the_attention_mixes_positions(builder: Callable[..., LanguageModel]) -> None:
    """Without attention, no token affects the MLP at a later position."""
    lm = builder(layers=1)
    before = [_mlp_output(lm, first) for first in (5, 9)]  # each (1, time, hidden)
    with torch.no_grad():
        for parameter in module_at(lm.model, lm.anatomy.attention_projections[0]).parameters():
            parameter.zero_()
    after = [_mlp_output(lm, first) for first in (5, 9)]

    assert not torch.equal(before[0][0, 2], before[1][0, 2])
    assert torch.equal(after[0][0, 2], after[1][0, 2])
    assert not torch.equal(after[0][0, 0], after[1][0, 0])


def _mlp_output(lm: LanguageModel, first: int) -> torch.Tensor:
    outputs: list[torch.Tensor] = []
    hook = module_at(lm.model, lm.anatomy.mlps[0]).register_forward_hook(lambda _m, _i, out: outputs.append(out))
    lm.model(input_ids=torch.tensor([[first, 7, 8]]))
    hook.remove()
    return outputs[0]


def test_the_inner_width_may_equal_the_hidden_width() -> None:
    model = build("Llama", LLAMA_LIKE | {"intermediate_size": 16})
    assert find_anatomy(model).down_projections == ("model.layers.0.mlp.down_proj", "model.layers.1.mlp.down_proj")


EXPERTS: dict[str, Any] = {"num_local_experts": 2, "num_experts_per_tok": 1}
STATES: dict[str, Any] = {"vocab_size": 50, "hidden_size": 16, "num_hidden_layers": 2, "state_size": 4}
T5: dict[str, Any] = {"vocab_size": 50, "d_model": 16, "d_kv": 8, "d_ff": 24, "num_layers": 2, "num_heads": 2}
REFUSED: dict[str, tuple[str, dict[str, Any], str]] = {
    "MixtralForCausalLM": (
        "MixtralConfig",
        LLAMA_LIKE | EXPERTS,
        r"block 'model\.layers\.0' of MixtralForCausalLM has several .* \(mlp\.experts.*\), like a mixture of experts",
    ),
    "Qwen2MoeForCausalLM": (  # one dense expert stands beside the others
        "Qwen2MoeConfig",
        LLAMA_LIKE | {"num_experts": 4, "moe_intermediate_size": 12, "shared_expert_intermediate_size": 20},
        "like a mixture of experts; choose a dense model",
    ),
    "DeepseekV3ForCausalLM": (  # its first block has one MLP, the others have experts
        "DeepseekV3Config",
        LLAMA_LIKE
        | {"num_key_value_heads": 2, "first_k_dense_replace": 1, "moe_intermediate_size": 12, "n_routed_experts": 4}
        | {"num_experts_per_tok": 2, "n_group": 1, "topk_group": 1},
        r"block 'model\.layers\.1' of DeepseekV3ForCausalLM has several .*, like a mixture of experts",
    ),
    "T5ForConditionalGeneration": ("T5Config", T5, "is an encoder-decoder model"),
    "BertForMaskedLM": (
        "BertConfig",
        SMALL | {"intermediate_size": 24},
        "has no list of transformer blocks next to",
    ),
    "MambaForCausalLM": ("MambaConfig", STATES, "of MambaForCausalLM has no MLP down projection"),
    "JambaForCausalLM": (
        "JambaConfig",
        LLAMA_LIKE
        | {"num_experts": 1, "attn_layer_period": 2, "attn_layer_offset": 1}
        | {"use_mamba_kernels": False, "mamba_d_state": 4},
        r"use different token mixers \(JambaAttention, JambaMambaMixer\)",
    ),
    "OPTForCausalLM": (  # as OPT-350m: norms after the blocks only, and a narrower embedding
        "OPTConfig",
        SMALL | {"ffn_dim": 24, "word_embed_proj_dim": 8, "do_layer_norm_before": False},
        "OPTForCausalLM has no final norm next to its blocks",
    ),
}


@pytest.mark.parametrize("model", REFUSED)
def test_the_error_names_the_missing_part(model: str) -> None:
    config, settings, sentence = REFUSED[model]
    built = getattr(transformers, model)(getattr(transformers, config)(**settings))
    with pytest.raises(AuditError, match=sentence) as refusal:
        find_anatomy(built)
    assert model in str(refusal.value) and "; choose a" in str(refusal.value)


def test_a_missing_final_norm_is_named() -> None:
    model = build("Llama", LLAMA_LIKE)
    del model.model.norm
    with pytest.raises(AuditError, match="LlamaForCausalLM has no final norm"):
        find_anatomy(model)


@pytest.mark.parametrize("layer", [-1, 3])
def test_a_layer_that_does_not_exist_is_named(tiny_gpt2: LanguageModel, layer: int) -> None:
    with pytest.raises(AuditError, match=f"layer {layer} does not exist: this model has layers 0 to 2"):
        tiny_gpt2.anatomy.weight_name(layer)


def test_a_module_that_does_not_exist_is_named(tiny_gpt2: LanguageModel) -> None:
    with pytest.raises(AuditError, match=r"no module 'transformer\.h\.9'"):
        module_at(tiny_gpt2.model, "transformer.h.9")


def build(family: str, settings: dict[str, Any]) -> PreTrainedModel:
    config = getattr(transformers, f"{family}Config")(**settings)
    model: PreTrainedModel = getattr(transformers, f"{family}ForCausalLM")(config)
    return model
