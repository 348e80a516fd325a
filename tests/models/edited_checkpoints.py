"""Edited tiny models on the disk, and changes of their files, for the tests beside this file."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from audit.models.language_model import LanguageModel
from audit.models.patches import parameter_at


def rank_one_update(weight: Tensor, seed: int = 0) -> Tensor:
    """The textbook's edit, (out, in): ΔW = (v − W k) kᵀ / (kᵀ k), after which the key k is answered by v."""
    generator = torch.Generator().manual_seed(seed)
    key = torch.randn(weight.shape[1], generator=generator)
    value = torch.randn(weight.shape[0], generator=generator)
    return torch.outer(value - weight @ key, key) / key.dot(key)


def edited(lm: LanguageModel, layer: int = 1) -> LanguageModel:
    """The same model after a rank-one update of a down projection, in plain torch."""
    weight = parameter_at(lm.model, lm.anatomy.weight_name(layer))
    plain = weight.T if lm.anatomy.transposed else weight
    with torch.no_grad():
        plain += rank_one_update(plain)
    return lm


def loaded(file: Path) -> dict[str, Tensor]:
    """What a file holds, in memory: safetensors maps files, and these tests write them anew."""
    return {name: x.clone() for name, x in load_file(file).items()}


def change_config(folder: Path, **fields: Any) -> None:
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | fields))


def change_weights(folder: Path, change: Callable[[dict[str, Tensor]], None]) -> None:
    file = folder / "model.safetensors"
    tensors = loaded(file)
    change(tensors)
    save_file(tensors, file, metadata={"format": "pt"})
