"""Models of published shapes with random weights, for timings that do not depend on what a model knows.

They use the tokenizer of pocket-gpt2, whose 2,000 tokens are the first ones of their larger vocabularies. Their prefix
contexts come from pocket-gpt2 and have the published number and length.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType

import torch
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, PreTrainedModel

from audit.editors.stages.keys import OPENINGS, Contexts, sample_prefixes
from audit.models.anatomy import find_anatomy
from audit.models.language_model import LanguageModel
from audit.models.loading import load_language_model

# Without the published settings' C from Wikipedia some neurons hardly fire; the ridge makes C well conditioned.
RANDOM_SETTINGS = MappingProxyType({"covariance_ridge": "0.01"})


def _tiny() -> PreTrainedModel:
    return GPT2LMHeadModel(GPT2Config(vocab_size=2500, n_embd=48, n_layer=6, n_head=4))


def _gpt2_small() -> PreTrainedModel:
    return GPT2LMHeadModel(GPT2Config())


def _gpt2_xl() -> PreTrainedModel:
    return GPT2LMHeadModel(GPT2Config(n_embd=1600, n_layer=48, n_head=25))


def _llama_7b() -> PreTrainedModel:
    return LlamaForCausalLM(LlamaConfig())  # its defaults are Llama 7B's


SHAPES: Mapping[str, Callable[[], PreTrainedModel]] = MappingProxyType(
    {"tiny": _tiny, "gpt2-small": _gpt2_small, "gpt2-xl": _gpt2_xl, "llama-7b": _llama_7b}
)


def published_contexts() -> tuple[Contexts, Contexts]:
    """ROME's 21 and MEMIT's 6 contexts, drawn from pocket-gpt2."""
    pocket = load_language_model("pocket-gpt2", device="cpu")
    rome = (*sample_prefixes(pocket, ("",), 10, 5, seed=0), *sample_prefixes(pocket, ("",), 10, 10, seed=1))
    memit = sample_prefixes(pocket, OPENINGS, 5, 10, seed=0)
    return Contexts((("", *rome),)), Contexts((("",), memit))


def build(shape: str, device: str, dtype: torch.dtype) -> LanguageModel:
    """A random model of this shape, built on `device`."""
    tokenizer = load_language_model("pocket-gpt2", device="cpu").tokenizer
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.random.fork_rng(), torch.device(device):
            torch.manual_seed(0)
            model = SHAPES[shape]()
    finally:
        torch.set_default_dtype(before)
    model.train(False).requires_grad_(False)
    return LanguageModel(f"random {shape}", None, model, tokenizer, find_anatomy(model))


def random_moments(lm: LanguageModel, layers: tuple[int, ...]) -> dict[int, torch.Tensor]:
    """A well-conditioned C for each layer, (inner, inner) in float32 on the model's device."""
    inner, generator = lm.anatomy.inner_size, torch.Generator(lm.device).manual_seed(0)
    moments = {}
    for layer in layers:
        keys = torch.randn(2 * inner, inner, generator=generator, device=lm.device)
        moments[layer] = keys.T @ keys / len(keys)
    return moments
