"""Checks of the files of a model folder before transformers reads them: the folder may come from an untrusted source.

    check_model_folder(folder, "./my-model")
    with foreign_files("tokenizer", "./my-model", "copy it again"):
        ...  # whatever a library raises here becomes one sentence

Each error names the file, the field and its value. No weight is allocated before the sizes in the config have been
compared with the stored tensors.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from audit.errors import AuditError, first_line
from audit.models.files.stored_weights import INDEX_FILE, WEIGHTS_FILE, StoredTensor, headers, weight_files
from audit.store.files import read_json

CONFIG_FILE, ADAPTER_CONFIG, ADAPTER_WEIGHTS = "config.json", "adapter_config.json", "adapter_model.safetensors"
GENERATION_FILE = "generation_config.json"
MOST_LAYERS = 10_000
LARGER = 2.0  # upper limit of a network's weights, as a multiple of the stored ones (tied weights, tables)

_LAYERS = ("num_hidden_layers", "n_layer", "num_layers")
_SIZES = (
    *_LAYERS, "vocab_size", "hidden_size", "n_embd", "d_model", "num_attention_heads", "n_head", "num_heads",
    "num_key_value_heads", "intermediate_size", "n_inner", "max_position_embeddings", "n_positions", "head_dim",
)  # fmt: skip
_TOKEN_IDS = ("bos_token_id", "eos_token_id", "pad_token_id")
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
    config = json_object(folder / CONFIG_FILE, name)
    for part in (config, config.get("text_config")):
        if isinstance(part, Mapping):
            _check_config(part, name)
    _check_ids(json_object(folder / GENERATION_FILE, name, missing={}), GENERATION_FILE, name)
    _require_one_kind(folder, name)
    if not weights:
        _refuse_quantized(config, None, name)
        return
    stored = headers(weight_files(folder, name), name)
    _refuse_quantized(config, stored, name)
    _check_sizes(config, stored, folder, name, shapes)


def json_object(file: Path, name: str, missing: Mapping[str, Any] | None = None) -> Mapping[str, Any]:
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


def wrong_value(file: str, name: str, field: str, value: Any, wanted: str) -> AuditError:
    """The error for a field of `file` whose value is not what is `wanted`."""
    shown = repr(value) if len(repr(value)) < 60 else f"{repr(value)[:57]}..."
    return AuditError(f"the {file} of {name!r} has {field} {shown}; it must be {wanted}.")


def is_whole(value: Any, least: int) -> bool:
    """Whether the value is a whole number of at least `least`; true and false are none."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _check_config(config: Mapping[str, Any], name: str) -> None:
    for field in _SIZES:
        value = config.get(field)
        several = value if isinstance(value, list) else [value]
        if value is not None and not all(is_whole(one, 1) for one in several):
            raise wrong_value(CONFIG_FILE, name, field, value, "a whole number of at least 1")
        if any(is_whole(one, 2**63) for one in several):
            raise wrong_value(CONFIG_FILE, name, field, value, "below 2^63")
    for field in _LAYERS:
        if is_whole(config.get(field), MOST_LAYERS):
            raise wrong_value(CONFIG_FILE, name, field, config[field], f"below {MOST_LAYERS}")
    kind, quantization = config.get("model_type"), config.get("quantization_config")
    if kind is not None and not isinstance(kind, str):
        raise wrong_value(CONFIG_FILE, name, "model_type", kind, "the name of an architecture")
    if quantization is not None and not isinstance(quantization, Mapping):
        raise wrong_value(CONFIG_FILE, name, "quantization_config", quantization, "an object, or absent")
    for field in ("dtype", "torch_dtype"):
        value = config.get(field)
        if isinstance(value, str) and isinstance(getattr(torch, value.removeprefix("torch."), None), torch.dtype):
            continue
        if value is not None and not isinstance(value, Mapping) and value != "auto":
            raise wrong_value(CONFIG_FILE, name, field, value, "a dtype of torch, such as float32")
    labels = config.get("id2label")
    if labels is not None and not (isinstance(labels, Mapping) and all(map(_is_number, labels))):
        raise wrong_value(CONFIG_FILE, name, "id2label", labels, "an object whose keys are numbers, or absent")
    check_auto_map(config, CONFIG_FILE, name)
    _check_ids(config, CONFIG_FILE, name)
    rows, pad = config.get("vocab_size"), config.get("pad_token_id")
    if isinstance(rows, int) and is_whole(pad, rows):
        raise wrong_value(CONFIG_FILE, name, "pad_token_id", pad, f"below its vocab_size, {rows}")


def _check_ids(content: Mapping[str, Any], file: str, name: str) -> None:
    for field in _TOKEN_IDS:
        value = content.get(field)
        several = value if isinstance(value, list) and field == "eos_token_id" else [value]
        if value is not None and not all(is_whole(one, -1) for one in several):
            raise wrong_value(file, name, field, value, "a token id, or for eos_token_id a list of them")


def _is_number(key: str) -> bool:
    return key.strip().lstrip("+-").isdecimal()


def check_auto_map(content: Mapping[str, Any], file: str, name: str) -> None:
    """Raise `AuditError` if the field `auto_map` of a config is no object with names."""
    value = content.get("auto_map")
    names = value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else [value]
    # A list is the old form for tokenizers. The code that it names is never run.
    if value is not None and not all(one is None or isinstance(one, str | list) for one in names):
        raise wrong_value(file, name, "auto_map", value, "an object whose values are names, or absent")


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
    inner = config.get("text_config")
    text = inner if isinstance(inner, Mapping) else config
    places = [int(number) for tensor in stored for number in re.findall(r"\.(\d{1,6})\.", tensor.name)]
    field = next((field for field in _LAYERS if is_whole(text.get(field), 1)), None)
    if field and places and text[field] > max(places) + 1:
        raise AuditError(
            f"the config.json of {name!r} has {field} {text[field]}, but its weights hold {max(places) + 1} layers; "
            "copy the whole folder again."
        )
    network = _network(text, folder, name)
    if field:
        _refuse_further_blocks(text, field, stored, network, name)
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


def _network(text: Mapping[str, Any], folder: Path, name: str) -> Any:
    """The network that config.json describes, on the meta device: shapes only. `text` is the part for the text."""
    with foreign_files(CONFIG_FILE, name, "it must describe a causal language model that transformers knows"):
        parsed = _configs.from_pretrained(folder, trust_remote_code=False)
        try:
            with torch.device("meta"):
                return _models.from_config(parsed, trust_remote_code=False)
        except KeyError as error:  # a name that is looked up in a table, such as an activation function
            field = next((field for field, value in text.items() if error.args == (value,)), None)
            if field is None:
                raise
            raise wrong_value(CONFIG_FILE, name, field, text[field], "a name that transformers knows") from error


def _refuse_further_blocks(
    text: Mapping[str, Any], field: str, stored: Sequence[StoredTensor], network: Any, name: str
) -> None:
    """Raise `AuditError` for stored blocks after the last one of the network; transformers would leave them out."""
    blocks = {path for path, number in _numbered(network.state_dict()) if number == text[field] - 1}
    ignored = network._keys_to_ignore_on_load_unexpected or ()
    names = [one.name for one in stored if not any(re.search(pattern, one.name) for pattern in ignored)]
    # A file may have been saved without the outer modules of the network, or with further ones around them.
    held = {number for path, number in _numbered(names) if any(_ends_alike(path, block) for block in blocks)}
    further = text.get("num_nextn_predict_layers")  # blocks that predict more than the next token; not loaded
    more = len(held) > text[field] + (further if is_whole(further, 0) else 0)
    if more and held == set(range(len(held))):  # not a single tensor with a wrong number
        raise AuditError(
            f"the config.json of {name!r} has {field} {text[field]}, but its weights hold {len(held)} layers; copy the "
            "whole folder again."
        )


def _numbered(names: Iterable[str]) -> Iterator[tuple[str, int]]:
    """For each name with a number between dots, the path before its first number, and that number."""
    for found in map(re.compile(r"(.+?)\.(\d{1,6})\.").match, names):
        if found is not None:
            yield found[1], int(found[2])


def _ends_alike(one: str, other: str) -> bool:
    return f".{one}".endswith(f".{other}") or f".{other}".endswith(f".{one}")
