"""Names become language models: a pocket model that ships with the package, a local folder, or a model of the hub.

    lm = load_language_model("pocket-gpt2")

Weights come from safetensors files only (a pickle can run code), a model's own Python code is never run, and a hub
revision is pinned to the commit that was loaded.
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
    StrictDataclassError,
)
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging as transformers_logging

from audit.errors import AuditError
from audit.models.anatomy import find_anatomy
from audit.models.language_model import LanguageModel

POCKET_WEIGHTS = Path(__file__).resolve().parents[1] / "pocket" / "weights"
POCKET_PREFIX = "pocket-"
SPREAD = "map"
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}

# What transformers raises for files that it cannot make sense of; the last is a config's impossible value.
UNREADABLE = (OSError, ValueError, KeyError, ImportError, StrictDataclassError)

# transformers types these three loosely: what from_pretrained returns depends on its arguments.
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
) -> LanguageModel:
    """Load model and tokenizer, ready to answer: eval mode, no gradients, anatomy found.

    Args:
        name: `pocket-gpt2` or `pocket-llama`, a folder, or a hub id such as `openai-community/gpt2-xl`.
        revision: branch, tag or commit of a hub model; None takes the default branch. The commit is recorded.
        device: `auto` (the first GPU if there is one, else the CPU), `map` (spread over all GPUs as accelerate's
            device map lays it out; the CPU where there are none) or any name that torch knows.
        dtype: `auto` (float32 for pocket models, else what the checkpoint says), `float32`, `bfloat16` or `float16`.
        allow_pickle_weights: also accept weights in the pickle format, which can run code; trust the source first.

    Raises:
        AuditError: the name leads nowhere, weights are missing, incomplete or not safetensors, the architecture is
            not one that can be audited, or device or dtype cannot be had.
    """
    target = None if device == SPREAD else _parse_device(device)
    precision = _parse_dtype(dtype)
    place = _locate(name, revision)
    if precision == "auto" and place.pocket:
        precision = torch.float32  # shipped in half precision to be small, not to be computed in
    if place.folder is not None and not allow_pickle_weights:
        _require_safetensors(place.folder, name)

    tokenizer = _read_tokenizer(name, place)
    model = _read_model(name, place, precision, allow_pickle_weights, spread=target is None)
    rows = model.get_input_embeddings().weight.shape[0]
    if len(tokenizer) > rows:
        raise AuditError(
            f"the tokenizer of {name!r} knows {len(tokenizer)} tokens, but the model only {rows}; "
            "load the tokenizer that the model was trained with."
        )
    if target is not None:
        model.to(target)
    model.eval().requires_grad_(False)
    return LanguageModel(name, place.commit, model, tokenizer, find_anatomy(model))


def pocket_names() -> tuple[str, ...]:
    """The pocket models whose weights ship with this copy of the package."""
    return tuple(sorted(path.parent.name for path in POCKET_WEIGHTS.glob(f"{POCKET_PREFIX}*/config.json")))


@dataclass(frozen=True)
class _Place:
    """Where `from_pretrained` reads: `source` is a folder or a hub id, `commit` pins a hub id."""

    source: str
    folder: Path | None = None
    commit: str | None = None
    pocket: bool = False


def _locate(name: str, revision: str | None) -> _Place:
    pocket = name in pocket_names()
    folder = POCKET_WEIGHTS / name if pocket else Path(name).expanduser()
    if name.startswith(POCKET_PREFIX) and not folder.exists():
        raise AuditError(
            f"there is no pocket model {name!r}; choose one of: {', '.join(pocket_names()) or 'none is installed'}."
        )
    if folder.is_dir():
        if revision is not None:
            raise AuditError(f"{name!r} is a local folder, which has no revision {revision!r}; leave the revision out.")
        if not (folder / "config.json").is_file():
            raise AuditError(f"the folder {name!r} holds no config.json; name a folder that save_pretrained wrote.")
        return _Place(str(folder), folder=folder, pocket=pocket)
    if folder.is_file() or folder.is_absolute() or name.startswith((".", "~")) or name.count("/") > 1:
        raise AuditError(
            f"there is no model folder {name!r}; name an existing folder, a hub id or one of: "
            f"{', '.join(pocket_names()) or 'no pocket models are installed'}."
        )
    return _Place(name, commit=_pin_commit(name, revision))


def _pin_commit(name: str, revision: str | None) -> str:
    """The commit that `revision` of a hub model stands for, from the hub or, without a connection, from its cache."""
    with hub_sentences(name, revision):
        config = hf_hub_download(name, "config.json", revision=revision)
    return Path(config).parent.name  # <cache>/models--owner--name/snapshots/<commit>/config.json


@contextmanager
def hub_sentences(name: str, revision: str | None) -> Iterator[None]:
    """Whatever the hub answers in place of the files of `name` becomes an `AuditError` of one sentence."""
    wanted = f"{name!r}" if revision is None else f"{name!r} at revision {revision!r}"
    try:
        yield
    except HFValidationError:
        raise AuditError(
            f"{name!r} is neither a folder nor a hub id; write `owner/model`, or one of: "
            f"{', '.join(pocket_names()) or 'no pocket models are installed'}."
        ) from None
    except GatedRepoError:
        raise AuditError(
            f"the model {wanted} is gated; ask for access on its hub page, then log in with `hf auth login`."
        ) from None
    except RepositoryNotFoundError:
        raise AuditError(
            f"the hub has no model {wanted} that you may see; check the spelling, or log in with `hf auth login`."
        ) from None
    except RevisionNotFoundError:
        raise AuditError(f"the hub has no model {wanted}; check the revision on the model's hub page.") from None
    except (LocalEntryNotFoundError, OfflineModeIsEnabled):
        raise AuditError(
            f"the model {wanted} is not in the local cache and the hub cannot be reached; "
            "download it once with a connection (and without HF_HUB_OFFLINE), or name a local folder."
        ) from None
    except EntryNotFoundError:
        raise AuditError(f"the hub's {wanted} has no config.json; choose a transformers model.") from None
    except HfHubHTTPError as error:
        reason = str(error).splitlines()[0]
        raise AuditError(f"the hub refused the model {wanted} ({reason}); try again later.") from error


def _require_safetensors(folder: Path, name: str) -> None:
    if not any((folder / file).is_file() for file in ("model.safetensors", "model.safetensors.index.json")):
        raise AuditError(
            f"the folder {name!r} holds no safetensors weights; save the model again with save_pretrained, "
            "or allow pickle weights if you trust whoever made them."
        )


def _read_tokenizer(name: str, place: _Place) -> Any:
    try:
        return _tokenizers.from_pretrained(place.source, revision=place.commit, trust_remote_code=False)
    except UNREADABLE as error:
        raise AuditError(
            f"the tokenizer of {name!r} cannot be loaded ({first_line(error)}); "
            "put its tokenizer.json and tokenizer_config.json beside the weights."
        ) from error


def _read_model(name: str, place: _Place, dtype: torch.dtype | str, allow_pickle_weights: bool, *, spread: bool) -> Any:
    try:
        with _quietly():
            model, report = _models.from_pretrained(
                place.source,
                revision=place.commit,
                dtype=dtype,
                use_safetensors=None if allow_pickle_weights else True,
                trust_remote_code=False,  # the default would ask on a terminal
                device_map="auto" if spread else None,
                output_loading_info=True,
            )
    except (*UNREADABLE, RuntimeError, SafetensorError) as error:
        raise AuditError(
            f"the model {name!r} cannot be loaded ({first_line(error)}); it must be a causal language model that "
            "transformers knows, with weights as safetensors."
        ) from error
    absent = sorted(report["missing_keys"])
    if absent:
        # transformers would fill them with random numbers and go on.
        raise AuditError(
            f"the weights of {name!r} are incomplete: {len(absent)} tensors are missing, the first is {absent[0]!r}; "
            "copy or save the whole checkpoint again."
        )
    away = [tensor for tensor, parameter in model.named_parameters() if parameter.is_meta]
    if away:
        raise AuditError(
            f"the model {name!r} does not fit into the memory of the GPUs: {len(away)} tensors, the first is "
            f"{away[0]!r}, would have to stay outside, where they cannot be edited; choose the dtype bfloat16, more "
            "GPUs, or the device cpu."
        )
    return model


@contextmanager
def _quietly() -> Iterator[None]:
    """Without transformers' progress bar, which would cut through a test run's own lines."""
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


def first_line(error: BaseException) -> str:
    """What an error says first, to stand inside a sentence."""
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".:") if lines else type(error).__name__
