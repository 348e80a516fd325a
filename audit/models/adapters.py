"""A LoRA adapter that peft saved becomes a change of weights: s·B·A for each adapted matrix (Hu et al. 2022, eq. 3).

    patch = adapter_patch(lm, Path("./my-adapter"), "./my-adapter")

The patch is the merged adapter, W + s·B·A, rounded once into the base model's dtype; s is α/r, or α/√r where the
adapter is rank-stabilised (Kalajdzievski 2023, arXiv 2312.03732). Weights that were trained and saved whole, such as
biases and an untied head, take the place of the base model's.
"""

import json
import math
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from audit.errors import AuditError
from audit.models.deltas import Delta, LowRankDelta, Replacement
from audit.models.language_model import LanguageModel
from audit.models.patches import WeightPatch
from audit.models.stored_weights import FLOATS, PICKLES, Places, kept, opened, refuse_pickles, same_bits

CONFIG_FILE, WEIGHTS_FILE = "adapter_config.json", "adapter_model.safetensors"
_BASE = "base_model.model."  # what peft puts before the model's own names
# The two factors of a linear map's adapter and of an embedding's: their names' ends, A before B.
_FACTORS = {
    ".lora_A.weight": (".lora_A.weight", ".lora_B.weight"),
    ".lora_embedding_A": (".lora_embedding_A", ".lora_embedding_B"),
}
# Settings under which an adapter is not just s·B·A on the base model's weights.
_NOT_PLAIN = (
    "use_dora",
    "lora_bias",
    "use_qalora",
    "use_bdlora",
    "layer_replication",
    "target_parameters",
    "trainable_token_indices",
    "alora_invocation_tokens",
    "arrow_config",
    "kasa_config",
    "monteclora_config",
)
# Ways to begin that leave the base model's weights alone; others train beside weights that were changed first.
_BEGINNINGS = (True, False, None, "gaussian", "eva", "orthogonal")


def adapter_patch(lm: LanguageModel, folder: Path, name: str) -> WeightPatch:
    """What merging the adapter in `folder` would change in `lm`; adapters that are zero are left out.

    The base model that the adapter's config names is not looked at: shapes and names must fit `lm`.

    Raises:
        AuditError: files are missing or spoilt, the adapter is of a kind that is not plain LoRA, or does not fit.
    """
    config = _read_config(folder / CONFIG_FILE, name)
    _check_kind(config, name)
    tensors = _read_tensors(folder, name)
    places = Places(lm)
    deltas: dict[str, Delta] = {}
    transposed: set[str] = set()
    for key in sorted(tensors):
        end = next((end for end in _FACTORS if key.endswith(end)), None)
        if end is None:
            continue
        first, second = (key.removesuffix(end) + part for part in _FACTORS[end])
        if second not in tensors:
            raise AuditError(f"the adapter {name!r} holds {first} without {second}; save it again.")
        a, b = tensors.pop(first), tensors.pop(second)  # (rank, in), (out, rank)
        module = first.removeprefix(_BASE).removesuffix(end)
        place = _adapted(places, module, name)
        scale = _scale(config, module, rank=a.shape[0])
        delta = _delta(a, b, scale, embedding=end != ".lora_A.weight")
        kind = lm.model.get_submodule(place.rpartition(".")[0])
        turned = isinstance(kind, Conv1D)
        _check_fit(kind, delta, turned, tuple(places.at(place).shape), module, name)
        if bool(delta.left.any()) and bool(delta.right.any()):
            deltas[place] = delta
            transposed |= {place} if turned else set()
    deltas |= _whole(places, tensors, deltas.keys(), name)
    return WeightPatch(deltas, frozenset(transposed))


def _read_config(file: Path, name: str) -> dict[str, Any]:
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
        return {**config, "r": int(config["r"]), "lora_alpha": float(config["lora_alpha"])} if _lora(config) else config
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise AuditError(f"the {CONFIG_FILE} of {name!r} cannot be read ({error}); save the adapter again.") from error


def _lora(config: Mapping[str, Any]) -> bool:
    return config.get("peft_type") == "LORA"


def _check_kind(config: Mapping[str, Any], name: str) -> None:
    """AuditError unless the adapter is s·B·A on the base model's own weights."""
    if not _lora(config):
        raise AuditError(
            f"the adapter {name!r} is of the kind {config.get('peft_type')}, but only LoRA changes weights in a way "
            "that can be read here; merge it into the model, and name the folder of the merged model."
        )
    used = [setting for setting in _NOT_PLAIN if config.get(setting)]
    if config.get("init_lora_weights") not in _BEGINNINGS:
        used.append(f"init_lora_weights={config['init_lora_weights']}")
    if used:
        raise AuditError(
            f"the adapter {name!r} uses {', '.join(used)}, which is not supported; merge it into the model by peft's "
            "merge_and_unload, and name the folder of the merged model."
        )


def _read_tensors(folder: Path, name: str) -> dict[str, Tensor]:
    file = folder / WEIGHTS_FILE
    if not file.is_file():
        refuse_pickles(sorted(found for pattern in PICKLES for found in folder.glob(pattern)), name)
        raise AuditError(f"the adapter {name!r} lacks {WEIGHTS_FILE}; save it again.")
    with opened(file) as content:
        for key in content.keys():  # noqa: SIM118 - not a mapping
            if content.get_slice(key).get_dtype() not in FLOATS:
                raise AuditError(f"the adapter {name!r} stores {key} in no floating-point dtype; save it again.")
        return {key: content.get_tensor(key) for key in content.keys()}  # noqa: SIM118


def _adapted(places: Places, module: str, name: str) -> str:
    """The weight of an adapted module, which must have no second use: the adapter was trained for one."""
    place = places.find(f"{module}.weight")
    if place is None:
        raise AuditError(
            f"the adapter {name!r} changes {module}, which the base model does not have; name the model that it was "
            "trained for."
        )
    if places.tied(place):
        raise AuditError(
            f"the adapter {name!r} changes {module}, whose weight the base model uses in several places "
            "(tie_word_embeddings), and only in one of them; untie them in the base model, or merge the adapter."
        )
    return place


def _scale(config: Mapping[str, Any], module: str, rank: int) -> float:
    """The s of a module: α/r, or α/√r; α may be its own, as peft looks it up. r is what was stored."""
    patterns: dict[str, float] = config.get("alpha_pattern") or {}
    alpha = float(config["lora_alpha"])
    if patterns:
        from peft.utils.other import get_pattern_key  # brings all of peft

        alpha = float(patterns.get(get_pattern_key(list(patterns), module), alpha))
    return alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)


def _delta(a: Tensor, b: Tensor, scale: float, *, embedding: bool) -> LowRankDelta:
    if embedding:  # W is (tokens, hidden), and changes by (s·B·A)ᵀ
        return LowRankDelta(scale * a.float().T.contiguous(), kept(b.float().T))
    return LowRankDelta(scale * b.float(), kept(a.float()))  # (out, rank), (rank, in)


def _check_fit(
    kind: nn.Module, delta: LowRankDelta, turned: bool, shape: tuple[int, ...], module: str, name: str
) -> None:
    if not isinstance(kind, nn.Linear | Conv1D | nn.Embedding):
        raise AuditError(f"the adapter {name!r} changes {module}, a {type(kind).__name__}; only linear maps are read.")
    if delta.shape(turned) != shape:
        raise AuditError(
            f"the adapter {name!r} changes {module} by a {delta.shape(turned)} matrix where the base model has "
            f"{shape}; name the model that it was trained for."
        )


def _whole(places: Places, tensors: Mapping[str, Tensor], adapted: Collection[str], name: str) -> dict[str, Delta]:
    """What peft saved as it is: biases, modules to save, and copies of embeddings."""
    changed: dict[str, Delta] = {}
    for key, values in tensors.items():
        plain = key.removeprefix(_BASE).replace(".base_layer.", ".")
        place = places.find(plain)
        if place is None or tuple(values.shape) != tuple(places.at(place).shape) or not places.writable(place):
            raise AuditError(
                f"the adapter {name!r} holds {key}, which fits no weight of the base model; name the model that it was "
                "trained for, or merge the adapter and name the folder of the merged model."
            )
        content = values.to(places.at(place).dtype)
        if same_bits(content, places.at(place).cpu()):
            continue
        if places.tied(place) or place in adapted:
            raise AuditError(
                f"the adapter {name!r} holds another {plain} than the base model, where that is tied or "
                "adapted as well; merge the adapter and name the folder of the merged model."
            )
        changed[place] = Replacement(kept(content))
    return changed
