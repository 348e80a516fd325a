"""The header of a GGUF file, the format of llama.cpp.

    header = check_gguf(Path("SmolLM2-135M-Instruct.Q4_1.gguf"))
    header.quantized_as  # "Q4_1"

GGUF files may come from untrusted sources. `check_gguf` reads the header before any library does: no count, length or
offset in it may point outside the file. The format is described in ggml's docs/gguf.md.
"""

import math
import os
import re
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, BinaryIO

from audit.errors import AuditError

_MAGIC, _VERSIONS = b"GGUF", (2, 3)
_FETCH_AGAIN = "fetch it again"
_ALIGNMENT = "general.alignment"
_SHARDS = "split.count"
_LONGEST_NAME, _MOST_DIMENSIONS, _DEEPEST = 1 << 16, 4, 4
_STRING, _ARRAY = 8, 9
# The value types of the metadata, by number, as struct formats.
_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}


@dataclass(frozen=True)
class GgufHeader:
    """The header of a GGUF file: metadata by key (None for arrays), and the shape and type of each tensor by name.

    Shapes are in the order of the file, the opposite of torch: the contiguous dimension is the first. Types have the
    names of ggml: `F32`, `BF16`, `Q4_K`, ...
    """

    metadata: dict[str, Any]
    shapes: dict[str, tuple[int, ...]]
    types: dict[str, str]

    @property
    def architecture(self) -> str:
        """The name of the architecture, such as `llama` or `gemma3`; `unknown` if there is none."""
        name = self.metadata.get("general.architecture")
        return name if isinstance(name, str) else "unknown"

    @property
    def quantized_as(self) -> str:
        """The types of its quantized tensors, such as `Q4_K, Q6_K`; empty if no tensor is quantized."""
        return ", ".join(sorted({kind for kind in self.types.values() if not re.fullmatch(r"B?F\d+|I\d+", kind)}))


def check_gguf(file: Path) -> GgufHeader:
    """Read the header of a GGUF file, and check that everything it describes is within the file.

    Raises:
        AuditError: it is not a GGUF file of version 2 or 3, it is one part of a split file, a count, length, type or
            offset in it is impossible, it cannot be read, or the `gguf` package is missing.
    """
    if find_spec("gguf") is None:
        raise AuditError(
            f"{str(file)!r} is a GGUF file; to read it, install the extra: pip install 'model-edit-audit[gguf]'."
        )
    from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType

    with readable(file), file.open("rb") as opened:
        size = os.fstat(opened.fileno()).st_size
        reader = _Reader(opened, size)
        if reader.take(4) != _MAGIC:
            raise _BrokenFileError("it does not begin with GGUF", "name a GGUF file, or fetch it again")
        version = reader.number("I")
        if version not in _VERSIONS:
            raise _BrokenFileError(
                f"its version is {version}, and only versions 2 and 3 can be read",
                "convert the original model again with a current llama.cpp",
            )
        tensors, pairs = reader.count("tensors", least=24), reader.count("metadata pairs", least=13)
        metadata = {}
        for _ in range(pairs):
            key = reader.text(_LONGEST_NAME)
            metadata[key] = reader.value(reader.number("I"))
        parts = _whole_number(metadata, _SHARDS, 1)
        if parts > 1:
            raise _BrokenFileError(f"it is one of {parts} parts", "join them with `llama-gguf-split --merge`")
        shapes: dict[str, tuple[int, ...]] = {}
        types: dict[str, str] = {}
        ends: dict[str, int] = {}
        for _ in range(tensors):
            name, dimensions = reader.text(_LONGEST_NAME), reader.number("I")
            if dimensions > _MOST_DIMENSIONS:
                raise _BrokenFileError(f"its tensor {name!r} has {dimensions} dimensions")
            shape = tuple(reader.number("Q") for _ in range(dimensions))
            kind, offset = reader.number("I"), reader.number("Q")
            if kind not in set(GGMLQuantizationType):
                raise _BrokenFileError(
                    f"its tensor {name!r} has the unknown type {kind}",
                    "install a newer gguf package, or fetch it again",
                )
            block, width = GGML_QUANT_SIZES[GGMLQuantizationType(kind)]
            if not shape or 0 in shape or shape[0] % block or name in shapes:
                raise _BrokenFileError(f"its tensor {name!r} of shape {list(shape)} is impossible, or there twice")
            shapes[name], ends[name] = shape, offset + math.prod(shape) // block * width
            types[name] = GGMLQuantizationType(kind).name
        alignment = _whole_number(metadata, _ALIGNMENT, 32)
        if alignment < 1 or alignment > 1 << 20:
            raise _BrokenFileError(f"its alignment is {alignment}")
        start = -(-opened.tell() // alignment) * alignment
        for name, end in ends.items():
            if start + end > size:
                raise _BrokenFileError(
                    f"its tensor {name!r} ends at byte {start + end} of {size}; the download may be cut off"
                )
    return GgufHeader(metadata, shapes, types)


class _BrokenFileError(Exception):
    """The reason why a file is not a valid GGUF file, worded as a part of a sentence, and the remedy."""

    def __init__(self, reason: str, remedy: str = _FETCH_AGAIN) -> None:
        super().__init__(reason)
        self.remedy = remedy


@contextmanager
def readable(file: Path) -> Iterator[None]:
    """Turn `_BrokenFileError` and `OSError` into an `AuditError` about the file."""
    try:
        yield
    except _BrokenFileError as error:
        raise AuditError(f"the file {str(file)!r} is not a readable GGUF file: {error}; {error.remedy}.") from None
    except OSError as error:
        raise AuditError(
            f"the GGUF file {str(file)!r} cannot be read ({error.strerror or error}); check its permissions."
        ) from None


def _whole_number(metadata: dict[str, Any], key: str, default: int) -> int:
    value = metadata.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int):
        found = "an array" if value is None else repr(value) if len(repr(value)) < 60 else f"{repr(value)[:57]}..."
        raise _BrokenFileError(f"its {key} is {found}, not a whole number")
    return value


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
