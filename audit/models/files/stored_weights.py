"""Compare weights in safetensors files with a loaded model, with one tensor in memory at a time.

    files = weight_files(folder, name)
    changed = replacements(lm, files, name)  # tensors that differ from the model, by the model's parameter names

All headers (names, shapes, dtypes) are checked before the first value is read.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from audit.errors import AuditError
from audit.models.deltas import DenseDelta, Replacement
from audit.models.language_model import LanguageModel
from audit.store.files import read_json

WEIGHTS_FILE, INDEX_FILE = "model.safetensors", "model.safetensors.index.json"
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
FLOATS = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
# Constant tables that older checkpoints store and current models compute.
TABLES = (r"(^|\.)rotary_emb\.inv_freq$", r"(^|\.)attn\.masked_bias$", r"(^|\.)position_ids$")
_BITS = {8: torch.int64, 4: torch.int32, 2: torch.int16}


@dataclass(frozen=True)
class StoredTensor:
    """A tensor in a file; `dtype` is the safetensors name of its dtype (F32, BF16, ...)."""

    name: str
    file: Path
    shape: tuple[int, ...]
    dtype: str


class ModelTensors:
    """The tensors of a model, found under every name that a file may use for them.

    A file may leave out the prefix of the trunk, and transformers may save a tensor under an older name (GPT-NeoX's
    head). `by_token` are the names of the tensors with one row per token (embedding and head), `head` is the first name
    of the head's weight (the embedding's if they are tied).
    """

    def __init__(self, lm: LanguageModel) -> None:
        self._tensors: dict[str, Tensor] = lm.model.state_dict(keep_vars=True)
        self._prefix = f"{lm.model.base_model_prefix}."
        self._renamings, self._converters = _conversions(lm.model)
        self._first: dict[int, str] = {}
        self._count: dict[int, int] = {}
        model: Any = lm.model
        tables = (model.get_input_embeddings(), model.get_output_embeddings())
        weights = [id(table.weight) for table in tables if table is not None]
        self.by_token = frozenset(name for name, tensor in self._tensors.items() if id(tensor) in weights)
        self.head = next((name for name, tensor in self._tensors.items() if id(tensor) == weights[-1]), None)
        for name, tensor in self._tensors.items():
            self._first.setdefault(id(tensor), name)
            self._count[id(tensor)] = self._count.get(id(tensor), 0) + 1

    def names(self) -> tuple[str, ...]:
        """Every distinct tensor once; tied ones under their first name."""
        return tuple(self._first.values())

    def find(self, name: str) -> str | None:
        """The model's first name of the tensor that a file calls `name`; None if the model has no such tensor."""
        renamed = name
        for renaming in self._renamings:
            renamed = renaming.rename_source_key(renamed)[0]
        for known in (name, renamed):
            for candidate in (known, self._prefix + known, known.removeprefix(self._prefix)):
                if candidate in self._tensors:
                    return self._first[id(self._tensors[candidate])]
        return None

    def converted(self, name: str) -> bool:
        """Whether transformers converts the tensor stored as `name` to another form while loading."""
        return any(converter.rename_source_key(name)[1] is not None for converter in self._converters)

    def at(self, name: str) -> Tensor:
        """The model's own tensor with this name, detached but not copied."""
        return self._tensors[name].detach()

    def tied(self, name: str) -> bool:
        """Whether the model uses the tensor in several places."""
        return self._count[id(self._tensors[name])] > 1

    def fits(self, name: str, shape: tuple[int, ...]) -> bool:
        """Whether a stored tensor of this shape fits; embedding and head may have more rows, for added tokens."""
        ours = tuple(self.at(name).shape)
        return shape == ours or (name in self.by_token and shape[1:] == ours[1:] and shape[0] > ours[0])

    def writable(self, name: str) -> bool:
        """Whether the tensor is a parameter; patches do not write buffers."""
        return isinstance(self._tensors[name], nn.Parameter)


def weight_files(folder: Path, name: str) -> tuple[Path, ...]:
    """The safetensors files of a checkpoint folder: one file, or the shards named in its index.

    Raises:
        AuditError: there are no such files, only pickles, a shard is missing, or the index cannot be read.
    """
    if (folder / WEIGHTS_FILE).is_file():
        return (folder / WEIGHTS_FILE,)
    if (folder / INDEX_FILE).is_file():
        shards = tuple(folder / shard for shard in sorted(set(_weight_map(folder / INDEX_FILE).values())))
        for shard in shards:
            if not shard.is_file():
                raise AuditError(f"the checkpoint {name!r} has no {shard.name}; copy the whole folder again.")
        return shards
    others = sorted(file.name for file in folder.glob("*.safetensors"))
    if re.fullmatch(r"model-\d+-of-\d+\.safetensors", others[0] if others else ""):
        raise AuditError(
            f"the folder {name!r} has {len(others)} shards, such as {others[0]}, but no {INDEX_FILE}; copy that "
            "file too."
        )
    if others:
        raise AuditError(
            f"the folder {name!r} has no {WEIGHTS_FILE}, but {others[0]}; if these are the weights, rename the file, "
            "or save the model again with save_pretrained."
        )
    refuse_pickles(sorted(file for pattern in PICKLES for file in folder.glob(pattern)), name)
    raise AuditError(f"the folder {name!r} has no {WEIGHTS_FILE}; save the model again with save_pretrained.")


def refuse_pickles(files: Sequence[Path], name: str) -> None:
    """Raise `AuditError` if there are any pickle files in `files`."""
    if files:
        raise AuditError(
            f"the weights of {name!r} are stored as a pickle ({files[0].name}), which can run code; save them as "
            "safetensors, for example with save_pretrained."
        )


def headers(files: Sequence[Path], name: str) -> tuple[StoredTensor, ...]:
    """The names, shapes and dtypes of the tensors in the files, read without their values.

    Raises:
        AuditError: a file cannot be read, or a tensor is stored twice.
    """
    found: dict[str, StoredTensor] = {}
    for file in files:
        with opened(file) as content:
            for key in content.keys():  # noqa: SIM118 - not a mapping
                view = content.get_slice(key)
                tensor = StoredTensor(key, file, tuple(view.get_shape()), view.get_dtype())
                if key in found:
                    raise AuditError(
                        f"{name!r} stores {key} twice, in {found[key].file.name} and {file.name}; save it again."
                    )
                found[key] = tensor
    return tuple(found.values())


def coarsest(kinds: Iterable[str]) -> torch.dtype | None:
    """The coarsest floating-point dtype among names such as F32 and BF16; other names are ignored, None if all are."""
    dtypes = {FLOATS[kind] for kind in kinds if kind in FLOATS}
    return max(dtypes, key=lambda dtype: torch.finfo(dtype).eps, default=None)


def replacements(lm: LanguageModel, files: Sequence[Path], name: str, *, tied: bool = False) -> dict[str, Replacement]:
    """The tensors of a whole checkpoint whose bits differ from `lm`, in the dtype of `lm`.

    Rows of tokens that `lm` does not have are left out. `tied`: the checkpoint's head is its embedding, stored once.

    Raises:
        AuditError: tensors are missing, unknown, of another shape or not floating point, a buffer differs, or tied
            weights are stored with different values.
    """
    places = ModelTensors(lm)
    stored = _matched(places, _without_tables(lm, places, headers(files, name)), name)
    absent = sorted(set(places.names()) - {place for place, _ in stored})
    embedding = next((tensor for place, tensor in stored if place in places.by_token), None)
    if tied and embedding is not None and absent == [places.head]:
        stored, absent = [*stored, (absent[0], embedding)], []
    if absent:
        raise AuditError(
            f"the checkpoint {name!r} is missing {len(absent)} tensors of the base model, the first is {absent[0]!r}; "
            "save or copy the whole checkpoint again."
        )
    changed: dict[str, Replacement] = {}
    seen: dict[str, str] = {}
    for tensor, place, values in _read(stored):
        base = places.at(place)
        content = values[: len(base)].to(base.dtype) if values.ndim else values.to(base.dtype)
        now = changed[place].content if place in changed else base.cpu()
        same = same_bits(content, now)
        if place in seen and not same:
            raise AuditError(
                f"the checkpoint {name!r} stores different values for {seen[place]} and {tensor.name}, which are tied "
                "in the base model; untie them in the base model (tie_word_embeddings), or tie them in the "
                "checkpoint."
            )
        seen[place] = tensor.name
        if not same:
            if not places.writable(place):
                raise AuditError(
                    f"the checkpoint {name!r} changes the buffer {place}, but only weights can be patched; save the "
                    "checkpoint with the buffer of the base model."
                )
            changed[place] = Replacement(copied(content))
    return {place: changed[place] for place in places.names() if place in changed}


def differences(lm: LanguageModel, file: Path, name: str) -> dict[str, DenseDelta]:
    """The tensors of one file as deltas for the weights they are named after; all-zero tensors are left out.

    Raises:
        AuditError: the model has no such weight, its shape differs, it is not floating point, or two tensors change
            the same weight.
    """
    places = ModelTensors(lm)
    deltas: dict[str, DenseDelta] = {}
    seen: dict[str, str] = {}
    for tensor, place, values in _read(_matched(places, headers((file,), name), name)):
        if place in seen:
            raise AuditError(
                f"{name!r} changes {place} twice, as {seen[place]} and as {tensor.name}, which are tied in the base "
                "model; leave one of them out."
            )
        if not places.writable(place):
            raise AuditError(f"{name!r} changes the buffer {place}, but only weights can be patched; leave it out.")
        seen[place] = tensor.name
        if bool(values.any()):  # NaN counts as a change
            deltas[place] = DenseDelta(copied(values))
    return deltas


def same_bits(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors of the same dtype and shape are equal bit for bit: NaN equals itself, and 0 is not −0."""
    bits = _BITS[one.element_size()]
    return torch.equal(one.contiguous().view(bits), other.contiguous().view(bits))


def copied(content: Tensor) -> Tensor:
    """A copy in memory: safetensors maps the file, which may be overwritten later."""
    return content.clone()


@contextmanager
def opened(file: Path) -> Iterator[Any]:
    """Open a safetensors file without reading its values; raises `AuditError` if it is not one."""
    try:
        with safe_open(file, framework="pt") as content:
            yield content
    except (SafetensorError, OSError) as error:
        raise AuditError(f"{file} cannot be read as safetensors ({error}); save or copy it again.") from error


def _matched(places: ModelTensors, stored: Sequence[StoredTensor], name: str) -> list[tuple[str, StoredTensor]]:
    """Each stored tensor with its name in the model, after checking dtype and shape."""
    converted = [tensor.name for tensor in stored if places.converted(tensor.name)]
    if converted:
        raise AuditError(
            f"{name!r} stores {converted[0]} in a form that transformers converts while loading, which is not "
            "supported; save the change as a patch or as weight differences."
        )
    found = [(places.find(tensor.name), tensor) for tensor in stored]
    unknown = sorted(tensor.name for place, tensor in found if place is None)
    if unknown:
        raise AuditError(
            f"{name!r} has {len(unknown)} tensors that the base model does not have, the first is {unknown[0]!r}; "
            "give the model that was edited as the base model."
        )
    matched = [(place, tensor) for place, tensor in found if place is not None]
    for place, tensor in matched:
        if tensor.dtype not in FLOATS:
            raise AuditError(
                f"{name!r} stores {tensor.name} as {tensor.dtype}; save it without quantization, in "
                f"{', '.join(str(dtype).removeprefix('torch.') for dtype in FLOATS.values())}."
            )
        if not places.fits(place, tensor.shape):
            raise AuditError(
                f"{name!r} stores {tensor.name} with shape {tensor.shape}, but the base model has "
                f"{tuple(places.at(place).shape)}; give the model that was edited as the base model."
            )
    return matched


def _read(stored: Sequence[tuple[str, StoredTensor]]) -> Iterator[tuple[StoredTensor, str, Tensor]]:
    """Each stored tensor with its name in the model and its values, one at a time, file by file."""
    for file, group in groupby(sorted(stored, key=lambda pair: str(pair[1].file)), key=lambda pair: pair[1].file):
        with opened(file) as content:
            for place, tensor in group:
                yield tensor, place, content.get_tensor(tensor.name)


def _without_tables(lm: LanguageModel, places: ModelTensors, stored: Sequence[StoredTensor]) -> list[StoredTensor]:
    """The stored tensors without the constant tables that transformers also ignores."""
    ignored = [*(lm.model._keys_to_ignore_on_load_unexpected or ()), *TABLES]
    tables = re.compile("|".join(f"(?:{pattern})" for pattern in ignored))
    return [tensor for tensor in stored if places.find(tensor.name) is not None or not tables.search(tensor.name)]


def _conversions(model: Any) -> tuple[list[Any], list[Any]]:
    """The changes that transformers makes to a file's tensors while loading: renamings, and conversions of content."""
    try:
        from transformers.conversion_mapping import get_model_conversion_mapping
        from transformers.core_model_loading import WeightRenaming
    except ImportError:  # transformers before version 5 has no such table
        return [], []
    table = get_model_conversion_mapping(model)
    renamings = [one for one in table if isinstance(one, WeightRenaming)]
    return renamings, [one for one in table if not isinstance(one, WeightRenaming)]


def _weight_map(index: Path) -> Mapping[str, str]:
    try:
        content = read_json(index)
        return {str(tensor): str(file) for tensor, file in content["weight_map"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise AuditError(f"{index} cannot be read ({error}); copy the whole checkpoint again.") from error
