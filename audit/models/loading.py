"""Load language models by name: a pocket model of this package, a local folder, a GGUF file, or a model on the hub.

    lm = load_language_model("pocket-gpt2")

Weights are read from safetensors or GGUF files; pickles, which can run code, must be allowed explicitly. The Python
code of a model is never run. A hub revision is pinned to the commit that was loaded.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import hf_hub_download
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging as transformers_logging

from audit.errors import AuditError, first_line
from audit.models.anatomy import find_anatomy
from audit.models.files.gguf import SUFFIX, converted_gguf, gguf_file, is_path
from audit.models.files.gguf_header import check_gguf
from audit.models.files.model_folder import check_model_folder, foreign_files
from audit.models.files.tokenizer_files import (
    check_tokenizer_config,
    check_tokenizer_files,
    foreign_tokenizer,
    refuse_empty,
)
from audit.models.language_model import LanguageModel
from audit.pocket import POCKET_PREFIX, POCKET_WEIGHTS
from audit.pocket import pocket_names as pocket_names
from audit.store.content import Store

SPREAD = "map"
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}

# transformers types these three loosely: the return type of from_pretrained depends on its arguments.
_models: Any = AutoModelForCausalLM
_tokenizers: Any = AutoTokenizer
_logging: Any = transformers_logging


def load_language_model(
    name: str,
    *,
    revision: str | None = None,
    device: str = "auto",
    dtype: str = "auto",
    allow_pickle_weights: bool = False,
    store: Store | None = None,
) -> LanguageModel:
    """Load a model in eval mode and without gradients, with its tokenizer and anatomy.

    Args:
        name: `pocket-gpt2` or `pocket-llama`, a folder, a GGUF file, or a hub id such as `openai-community/gpt2-xl`.
        revision: branch, tag or commit of a hub model; None means the default branch. The commit is recorded.
        device: `auto` (the first GPU if there is one, else the CPU), `map` (spread over all GPUs by accelerate's device
            map; the CPU without GPUs) or any device name of torch.
        dtype: `auto` (float32 for pocket models, else the dtype of the checkpoint), `float32`, `bfloat16` or `float16`.
        allow_pickle_weights: also accept weights in the pickle format, which can run code; trust the source first.
        store: keeps the conversion of a GGUF file; without one, each call converts it again.

    Raises:
        AuditError: the model does not exist, its files are missing, broken or quantized, its weights are incomplete or
            not safetensors, its architecture is not supported, or the device or dtype is not available.
    """
    target = None if device == SPREAD else _parse_device(device)
    precision = _parse_dtype(dtype)
    place = _locate(name, revision, store)
    if precision == "auto" and place.pocket:
        precision = torch.float32  # stored in half precision to save space only
    if place.folder is not None:
        if not place.pocket:
            pickled = allow_pickle_weights and not any(place.folder.glob("*.safetensors"))
            check_model_folder(place.folder, name, weights=not pickled)
        check_tokenizer_files(place.folder, name)

    tokenizer = _read_tokenizer(name, place)
    refuse_empty(tokenizer, name)
    model = _read_model(name, place, precision, allow_pickle_weights, spread=target is None)
    rows = model.get_input_embeddings().weight.shape[0]
    if len(tokenizer) > rows:
        raise AuditError(
            f"the tokenizer of {name!r} has {len(tokenizer)} tokens, but the model has embeddings for only {rows}; "
            "load the tokenizer that the model was trained with."
        )
    if target is not None:
        model.to(target)
    model.eval().requires_grad_(False)
    return LanguageModel(name, place.commit, model, tokenizer, find_anatomy(model), quantized_as=place.quantized_as)


@dataclass(frozen=True)
class _Place:
    """Where `from_pretrained` reads from: `source` is a folder or a hub id, `commit` pins a hub id."""

    source: str
    folder: Path | None = None
    commit: str | None = None
    pocket: bool = False
    quantized_as: str = ""


def _locate(name: str, revision: str | None, store: Store | None) -> _Place:
    file = gguf_file(name)
    if file is not None:
        if revision is not None:
            raise AuditError(f"{name!r} is a local file and has no revision {revision!r}; leave the revision out.")
        header, folder = check_gguf(file), converted_gguf(file, store)
        return _Place(str(folder), folder=folder, quantized_as=header.quantized_as)
    pocket = name in pocket_names()
    folder = POCKET_WEIGHTS / name if pocket else Path(name).expanduser()
    if name.startswith(POCKET_PREFIX) and not folder.exists():
        raise AuditError(
            f"there is no pocket model {name!r}; choose one of: {', '.join(pocket_names()) or 'none is installed'}."
        )
    if folder.is_dir():
        if revision is not None:
            raise AuditError(f"{name!r} is a local folder and has no revision {revision!r}; leave the revision out.")
        if not (folder / "config.json").is_file():
            raise AuditError(
                f"the folder {name!r} has no config.json; name a folder written by save_pretrained, or a GGUF file."
            )
        return _Place(str(folder), folder=folder, pocket=pocket)
    if folder.is_file() or is_path(name):
        kind = "GGUF file" if folder.suffix == SUFFIX else "model folder"
        raise AuditError(
            f"there is no {kind} {name!r}; name an existing folder or GGUF file, a hub id or one of: "
            f"{', '.join(pocket_names()) or 'no pocket models are installed'}."
        )
    return _Place(name, commit=_pin_commit(name, revision))


def _pin_commit(name: str, revision: str | None) -> str:
    """The commit of `revision` of a hub model, from the hub or, without a connection, from the local cache."""
    with hub_sentences(name, revision):
        config = hf_hub_download(name, "config.json", revision=revision)
    check_model_folder(Path(config).parent, name, weights=False)
    check_tokenizer_config(Path(config).parent, name)
    return Path(config).parent.name  # <cache>/models--owner--name/snapshots/<commit>/config.json


@contextmanager
def hub_sentences(name: str, revision: str | None) -> Iterator[None]:
    """Turn the hub's exceptions about the model `name` into an `AuditError` with a remedy."""
    wanted = f"{name!r}" if revision is None else f"{name!r} at revision {revision!r}"
    try:
        yield
    except HFValidationError:
        raise AuditError(
            f"{name!r} is neither a folder, a GGUF file nor a hub id; write `owner/model`, or one of: "
            f"{', '.join(pocket_names()) or 'no pocket models are installed'}."
        ) from None
    except GatedRepoError:
        raise AuditError(
            f"the model {wanted} is gated; request access on its hub page, then log in with `hf auth login`."
        ) from None
    except RepositoryNotFoundError:
        raise AuditError(
            f"the hub has no model {wanted}, or you have no access to it; check the spelling, or log in with `hf auth "
            "login`."
        ) from None
    except RevisionNotFoundError:
        raise AuditError(f"the hub has no model {wanted}; check the revision on the model's hub page.") from None
    except (LocalEntryNotFoundError, OfflineModeIsEnabled):
        raise AuditError(
            f"the model {wanted} is not in the local cache and the hub cannot be reached; "
            "download it once with a connection (and without HF_HUB_OFFLINE), or name a local folder or GGUF file."
        ) from None
    except EntryNotFoundError:
        raise AuditError(f"the hub model {wanted} has no config.json; choose a transformers model.") from None
    except HfHubHTTPError as error:
        raise AuditError(f"the hub refused the model {wanted} ({first_line(error)}); try again later.") from error


def _read_tokenizer(name: str, place: _Place) -> Any:
    with foreign_tokenizer(place.folder, name, "put its tokenizer.json and tokenizer_config.json beside the weights"):
        return _tokenizers.from_pretrained(place.source, revision=place.commit, trust_remote_code=False)


def _read_model(name: str, place: _Place, dtype: torch.dtype | str, allow_pickle_weights: bool, *, spread: bool) -> Any:
    remedy = "it must be a causal language model supported by transformers, with safetensors weights"
    with foreign_files("model", name, remedy), _no_progress_bar():
        model, report = _models.from_pretrained(
            place.source,
            revision=place.commit,
            dtype=dtype,
            use_safetensors=None if allow_pickle_weights else True,
            trust_remote_code=False,  # by default transformers would ask on a terminal
            device_map="auto" if spread else None,
            output_loading_info=True,
        )
    missing = sorted(report["missing_keys"])
    if missing:
        # transformers would initialize them randomly and continue.
        raise AuditError(
            f"the weights of {name!r} are incomplete: {len(missing)} tensors are missing, the first is {missing[0]!r}; "
            "copy or save the whole checkpoint again."
        )
    offloaded = [tensor for tensor, parameter in model.named_parameters() if parameter.is_meta]
    if offloaded:
        raise AuditError(
            f"the model {name!r} does not fit into the memory of the GPUs: {len(offloaded)} tensors, the first is "
            f"{offloaded[0]!r}, would be offloaded, where they cannot be edited; choose the dtype bfloat16, more GPUs, "
            "or the device cpu."
        )
    return model


@contextmanager
def _no_progress_bar() -> Iterator[None]:
    """Hide transformers' progress bar, which would break up the output of a test run."""
    shown = _logging.is_progress_bar_enabled()
    _logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            _logging.enable_progress_bar()


def _parse_device(device: str) -> torch.device:
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        parsed = torch.device(device)
        torch.empty(0, device=parsed)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise AuditError(
            f"the device {device!r} cannot be used here ({first_line(error)}); choose auto, cpu, cuda or map."
        ) from None
    return parsed


def _parse_dtype(dtype: str) -> torch.dtype | str:
    if dtype == "auto":
        return "auto"
    if dtype not in DTYPES:
        raise AuditError(f"the dtype {dtype!r} is unknown; choose auto, {', '.join(DTYPES)}.")
    return DTYPES[dtype]
