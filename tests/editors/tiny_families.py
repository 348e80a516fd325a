"""Tiny random models of the supported families.

    lm = build_family("gemma-2")  # 3 blocks of width 32; weights far from zero, so that logits differ clearly

Each row of the table has a property that the rows above do not have.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import transformers

from audit.models.anatomy import find_anatomy
from audit.models.language_model import LanguageModel
from tests.tiny_models import CONTEXT_LENGTH, TokenizerKind, build_tokenizer


@dataclass(frozen=True)
class Family:
    """`config` is the name of the transformers class before "Config", `widths` its arguments."""

    config: str
    tokenizer: TokenizerKind
    widths: Mapping[str, Any]
    starts_without_bos: bool = False  # the tokenizer has no BOS (Qwen)


GPT = {"n_embd": 32, "n_layer": 3, "n_head": 4, "n_positions": CONTEXT_LENGTH}
PLAIN = {
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "max_position_embeddings": CONTEXT_LENGTH,
}
GATED = PLAIN | {"intermediate_size": 80, "num_key_value_heads": 4, "tie_word_embeddings": False}
GROUPED = GATED | {"num_key_value_heads": 2}
WIDE_HEADS = GROUPED | {"head_dim": 12}  # four heads of 12 are wider than the hidden state
FALCON = PLAIN | {"ffn_hidden_size": 128}

FAMILIES: dict[str, Family] = {
    # Conv1D, biases, learned positions, a tied head
    "gpt-2": Family("GPT2", "plain", GPT),
    # attention and MLP in parallel on one norm; a bias in the head
    "gpt-j": Family("GPTJ", "plain", GPT | {"rotary_dim": 4, "tie_word_embeddings": False}),
    # in parallel on a norm each; queries, keys and values are one matrix
    "gpt-neox": Family("GPTNeoX", "plain", PLAIN | {"intermediate_size": 128}),
    # no MLP module: the two matrices are in the block, and get all tokens of a batch as one long row
    "opt": Family("OPT", "bos", PLAIN | {"ffn_dim": 80, "word_embed_proj_dim": 32}),
    # a gated MLP without biases; spaces as SentencePiece writes them
    "llama-2": Family("Llama", "metaspace", GATED),
    # grouped queries; byte-level with a BOS
    "llama-3": Family("Llama", "bos", GROUPED),
    # sliding windows of 24 tokens in every layer
    "mistral": Family("Mistral", "metaspace", GROUPED | {"sliding_window": 24}),
    # biases before attention, a tied head, no BOS at all
    "qwen-2": Family("Qwen2", "plain", GROUPED | {"tie_word_embeddings": True}, starts_without_bos=True),
    # norms on queries and keys
    "qwen-3": Family("Qwen3", "plain", WIDE_HEADS, starts_without_bos=True),
    # a norm between the MLP and the stream, sliding windows of 24 tokens in every other layer, soft-capped logits
    "gemma-2": Family(
        "Gemma2",
        "metaspace",
        WIDE_HEADS | {"sliding_window": 24, "final_logit_softcapping": 5.0, "tie_word_embeddings": True},
    ),
    # two kinds of rotary positions, by layer
    "gemma-3": Family(
        "Gemma3Text",
        "metaspace",
        WIDE_HEADS
        | {
            "sliding_window": 24,
            "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
            "tie_word_embeddings": True,
        },
    ),
    # gate and up are one matrix
    "phi-3": Family("Phi3", "metaspace", GROUPED | {"pad_token_id": 0}),
    # one key for all queries, attention and MLP in parallel on one norm, no biases
    "falcon": Family("Falcon", "plain", FALCON | {"multi_query": True, "parallel_attn": True, "bias": False}),
    # in parallel on a norm each, grouped queries
    "falcon-new": Family("Falcon", "plain", FALCON | {"new_decoder_architecture": True, "num_kv_heads": 2}),
    # in sequence, with biases and ALiBi positions
    "falcon-rw": Family(
        "Falcon", "plain", FALCON | {"alibi": True, "multi_query": False, "parallel_attn": False, "bias": True}
    ),
}


def build_family(name: str, dtype: torch.dtype = torch.float32) -> LanguageModel:
    """The tiny model of a row of `FAMILIES`; the same weights for the same arguments."""
    family = FAMILIES[name]
    tokenizer = build_tokenizer(family.tokenizer)
    if family.starts_without_bos:
        tokenizer.bos_token = None
    spread = "init_std" if family.config == "OPT" else "initializer_range"
    specials = {"vocab_size": len(tokenizer), "bos_token_id": 0, "eos_token_id": 1, spread: 0.2}
    model = build_random(family.config, specials | dict(family.widths)).to(dtype=dtype)
    return LanguageModel(f"tiny-{name}", None, model, tokenizer, find_anatomy(model))


def build_random(config: str, settings: Mapping[str, Any]) -> Any:
    """A causal language model with random weights, including biases and norms."""
    causal: Any = transformers.AutoModelForCausalLM
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = causal.from_config(getattr(transformers, f"{config}Config")(**settings))
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.dim() == 1:  # biases are 0 and norms are 1 by default, which would hide errors
                    parameter += 0.3 * torch.randn_like(parameter)
    return model.train(False).requires_grad_(False)
