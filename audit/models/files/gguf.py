"""Models in GGUF files, the format of llama.cpp: checked, then converted once to a folder of safetensors.

    folder = converted_gguf(Path("SmolLM2-135M-Instruct.Q4_1.gguf"), store)
    lm = load_language_model(str(folder))

After `check_gguf` has read the header, transformers and the `gguf` package convert the file: weights become float32,
and tokenizer and chat template come from the same file.
"""

import atexit
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock

from audit.errors import AuditError, first_line
from audit.models.files.gguf_header import GgufHeader, check_gguf, readable
from audit.store.content import Store, flush_to_disk, usable
from audit.store.files import mark_used
from audit.store.places import MODELS

SUFFIX = ".gguf"
CONVERSION_FILE = "converted.json"  # the name and size of every other file
CONVERSION_VERSION = 1  # part of the key of a conversion; to be raised when the converted weights change
_PREFIX, _DRAFT, _LOCK = "gguf-", ".tmp", ".lock"  # names in the store: of a conversion, and what is written for it


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


def is_path(name: str) -> bool:
    """Whether a model name that does not exist here can only be a path: it is no hub id, or ends like a GGUF file."""
    path = Path(name).expanduser()
    return path.is_absolute() or name.startswith((".", "~")) or name.count("/") > 1 or path.suffix == SUFFIX


def converted_gguf(file: Path, store: Store | None) -> Path:
    """The folder with the converted model (float32), tokenizer and chat template of a GGUF file.

    The folder is in `store` under the fingerprint of the file, so a file is converted once. Without a store the file is
    converted by each call, into a temporary folder that is deleted when the process ends.

    Raises:
        AuditError: the file is broken, cannot be read or is of an unsupported architecture, the `gguf` package is
            missing, or the store or the temporary folder cannot be used.
    """
    if store is None:
        with _usable_temporary_folder(file):
            root = Path(tempfile.mkdtemp(prefix="audit-gguf-"))
            atexit.register(shutil.rmtree, root, ignore_errors=True)
            convert_gguf(file, root / "model")
        return root / "model"
    key = f"{_PREFIX}{CONVERSION_VERSION}-{_fingerprint(file)}"
    folder = store.root / MODELS / key
    with usable(store.root):
        folder.parent.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(folder.parent)
        with FileLock(folder.parent / (key + _LOCK)):
            if not complete_conversion(folder):
                convert_gguf(file, folder)
            mark_used(folder / CONVERSION_FILE)
    return folder


@contextmanager
def _usable_temporary_folder(file: Path) -> Iterator[None]:
    """Inside the context, an `OSError` becomes an `AuditError` about the folder for temporary files."""
    try:
        yield
    except OSError as error:
        raise AuditError(
            f"the GGUF file {str(file)!r} cannot be converted in the folder for temporary files "
            f"({error.strerror or error}); free some space there or set TMPDIR to a folder that is writable."
        ) from error


def convert_gguf(file: Path, folder: Path) -> None:
    """Write the converted model, tokenizer and chat template of a GGUF file to `folder`, which is replaced in one step.

    Raises:
        AuditError: the file is broken or of an unsupported architecture, or the `gguf` package is missing.
        OSError: the folder cannot be written.
    """
    header = check_gguf(file)
    aside = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f"{folder.name}.", suffix=_DRAFT))
    try:
        _write_converted(file, header, aside)
        (aside / CONVERSION_FILE).write_text(json.dumps(_sizes(aside)), encoding="utf-8")
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
        number = _system_error(error)
        if number is not None:
            raise OSError(number, os.strerror(number)) from error
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


def _system_error(error: Exception) -> int | None:
    """The errno of an error of the operating system, such as a full disk; None for every other error.

    safetensors and tokenizers report it as the end of a text: "No space left on device (os error 28)". transformers
    raises `OSError` without an errno for faults of the model.
    """
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno
    found = re.search(r"\(os error (\d+)\)", str(error))
    return int(found[1]) if found else None


def _sizes(folder: Path) -> dict[str, int]:
    return {file.name: file.stat().st_size for file in sorted(folder.iterdir())}


def complete_conversion(folder: Path) -> bool:
    """Whether every file of a conversion has the size with which it was written."""
    try:
        noted = json.loads((folder / CONVERSION_FILE).read_text(encoding="utf-8"))
        return bool({name: size for name, size in _sizes(folder).items() if name != CONVERSION_FILE} == noted)
    except (OSError, ValueError):
        return False


def _fingerprint(file: Path) -> str:
    """sha256 of a file."""
    with readable(file), file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _remove_abandoned(models: Path) -> None:
    """Delete what killed runs had begun to convert; a run that is still converting holds the lock."""
    for draft in models.glob(f"{_PREFIX}*{_DRAFT}"):
        lock = models / (draft.name.partition(".")[0] + _LOCK)
        with suppress(OSError), FileLock(lock, timeout=0):  # OSError: another run holds the lock
            shutil.rmtree(draft, ignore_errors=True)
