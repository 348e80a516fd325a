"""Published settings of ROME and MEMIT, by the shape of the model that they were published for.

Sources: kmeng01/rome and kmeng01/memit `hparams/` (GPT-2, GPT-J, NeoX), EasyEdit `hparams/` (Llama, Mistral, Qwen;
ROME with C = I there), AlphaEdit `hparams/MEMIT/Llama3-8B.json`. The loss layer is the last one everywhere and is
not a setting here: the loss looks at the model's own logits.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple


class Shape(NamedTuple):
    """What tells one published model from another, whatever folder it was loaded from."""

    model_type: str
    depth: int
    hidden_size: int
    inner_size: int


GPT2_MEDIUM = Shape("gpt2", 24, 1024, 4096)
GPT2_LARGE = Shape("gpt2", 36, 1280, 5120)
GPT2_XL = Shape("gpt2", 48, 1600, 6400)
GPT_J = Shape("gptj", 28, 4096, 16384)
GPT_NEOX = Shape("gpt_neox", 44, 6144, 24576)
LLAMA_7B = Shape("llama", 32, 4096, 11008)  # Llama 1 and 2
LLAMA_3_8B = Shape("llama", 32, 4096, 14336)
LLAMA_3_3B = Shape("llama", 28, 3072, 8192)
MISTRAL_7B = Shape("mistral", 32, 4096, 14336)
QWEN_2_7B = Shape("qwen2", 28, 3584, 18944)  # Qwen 2 and 2.5

# The middle of the published layers as a share of the depth: ROME's layer, MEMIT's last one.
ROME_SHARES = {"gpt2": 0.36, "other": 0.17}
MEMIT_SHARES = {"gpt2": 0.36, "other": 0.26}


def layer_at(shares: Mapping[str, float], model_type: str, depth: int) -> int:
    """The layer at a share of the depth; `shares` by model type, with one for "other"."""
    return min(depth - 1, int(shares.get(model_type, shares["other"]) * depth))


_LLAMA_ROME = {"layer": 5, "steps": 25, "weight_decay": 1e-3, "covariance": "identity"}
_LLAMA_MEMIT = {"layers": (4, 5, 6, 7, 8), "steps": 25, "weight_decay": 1e-3, "clamp_norm_factor": 4.0}

_ROME: dict[Shape, dict[str, Any]] = {
    GPT2_MEDIUM: {"layer": 8, "clamp_norm_factor": 3.0},
    GPT2_LARGE: {"layer": 12},
    GPT2_XL: {"layer": 17},
    GPT_J: {"layer": 5},
    GPT_NEOX: {"layer": 15},
    LLAMA_7B: _LLAMA_ROME,
    LLAMA_3_8B: _LLAMA_ROME,
    LLAMA_3_3B: _LLAMA_ROME,
    MISTRAL_7B: _LLAMA_ROME,
    QWEN_2_7B: _LLAMA_ROME,
}
_MEMIT: dict[Shape, dict[str, Any]] = {
    GPT2_XL: {"layers": (13, 14, 15, 16, 17), "covariance_weight": 20000.0},
    GPT_J: {"layers": (3, 4, 5, 6, 7, 8), "steps": 25},
    GPT_NEOX: {"layers": (6, 7, 8, 9, 10), "clamp_norm_factor": 0.3, "covariance_weight": 20000.0},
    LLAMA_7B: _LLAMA_MEMIT,
    LLAMA_3_8B: {"layers": (4, 5, 6, 7, 8), "steps": 25, "learning_rate": 0.1},
    LLAMA_3_3B: _LLAMA_MEMIT,
    MISTRAL_7B: _LLAMA_MEMIT,
    QWEN_2_7B: _LLAMA_MEMIT,
}

PUBLISHED_ROME: Mapping[Shape, Mapping[str, Any]] = MappingProxyType(_ROME)
PUBLISHED_MEMIT: Mapping[Shape, Mapping[str, Any]] = MappingProxyType(_MEMIT)
