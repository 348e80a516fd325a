"""Models in GGUF files, the format of llama.cpp: checked, then converted once to a folder of safetensors.

    folder = converted_gguf(Path("SmolLM2-135M-Instruct.Q4_1.gguf"), store)
    lm = load_language_model(str(folder))

GGUF files may come from untrusted sources. `check_gguf` reads the header before any library does: no count, length or
offset in it may point outside the file. The format is described in ggml's docs/gguf.md. transformers and the `gguf`
package then convert it: weights become float32, and tokenizer and chat template come from the same file.
"""

import hashlib
import json
import math
import os
import shutil
import struct
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, BinaryIO

from filelock import FileLock

from audit.errors import AuditError, first_line
from audit.store.content import Store, flush_to_disk, usable

SUFFIX = ".gguf"
CONVERSION_VERSION = 1  # part of the key of a conversion; to be raised when the converted weights change
_MAGIC, _VERSIONS = b"GGUF", (2, 3)
_ALIGNMENT = "general.alignment"
_SHARDS = "split.count"
_LONGEST_NAME, _MOST_DIMENSIONS, _DEEPEST = 1 << 16, 4, 4
_STRING, _ARRAY = 8, 9
# The value types of the metadata, by number, as struct formats.
_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}


@dataclass(frozen=True)
class GgufHeader:
    """The header of a GGUF file: metadata by key (None for arrays) and the shape of each tensor by name.

    Shapes are in the order of the file, the opposite of torch: the contiguous dimension is the first.
    """

    metadata: dict[str, Any]
    shapes: dict[str, tuple[int, ...]]

    @property
    def architecture(self) -> str:
        """The name of the architecture, such as `llama` or `gemma3`; `unknown` if there is none."""
        return str(self.metadata.get("general.architecture", "unknown"))


def gguf_file(name: str | Path) -> Path | None:
    """The GGUF file at `name`: the file itself, or the only one in a folder without a config.json; None if none exists.

    Raises:
        AuditError: the folder holds several GGUF files.
    """
    path = Path(name).expanduser()
    if path.suffix == SUFFIX:
        return path if path.is_file() else None
    if not path.is_dir() or (path / "config.json").is_file():
        return None
    found = sorted(file for file in path.glob(f"*{SUFFIX}") if file.is_file())
    if len(found) > 1:
        raise AuditError(
            f"the folder {str(name)!r} has {len(found)} GGUF files ({', '.join(file.name for file in found[:3])}); "
            "name one of them."
        )
    return found[0] if found else None


def converted_gguf(file: Path, store: Store | None) -> Path:
    """The folder with the converted model (float32), tokenizer and chat template of a GGUF file.

    The folder is in `store` under the fingerprint of the file, so a file is converted once. Without a store it is in a
    temporary folder, which is deleted when the process ends.

    Raises:
        AuditError: the file is broken or of an unsupported architecture, the `gguf` package is missing, or the store
            cannot be used.
    """
    key = f"gguf-{CONVERSION_VERSION}-{_fingerprint(str(file.resolve()), file.stat().st_mtime_ns, file.stat().st_size)}"
    if store is None:
        folder = _temporary_root() / key
        if not folder.exists():
            convert_gguf(file, folder)
        return folder
    folder = store.root / "models" / key
    with usable(store.root):
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.with_suffix(".lock")):
            if not _complete(folder):
                convert_gguf(file, folder)
    return folder


def check_gguf(file: Path) -> GgufHeader:
    """Read the header of a GGUF file, and check that everything it describes is within the file.

    Raises:
        AuditError: it is not a GGUF file of version 2 or 3, it is one part of a split file, or a count, length, type
            or offset in it is impossible.
    """
    from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType

    with _sentences(file), file.open("rb") as opened:
        size = os.fstat(opened.fileno()).st_size
        reader = _Reader(opened, size)
        if reader.take(4) != _MAGIC:
            raise _BrokenFileError("it does not begin with GGUF")
        version = reader.number("I")
        if version not in _VERSIONS:
            raise _BrokenFileError(f"its version is {version}; versions 2 and 3 can be read")
        tensors, pairs = reader.count("tensors", least=24), reader.count("metadata pairs", least=13)
        metadata = {}
        for _ in range(pairs):
            key = reader.text(_LONGEST_NAME)
            metadata[key] = reader.value(reader.number("I"))
        if metadata.get(_SHARDS, 1) > 1:
            raise _BrokenFileError(f"it is one of {metadata[_SHARDS]} parts; join them with `llama-gguf-split --merge`")
        shapes: dict[str, tuple[int, ...]] = {}
        ends: dict[str, int] = {}
        for _ in range(tensors):
            name, dimensions = reader.text(_LONGEST_NAME), reader.number("I")
            if dimensions > _MOST_DIMENSIONS:
                raise _BrokenFileError(f"its tensor {name!r} has {dimensions} dimensions")
            shape = tuple(reader.number("Q") for _ in range(dimensions))
            kind, offset = reader.number("I"), reader.number("Q")
            if kind not in set(GGMLQuantizationType):
                raise _BrokenFileError(f"its tensor {name!r} has the unknown type {kind}")
            block, width = GGML_QUANT_SIZES[GGMLQuantizationType(kind)]
            if not shape or 0 in shape or shape[0] % block or name in shapes:
                raise _BrokenFileError(f"its tensor {name!r} of shape {list(shape)} is impossible, or there twice")
            shapes[name], ends[name] = shape, offset + math.prod(shape) // block * width
        alignment = metadata.get(_ALIGNMENT, 32)
        if not isinstance(alignment, int) or alignment < 1 or alignment > 1 << 20:
            raise _BrokenFileError(f"its alignment is {alignment}")
        start = -(-opened.tell() // alignment) * alignment
        for name, end in ends.items():
            if start + end > size:
                raise _BrokenFileError(
                    f"its tensor {name!r} ends at byte {start + end} of {size}; the download may be cut off"
                )
    return GgufHeader(metadata, shapes)


class _BrokenFileError(Exception):
    """The reason why a file is not a valid GGUF file, worded as the end of a sentence."""


@contextmanager
def _sentences(file: Path) -> Iterator[None]:
    """Turn `_BrokenFileError` and `OSError` into an `AuditError` about the file."""
    try:
        yield
    except (_BrokenFileError, OSError) as error:
        raise AuditError(f"the file {str(file)!r} is not a readable GGUF file: {error}; fetch it again.") from None


class _Reader:
    """Reads little-endian values, never beyond the end of the file."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file, self._size = file, size

    @property
    def left(self) -> int:
        return self._size - self._file.tell()

    def take(self, count: int) -> bytes:
        if count > self.left:
            raise _BrokenFileError(f"it ends at byte {self._size}, in the middle of its header")
        return self._file.read(count)

    def number(self, kind: str) -> Any:
        layout = f"<{kind}"
        return struct.unpack(layout, self.take(struct.calcsize(layout)))[0]

    def count(self, what: str, least: int) -> int:
        """A count of `what`, of which each takes at least `least` bytes of the rest of the file."""
        found = int(self.number("Q"))
        if found * least > self.left:
            raise _BrokenFileError(f"it announces {found} {what}, but has only {self.left} more bytes")
        return found

    def text(self, longest: int | None = None) -> str:
        length = self.count("characters", least=1)
        if longest is not None and length > longest:
            raise _BrokenFileError(f"it has a name of {length} characters")
        try:
            return self.take(length).decode()
        except UnicodeDecodeError:
            raise _BrokenFileError("it has a text that is not UTF-8") from None

    def value(self, kind: int, depth: int = 0) -> Any:
        """A value of the metadata; an array is skipped, and None is returned for it."""
        if kind in _SCALARS:
            return self.number(_SCALARS[kind])
        if kind == _STRING:
            return self.text()
        if kind != _ARRAY or depth == _DEEPEST:
            raise _BrokenFileError(f"its metadata have a value of the unknown type {kind}")
        inner = self.number("I")
        if inner in _SCALARS:
            width = struct.calcsize(f"<{_SCALARS[inner]}")
            self._file.seek(self.count("values", least=width) * width, os.SEEK_CUR)
            return None
        for _ in range(self.count("values", least=8)):
            if inner == _STRING:
                self.take(self.count("characters", least=1))
            else:
                self.value(inner, depth + 1)
        return None


def convert_gguf(file: Path, folder: Path) -> None:
    """Write the converted model, tokenizer and chat template of a GGUF file to `folder`, which is replaced in one step.

    Raises:
        AuditError: the file is broken or of an unsupported architecture, or the `gguf` package is missing.
    """
    if find_spec("gguf") is None:
        raise AuditError(
            f"{str(file)!r} is a GGUF file; to read it, install the extra: pip install 'model-edit-audit[gguf]'."
        )
    header = check_gguf(file)
    aside = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f"{folder.name}.", suffix=".tmp"))
    try:
        _write_converted(file, header, aside)
        (aside / "converted.json").write_text(json.dumps(_sizes(aside)), encoding="utf-8")
        for written in aside.iterdir():
            flush_to_disk(written)
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(aside, folder)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _write_converted(file: Path, header: GgufHeader, folder: Path) -> None:
    """Convert with transformers; the written config does not mention the quantization, so it loads like any other."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    # transformers types these three loosely.
    models: Any = AutoModelForCausalLM
    tokenizers: Any = AutoTokenizer
    progress: Any = logging
    place = str(file.parent)
    shown = progress.is_progress_bar_enabled()
    progress.disable_progress_bar()
    try:
        tokenizer: Any = tokenizers.from_pretrained(place, gguf_file=file.name, trust_remote_code=False)
        read: Any = models.from_pretrained(
            place, gguf_file=file.name, dtype=torch.float32, trust_remote_code=False, output_loading_info=True
        )
        model, report = read
        config = model.config.to_dict()
        config.pop("quantization_config", None)
        clean: Any = models.from_config(type(model.config).from_dict(config), dtype=torch.float32)
        clean.load_state_dict(model.state_dict())
        clean.generation_config = model.generation_config
        clean.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    except Exception as error:
        raise AuditError(
            f"the GGUF file {str(file)!r} (architecture {header.architecture!r}) cannot be converted "
            f"({first_line(error)}); transformers must know its architecture and its tokenizer."
        ) from error
    finally:
        if shown:
            progress.enable_progress_bar()
    if report["missing_keys"]:
        missing = sorted(report["missing_keys"])
        raise AuditError(
            f"the GGUF file {str(file)!r} has no weights for {len(missing)} tensors of {header.architecture!r}, the "
            f"first is {missing[0]!r}; fetch a complete file."
        )


def _sizes(folder: Path) -> dict[str, int]:
    return {file.name: file.stat().st_size for file in sorted(folder.iterdir())}


def _complete(folder: Path) -> bool:
    """Whether every file of a conversion has the size with which it was written."""
    try:
        noted = json.loads((folder / "converted.json").read_text(encoding="utf-8"))
        return bool({name: size for name, size in _sizes(folder).items() if name != "converted.json"} == noted)
    except (OSError, ValueError):
        return False


@cache
def _fingerprint(path: str, changed: int, size: int) -> str:
    """sha256 of a file; computed again only if its size or modification time differs."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@cache
def _temporary_root() -> Path:
    import atexit

    root = Path(tempfile.mkdtemp(prefix="audit-gguf-"))
    atexit.register(shutil.rmtree, root, ignore_errors=True)
    return root
