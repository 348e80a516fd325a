"""A tiny random Gemma 2: a norm stands between the MLP and the residual stream, and logits are soft-capped."""

import torch
from transformers import Gemma2Config, Gemma2ForCausalLM

from audit.models.anatomy import find_anatomy
from audit.models.language_model import LanguageModel
from tests.tiny_models import build_tokenizer


def build_tiny_gemma() -> LanguageModel:
    words = build_tokenizer("bos")
    config = Gemma2Config(
        vocab_size=len(words),
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
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = Gemma2ForCausalLM(config)
        for name, parameter in model.named_parameters():
            if "norm" in name:  # zeros otherwise, a norm that leaves directions alone
                torch.nn.init.normal_(parameter, std=0.5)
    model.train(False).requires_grad_(False)
    return LanguageModel("tiny-gemma", None, model, words, find_anatomy(model))
