"""Checks of the files of a model folder before transformers reads them: the folder may come from an untrusted source.

    check_model_folder(folder, "./my-model")
    with foreign_files("tokenizer", "./my-model", "copy it again"):
        ...  # whatever a library raises here becomes one sentence

Each error names the file, the field and its value. No weight is allocated before the sizes in the config have been
compared with the stored tensors.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from audit.errors import AuditError, first_line
from audit.models.stored_weights import INDEX_FILE, WEIGHTS_FILE, StoredTensor, headers, weight_files
from audit.store.files import read_json

CONFIG_FILE, ADAPTER_CONFIG, ADAPTER_WEIGHTS = "config.json", "adapter_config.json", "adapter_model.safetensors"
GENERATION_FILE, TOKENIZER_CONFIG = "generation_config.json", "tokenizer_config.json"
MOST_LAYERS = 10_000
LARGER = 2.0  # upper limit of a network's weights, as a multiple of the stored ones (tied weights, tables)

_LAYERS = ("num_hidden_layers", "n_layer", "num_layers")
_SIZES = (
    *_LAYERS, "vocab_size", "hidden_size", "n_embd", "d_model", "num_attention_heads", "n_head", "num_heads",
    "num_key_value_heads", "intermediate_size", "n_inner", "max_position_embeddings", "n_positions", "head_dim",
)  # fmt: skip
_TOKEN_IDS = ("bos_token_id", "eos_token_id", "pad_token_id")
_TOKENS = ("bos_token", "eos_token", "unk_token", "pad_token", "sep_token", "cls_token", "mask_token")
# Ends of the names of tensors that only quantized checkpoints have, and dtypes of quantized weights.
_QUANTIZED_ENDS = (
    ".qweight", ".qzeros", ".SCB", ".absmax", ".quant_map", ".weight_packed", ".weight_scale", ".weight_scale_inv",
    ".weight_zero_point", ".weight.absmax", ".weight.quant_state",
)  # fmt: skip
_QUANTIZED_DTYPES = ("I8", "U8", "I4", "U4", "F8_E4M3", "F8_E5M2", "F4")

# transformers types these two loosely: the return type of from_pretrained depends on its arguments.
_configs: Any = AutoConfig
_models: Any = AutoModelForCausalLM


@contextmanager
def foreign_files(what: str, name: str, remedy: str) -> Iterator[None]:
    """Turn any exception while a library reads the `what` of the model `name` into an `AuditError` with a `remedy`."""
    try:
        yield
    except AuditError:
        raise
    except Exception as error:
        raise AuditError(f"the {what} of {name!r} cannot be read ({first_line(error)[:300]}); {remedy}.") from error


def check_model_folder(folder: Path, name: str, *, weights: bool = True, shapes: bool = True) -> None:
    """Check the JSON files of a model folder, and its sizes against the headers of its weights.

    Args:
        folder: the folder; of the JSON files, only `config.json` must exist.
        name: the model's name in errors.
        weights: whether the folder must hold safetensors weights; if not, weights are not checked.
        shapes: whether the shape of every tensor must be that of the network.

    Raises:
        AuditError: a file is not a JSON object or has an impossible value, the weights are quantized, missing, stored
            under other names or beside an adapter, or the config describes another network than the stored one.
    """
    config = _object(folder / CONFIG_FILE, name)
    for part in (config, config.get("text_config")):
        if isinstance(part, Mapping):
            _check_config(part, name)
    _check_ids(_object(folder / GENERATION_FILE, name, missing={}), GENERATION_FILE, name)
    _check_tokenizer_config(_object(folder / TOKENIZER_CONFIG, name, missing={}), name)
    _require_one_kind(folder, name)
    if not weights:
        _refuse_quantized(config, None, name)
        return
    stored = headers(weight_files(folder, name), name)
    _refuse_quantized(config, stored, name)
    _check_sizes(config, stored, folder, name, shapes)


def check_tokenizer_files(folder: Path, name: str) -> None:
    """Raise `AuditError` if the only tokenizer file is a tokenizer.model and sentencepiece is not installed."""
    only_model = (folder / "tokenizer.model").is_file() and not (folder / "tokenizer.json").is_file()
    if only_model and find_spec("sentencepiece") is None:
        raise AuditError(
            f"{name!r} has its tokenizer only as tokenizer.model, which needs a package that is not installed: "
            "pip install sentencepiece, or add its tokenizer.json."
        )


def refuse_empty(tokenizer: Any, name: str) -> None:
    """Raise `AuditError` if a tokenizer has no tokens, as transformers builds one if its files are missing."""
    with foreign_files("tokenizer", name, "copy its tokenizer files again"):
        empty = len(tokenizer) < 2 or not tokenizer("a b c", add_special_tokens=False)["input_ids"]
    if empty:
        raise AuditError(
            f"the tokenizer of {name!r} is empty ({len(tokenizer)} tokens); copy tokenizer.json or the vocabulary "
            "files of the model into its folder."
        )


def _object(file: Path, name: str, missing: Mapping[str, Any] | None = None) -> Mapping[str, Any]:
    """The JSON object in a file of the folder; `missing` if there is no such file."""
    if missing is not None and not file.exists():
        return missing
    try:
        content = read_json(file)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise AuditError(f"the {file.name} of {name!r} cannot be read ({reason}); copy it again.") from None
    if not isinstance(content, Mapping):
        kind = {list: "a list", str: "a text", bool: "true or false", type(None): "null"}.get(type(content), "a number")
        raise AuditError(f"the {file.name} of {name!r} is {kind}, not an object; copy it again.")
    return content


def _wrong(file: str, name: str, field: str, value: Any, wanted: str) -> AuditError:
    shown = repr(value) if len(repr(value)) < 60 else f"{repr(value)[:57]}..."
    return AuditError(f"the {file} of {name!r} has {field} {shown}; it must be {wanted}.")


def _whole(value: Any, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _check_config(config: Mapping[str, Any], name: str) -> None:
    for field in _SIZES:
        value = config.get(field)
        several = value if isinstance(value, list) else [value]
        if value is not None and not all(_whole(one, 1) for one in several):
            raise _wrong(CONFIG_FILE, name, field, value, "a whole number of at least 1")
    for field in _LAYERS:
        if _whole(config.get(field), MOST_LAYERS):
            raise _wrong(CONFIG_FILE, name, field, config[field], f"below {MOST_LAYERS}")
    kind, quantization = config.get("model_type"), config.get("quantization_config")
    if kind is not None and not isinstance(kind, str):
        raise _wrong(CONFIG_FILE, name, "model_type", kind, "the name of an architecture")
    if quantization is not None and not isinstance(quantization, Mapping):
        raise _wrong(CONFIG_FILE, name, "quantization_config", quantization, "an object, or absent")
    for field in ("dtype", "torch_dtype"):
        value = config.get(field)
        if isinstance(value, str) and isinstance(getattr(torch, value.removeprefix("torch."), None), torch.dtype):
            continue
        if value is not None and not isinstance(value, Mapping) and value != "auto":
            raise _wrong(CONFIG_FILE, name, field, value, "a dtype of torch, such as float32")
    _check_ids(config, CONFIG_FILE, name)
    rows, pad = config.get("vocab_size"), config.get("pad_token_id")
    if isinstance(rows, int) and _whole(pad, rows):
        raise _wrong(CONFIG_FILE, name, "pad_token_id", pad, f"below its vocab_size, {rows}")


def _check_ids(content: Mapping[str, Any], file: str, name: str) -> None:
    for field in _TOKEN_IDS:
        value = content.get(field)
        several = value if isinstance(value, list) and field == "eos_token_id" else [value]
        if value is not None and not all(_whole(one, -1) for one in several):
            raise _wrong(file, name, field, value, "a token id, or for eos_token_id a list of them")


def _check_tokenizer_config(content: Mapping[str, Any], name: str) -> None:
    for field in _TOKENS:
        value = content.get(field)
        token = value.get("content") if isinstance(value, Mapping) else value
        if value is not None and not isinstance(token, str):
            raise _wrong(TOKENIZER_CONFIG, name, field, value, "a text, or an object with its content")


def _require_one_kind(folder: Path, name: str) -> None:
    """Raise `AuditError` for whole weights beside an adapter, since either of them could be meant."""
    whole = [file for file in (WEIGHTS_FILE, INDEX_FILE) if (folder / file).is_file()]
    if whole and (folder / ADAPTER_CONFIG).is_file():
        both = (folder / ADAPTER_WEIGHTS).is_file()
        raise AuditError(
            f"{name!r} has whole weights ({whole[0]}) beside {'an adapter' if both else f'an {ADAPTER_CONFIG}'}: "
            + (
                "move the adapter to a folder of its own."
                if both
                else f"if the adapter is merged into them, delete the left-over {ADAPTER_CONFIG}."
            )
        )


def _refuse_quantized(config: Mapping[str, Any], stored: Sequence[StoredTensor] | None, name: str) -> None:
    """Raise `AuditError` for quantized weights; `stored` None: only the config is known yet."""
    given = config.get("quantization_config") or config.get("compression_config")
    marked = [tensor for tensor in stored or () if _is_quantized(tensor)]
    if not given and not marked:
        return
    method = str(given.get("quant_method", "")) if isinstance(given, Mapping) else ""
    flags = [bits for bits in (4, 8) if isinstance(given, Mapping) and given.get(f"load_in_{bits}bit")]
    bits = f"{flags[0]}-bit" if flags else ""
    kinds = ", ".join(filter(None, (method, bits, *sorted({tensor.dtype for tensor in marked}))))
    if not marked and stored is not None:
        raise AuditError(
            f"the config.json of {name!r} has a quantization_config ({kinds or 'unnamed'}), but its weights are not "
            "quantized; delete that field if the model was dequantized."
        )
    raise AuditError(
        f"{name!r} is a quantized checkpoint ({kinds or 'of an unnamed kind'}), and edits need the weights themselves: "
        "give the unquantized model that it was made from, or load it with transformers, call dequantize() and save it "
        "with save_pretrained."
    )


def _is_quantized(tensor: StoredTensor) -> bool:
    # A mask may be stored as whole numbers too, so of these dtypes only weights count.
    small = tensor.dtype in _QUANTIZED_DTYPES and len(tensor.shape) > 1 and tensor.name.endswith(".weight")
    return small or tensor.name.endswith(_QUANTIZED_ENDS)


def _check_sizes(
    config: Mapping[str, Any], stored: Sequence[StoredTensor], folder: Path, name: str, shapes: bool
) -> None:
    text = config.get("text_config") if isinstance(config.get("text_config"), Mapping) else config
    places = [int(number) for tensor in stored for number in re.findall(r"\.(\d{1,6})\.", tensor.name)]
    field = next((field for field in _LAYERS if isinstance(text, Mapping) and field in text), None)
    if field and places and isinstance(text, Mapping) and text[field] > max(places) + 1:
        raise AuditError(
            f"the config.json of {name!r} has {field} {text[field]}, but its weights hold {max(places) + 1} layers; "
            "copy the whole folder again."
        )
    with foreign_files("config", name, "it must describe a causal language model that transformers knows"):
        parsed = _configs.from_pretrained(folder, trust_remote_code=False)
        with torch.device("meta"):  # shapes only
            network = _models.from_config(parsed, trust_remote_code=False)
    needed = sum(parameter.numel() for parameter in network.parameters())
    held = sum(torch.Size(tensor.shape).numel() for tensor in stored)
    described = {place: tuple(tensor.shape) for place, tensor in network.state_dict().items()} if shapes else {}
    for tensor in stored:
        wanted = described.get(tensor.name, tensor.shape)
        if wanted != tensor.shape:
            raise AuditError(
                f"{tensor.name} of {name!r} has the shape {tensor.shape}, but its config.json describes {wanted}; copy "
                "the whole folder again."
            )
    if needed > LARGER * held + 1e6:
        raise AuditError(
            f"the config.json of {name!r} describes a network of {needed:,} weights, but its files hold {held:,}; copy "
            "the whole folder again."
        )
