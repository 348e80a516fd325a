"""Tiny random models whose blocks are built unlike GPT-2's and Llama's."""

import torch
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    GPTJConfig,
    GPTJForCausalLM,
    OPTConfig,
    OPTForCausalLM,
    PreTrainedModel,
)

from audit.models.anatomy import find_anatomy
from audit.models.language_model import LanguageModel
from tests.tiny_models import build_tokenizer


def build_tiny_gemma() -> LanguageModel:
    """A norm stands between the MLP and the residual stream, every other layer looks back 24 tokens only, and logits
    are soft-capped."""
    config = Gemma2Config(
        vocab_size=len(build_tokenizer("bos")),
        max_position_embeddings=256,
        hidden_size=32,
        intermediate_size=80,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        sliding_window=24,
        final_logit_softcapping=5.0,
        initializer_range=0.2,
    )
    return _random("tiny-gemma", Gemma2ForCausalLM, config)


def build_tiny_gptj() -> LanguageModel:
    """Attention and MLP read the same input, side by side."""
    size = len(build_tokenizer("bos"))
    config = GPTJConfig(
        vocab_size=size,
        n_embd=32,
        n_layer=3,
        n_head=4,
        rotary_dim=4,
        n_positions=256,
        initializer_range=0.2,
        bos_token_id=0,
        eos_token_id=1,
    )
    return _random("tiny-gptj", GPTJForCausalLM, config)


def build_tiny_opt() -> LanguageModel:
    """No MLP module: the two maps stand in the block, and see all tokens of a batch in one long row."""
    config = OPTConfig(
        vocab_size=len(build_tokenizer("bos")),
        hidden_size=32,
        word_embed_proj_dim=32,
        num_hidden_layers=3,
        num_attention_heads=4,
        ffn_dim=80,
        max_position_embeddings=256,
        init_std=0.2,
    )
    return _random("tiny-opt", OPTForCausalLM, config)


def _random(name: str, family: type[PreTrainedModel], config: Gemma2Config | GPTJConfig | OPTConfig) -> LanguageModel:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = family(config)
        for parameter_name, parameter in model.named_parameters():
            if "norm" in parameter_name and name == "tiny-gemma":  # zeros otherwise: norms that change no direction
                torch.nn.init.normal_(parameter, std=0.5)
    model.train(False).requires_grad_(False)
    return LanguageModel(name, None, model, build_tokenizer("bos"), find_anatomy(model))
