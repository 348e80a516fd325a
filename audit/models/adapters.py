"""A LoRA adapter saved by peft, read as a patch: W + s·B·A for each adapted matrix (Hu et al. 2022, eq. 3).

    patch = adapter_patch(lm, Path("./my-adapter"), "./my-adapter")

The patch is the merged adapter, rounded once into the dtype of the base model. The scale s is α/r, or α/√r for
rank-stabilized adapters (Kalajdzievski 2023, arXiv 2312.03732). Weights that peft saved whole, such as biases and an
untied head, replace those of the base model.
"""

import math
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from audit.errors import AuditError
from audit.models.deltas import Delta, LowRankDelta, Replacement
from audit.models.files.stored_weights import FLOATS, PICKLES, ModelTensors, copied, opened, refuse_pickles, same_bits
from audit.models.language_model import LanguageModel
from audit.models.patches import WeightPatch
from audit.store.files import read_json

CONFIG_FILE, WEIGHTS_FILE = "adapter_config.json", "adapter_model.safetensors"
_BASE = "base_model.model."  # prefix that peft adds to the names of the model
# Suffixes of the two factors, A before B: of a linear map, and of an embedding.
_FACTORS = {
    ".lora_A.weight": (".lora_A.weight", ".lora_B.weight"),
    ".lora_embedding_A": (".lora_embedding_A", ".lora_embedding_B"),
}
# With any of these settings, an adapter is more than s·B·A on the weights of the base model.
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
# Initializations that keep the weights of the base model; others change the weights before training.
_INITIALISATIONS = (True, False, None, "gaussian", "eva", "orthogonal")


def adapter_patch(lm: LanguageModel, folder: Path, name: str) -> WeightPatch:
    """The change of `lm` that merging the adapter in `folder` would make; pairs with an all-zero factor are left out.

    The base model named in the adapter's config is not checked, but names and shapes must fit `lm`. `name` is the
    adapter's name in errors.

    Raises:
        AuditError: files are missing or damaged, the adapter is not plain LoRA, or it does not fit `lm`.
    """
    config = _read_config(folder / CONFIG_FILE, name)
    _check_kind(config, name)
    tensors = _read_tensors(folder, name)
    places = ModelTensors(lm)
    deltas: dict[str, Delta] = {}
    transposed: set[str] = set()
    for key in sorted(tensors):
        end = next((end for end in _FACTORS if key.endswith(end)), None)
        if end is None:
            continue
        first, second = (key.removesuffix(end) + part for part in _FACTORS[end])
        if second not in tensors:
            raise AuditError(f"the adapter {name!r} has {first} but not {second}; save it again.")
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
        config = read_json(file)
        return {**config, "r": int(config["r"]), "lora_alpha": float(config["lora_alpha"])} if _lora(config) else config
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise AuditError(f"the {CONFIG_FILE} of {name!r} cannot be read ({error}); save the adapter again.") from error


def _lora(config: Mapping[str, Any]) -> bool:
    return config.get("peft_type") == "LORA"


def _check_kind(config: Mapping[str, Any], name: str) -> None:
    """Raise `AuditError` unless the adapter is plain LoRA, s·B·A on the weights of the base model."""
    if not _lora(config):
        raise AuditError(
            f"the adapter {name!r} has the type {config.get('peft_type')}, but only LoRA adapters can be read; "
            "merge it into the model, and name the folder of the merged model."
        )
    used = [setting for setting in _NOT_PLAIN if config.get(setting)]
    if config.get("init_lora_weights") not in _INITIALISATIONS:
        used.append(f"init_lora_weights={config['init_lora_weights']}")
    if used:
        raise AuditError(
            f"the adapter {name!r} uses {', '.join(used)}, which is not supported; merge it into the model with peft's "
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
                raise AuditError(
                    f"the adapter {name!r} stores {key} in a dtype that is not floating point; save it again."
                )
        return {key: content.get_tensor(key) for key in content.keys()}  # noqa: SIM118


def _adapted(places: ModelTensors, module: str, name: str) -> str:
    """The parameter name of an adapted module; tied weights are refused, since only one of their uses was adapted."""
    place = places.find(f"{module}.weight")
    if place is None:
        raise AuditError(
            f"the adapter {name!r} changes {module}, which the base model does not have; name the model that it was "
            "trained for."
        )
    if places.tied(place):
        raise AuditError(
            f"the adapter {name!r} changes {module}, whose weight the base model uses in several places "
            "(tie_word_embeddings), in only one of these places; untie the weights of the base model, or merge the "
            "adapter."
        )
    return place


def _scale(config: Mapping[str, Any], module: str, rank: int) -> float:
    """The scale s of a module: α/r or α/√r. α may be set per module (alpha_pattern); r is the stored rank."""
    patterns: dict[str, float] = config.get("alpha_pattern") or {}
    alpha = float(config["lora_alpha"])
    if patterns:
        from peft.utils.other import get_pattern_key  # imports all of peft

        alpha = float(patterns.get(get_pattern_key(list(patterns), module), alpha))
    return alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)


def _delta(a: Tensor, b: Tensor, scale: float, *, embedding: bool) -> LowRankDelta:
    if embedding:  # W is (tokens, hidden) and changes by (s·B·A)ᵀ
        return LowRankDelta(scale * a.float().T.contiguous(), copied(b.float().T))
    return LowRankDelta(scale * b.float(), copied(a.float()))  # (out, rank), (rank, in)


def _check_fit(
    kind: nn.Module, delta: LowRankDelta, turned: bool, shape: tuple[int, ...], module: str, name: str
) -> None:
    if not isinstance(kind, nn.Linear | Conv1D | nn.Embedding):
        raise AuditError(
            f"the adapter {name!r} changes {module}, a {type(kind).__name__}; only linear maps and embeddings can be "
            "read."
        )
    if delta.shape(turned) != shape:
        raise AuditError(
            f"the adapter {name!r} changes {module} by a {delta.shape(turned)} matrix, but the base model has "
            f"{shape}; name the model that it was trained for."
        )


def _whole(
    places: ModelTensors, tensors: Mapping[str, Tensor], adapted: Collection[str], name: str
) -> dict[str, Delta]:
    """The changes by tensors that peft saved whole: biases, `modules_to_save`, and copies of embeddings."""
    changed: dict[str, Delta] = {}
    for key, values in tensors.items():
        plain = key.removeprefix(_BASE).replace(".base_layer.", ".")
        place = places.find(plain)
        if place is None or not places.fits(place, tuple(values.shape)) or not places.writable(place):
            raise AuditError(
                f"the adapter {name!r} has {key}, which fits no weight of the base model; name the model that it was "
                "trained for, or merge the adapter and name the folder of the merged model."
            )
        content = values[: len(places.at(place))].to(places.at(place).dtype)  # without rows of added tokens
        if same_bits(content, places.at(place).cpu()):
            continue
        if places.tied(place) or place in adapted:
            raise AuditError(
                f"the adapter {name!r} replaces {plain}, which is tied in the base model or also adapted; "
                "merge the adapter and name the folder of the merged model."
            )
        changed[place] = Replacement(copied(content))
    return changed
