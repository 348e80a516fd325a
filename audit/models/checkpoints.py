"""An edited checkpoint as a patch over the loaded base model.

    patch = read_checkpoint(lm, "./my-edited-checkpoint")
    with patch.applied(lm):
        ...  # exactly the weights of that checkpoint, without a second model in memory

Accepts a whole checkpoint (a folder written by save_pretrained, sharded or not, a hub id or a GGUF file), a LoRA
adapter, a patch saved by this package, or one safetensors file of weight differences. Only tensors that differ are
kept. The architecture and tokenizer of a whole checkpoint must match the base model.
"""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import snapshot_download
from transformers import AutoConfig, AutoTokenizer

from audit.errors import AuditError
from audit.models.adapters import CONFIG_FILE as ADAPTER_FILE
from audit.models.adapters import adapter_patch
from audit.models.files.gguf import converted_gguf, gguf_file, is_path
from audit.models.files.gguf_header import check_gguf
from audit.models.files.model_folder import check_model_folder, foreign_files
from audit.models.files.stored_weights import (
    PICKLES,
    coarsest,
    differences,
    headers,
    refuse_pickles,
    replacements,
    weight_files,
)
from audit.models.files.tokenizer_files import check_tokenizer_files, foreign_tokenizer, refuse_empty
from audit.models.fingerprints import tokenizer_rules, weights_fingerprint
from audit.models.language_model import LanguageModel
from audit.models.loading import hub_sentences, pocket_names
from audit.models.patch_changes import changes_nothing
from audit.models.patches import DESCRIPTION_FILE, Patch, WeightPatch, load_patch
from audit.pocket import POCKET_WEIGHTS
from audit.store.content import Store

CONFIG_FILE, PLAN_FILE = "config.json", "plan.json"
# The files downloaded from a hub repository: no weights in other formats.
WANTED_FILES = ("*.json", "*.txt", "*.model", "model*.safetensors", "adapter_model.safetensors", "*deltas.safetensors")
SAFETENSORS = ".safetensors"
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "tokenizer.model", "vocab.json")
# Config fields about training, saving, generation or other heads: they do not affect what the network computes.
OTHER_MATTERS = frozenset(
    "_name_or_path architectures auto_map bos_token_id chunk_size_feed_forward dtype eos_token_id id2label "
    "initializer_range label2id output_attentions output_hidden_states pad_token_id pretraining_tp problem_type "
    "return_dict sep_token_id task_specific_params tie_word_embeddings tokenizer_class torch_dtype "
    "transformers_version unsloth_version use_cache vocab_size".split()
)  # tie_word_embeddings and vocab_size are here because the tensors show both
TRAINING_ONLY = ("dropout", "pdrop", "summary_", "gradient_checkpointing")
MOST_NAMED = 3  # differences listed in one error message

# transformers types these two loosely: the return type of from_pretrained depends on its arguments.
_configs: Any = AutoConfig
_tokenizers: Any = AutoTokenizer


class AddedTokensWarning(UserWarning):
    """A checkpoint has tokens that the base model does not have."""


@dataclass(frozen=True, eq=False)
class EditedCheckpoint:
    """An edited checkpoint, read as a patch.

    `source` is the name given by the user. `kind` is "checkpoint", "adapter", "patch" or "differences". `commit` is
    that of a hub id (None for local files). `stored_as` is the coarsest dtype in the files of a whole checkpoint. If it
    is coarser than the dtype of the base model, unedited weights differ by rounding. `quantized_as` are the types of
    the quantized tensors of a GGUF file, such as "Q4_K, Q6_K" (else empty); `stored_as` is then that of its other ones.
    """

    source: str
    kind: str
    commit: str | None
    patch: Patch
    stored_as: torch.dtype | None = None
    quantized_as: str = ""

    @property
    def identical(self) -> bool:
        """Whether the patch changes no weight and attaches no module."""
        return changes_nothing(self.patch)


def read_checkpoint(
    lm: LanguageModel, source: str, *, revision: str | None = None, store: Store | None = None
) -> Patch:
    """The patch that turns the loaded base model `lm` into the edited model at `source`.

    The patch writes the bits of the checkpoint, converted to the dtype of `lm`. If all weights are equal, the patch
    changes nothing.

    Args:
        source: a folder, a .safetensors or GGUF file, a pocket model or a hub id.
        revision: branch, tag or commit of a hub id; None means the default branch.
        store: keeps the conversion of a GGUF file; without one, each call converts it again.

    Raises:
        AuditError: the checkpoint does not exist, cannot be read, or is not an edited version of `lm`.
    """
    return open_checkpoint(lm, source, revision=revision, store=store).patch


def open_checkpoint(
    lm: LanguageModel, source: str, *, revision: str | None = None, store: Store | None = None
) -> EditedCheckpoint:
    """Like `read_checkpoint`, and also returns the kind, commit, dtype and quantization of the checkpoint."""
    place, commit = _locate(source, revision)
    file = gguf_file(place)
    header = None
    if file is not None:
        header, place = check_gguf(file), converted_gguf(file, store)
    if place.is_file():
        return EditedCheckpoint(source, "differences", commit, _read_differences(lm, place, source))
    if (place / DESCRIPTION_FILE).is_file() or (place / PLAN_FILE).is_file():
        _check_plan(place, source)
        return EditedCheckpoint(source, "patch", commit, load_patch(place, base=weights_fingerprint(lm)))
    if (place / ADAPTER_FILE).is_file() and not (place / CONFIG_FILE).is_file():
        return EditedCheckpoint(source, "adapter", commit, adapter_patch(lm, place, source))
    if (place / CONFIG_FILE).is_file():
        if source not in pocket_names():
            check_model_folder(place, source, shapes=False)
        check_architecture(lm, place, source)
        check_tokenizer(lm, place, source)
        files = weight_files(place, source)
        patch = WeightPatch(replacements(lm, files, source, tied=_is_tied(place, source)))
        kinds = header.types.values() if header else (tensor.dtype for tensor in headers(files, source))
        quantized_as = header.quantized_as if header else ""
        return EditedCheckpoint(source, "checkpoint", commit, patch, coarsest(kinds), quantized_as)
    raise AuditError(
        f"{source!r} is not a checkpoint: it has no {CONFIG_FILE} (a model), {ADAPTER_FILE} (an adapter) or "
        f"{DESCRIPTION_FILE} (a patch); name the folder of one of these, or a GGUF file."
    )


def _locate(source: str, revision: str | None) -> tuple[Path, str | None]:
    """The local file or folder of `source`, and the commit of a hub id."""
    path = POCKET_WEIGHTS / source if source in pocket_names() else Path(source).expanduser()
    if path.exists():
        if revision is not None:
            raise AuditError(f"{source!r} is a local path and has no revision {revision!r}; leave the revision out.")
        return path, None
    if is_path(source) or path.suffix == SAFETENSORS:
        raise AuditError(
            f"there is no checkpoint {source!r}; name an existing folder, .safetensors file or GGUF file, or a hub id."
        )
    with hub_sentences(source, revision):
        folder = snapshot_download(source, revision=revision, allow_patterns=list(WANTED_FILES))
    return Path(folder), Path(folder).name  # <cache>/models--owner--name/snapshots/<commit>


def _check_plan(folder: Path, source: str) -> None:
    """Raise `AuditError` if `folder` is an edit plan that did not end in a single patch."""
    if (folder / DESCRIPTION_FILE).is_file():
        return
    patches = sorted(file.parent.name for file in folder.glob(f"[0-9]*/{DESCRIPTION_FILE}"))
    if patches:
        raise AuditError(
            f"{source!r} holds {len(patches)} patches, one per edit request; name one of them, such as "
            f"{source.rstrip('/')}/{patches[0]}."
        )
    raise AuditError(f"the edit plan in {source!r} is not finished; run it again with the same options.")


def _read_differences(lm: LanguageModel, file: Path, source: str) -> WeightPatch:
    refuse_pickles([file] if any(file.match(pattern) for pattern in PICKLES) else [], source)
    if file.suffix != SAFETENSORS:
        raise AuditError(
            f"{source!r} is neither a .safetensors nor a GGUF file; name a file of weight differences, a GGUF file or "
            "the folder of a checkpoint."
        )
    whole = [name for name in (CONFIG_FILE, ADAPTER_FILE, DESCRIPTION_FILE) if (file.parent / name).is_file()]
    if whole:
        # Adding the weights of a whole model to those of the base model would not fail, but the result is meaningless.
        raise AuditError(f"{source!r} is part of a checkpoint ({whole[0]} is in the same folder); name the folder.")
    return WeightPatch(differences(lm, file, source))


def check_architecture(lm: LanguageModel, folder: Path, name: str) -> None:
    """Check that the config of a checkpoint describes the same network as the base model.

    Raises:
        AuditError: the config cannot be read, or a field that affects the computation differs.
    """
    with foreign_files("config.json", name, "name a folder written by save_pretrained"):
        config = _configs.from_pretrained(folder, trust_remote_code=False)
        theirs, ours = config.to_dict(), lm.model.config.to_dict()
    if theirs.get("model_type") != ours.get("model_type"):
        raise AuditError(
            f"the checkpoint {name!r} has the model type {theirs.get('model_type')}, but the base model {lm.name!r} "
            f"has {ours.get('model_type')}; give the model that was edited as the base model."
        )
    declared = _declared_fields(type(lm.model.config))
    theirs, ours = (
        _relevant_fields({key: value for key, value in fields.items() if declared is None or key in declared})
        for fields in (theirs, ours)
    )
    unlike = [key for key in sorted({*theirs, *ours}) if theirs.get(key) != ours.get(key)]
    if unlike:
        named = ", ".join(f"{key} is {theirs.get(key)} instead of {ours.get(key)}" for key in unlike[:MOST_NAMED])
        more = f", and {len(unlike) - MOST_NAMED} more" if len(unlike) > MOST_NAMED else ""
        raise AuditError(
            f"the checkpoint {name!r} has a different architecture from the base model {lm.name!r}: {named}{more}; "
            "give the model that was edited as the base model."
        )


def check_tokenizer(lm: LanguageModel, folder: Path, name: str) -> None:
    """Check that the tokenizer of a checkpoint, if it has one, is that of the base model.

    Additional tokens only cause an `AddedTokensWarning`.

    Raises:
        AuditError: the tokenizer cannot be loaded or differs.
    """
    if not any((folder / file).is_file() for file in TOKENIZER_FILES):
        return
    check_tokenizer_files(folder, name)
    with foreign_tokenizer(folder, name, "replace it with the base model's"):
        tokenizer = _tokenizers.from_pretrained(folder, trust_remote_code=False)
    refuse_empty(tokenizer, name)
    theirs, ours = _parts(tokenizer_rules(tokenizer)), _parts(tokenizer_rules(lm.tokenizer))
    unlike = [part for part in {**ours, **theirs} if theirs.get(part) != ours.get(part)]
    more, other = _tokens_apart(lm.tokenizer.get_vocab(), tokenizer.get_vocab())
    if not other:  # the same tokens, and perhaps more
        unlike = [part for part in unlike if part not in ("vocabulary", "added tokens")]
    if more and not unlike:
        warnings.warn(
            f"{name!r} has {len(more)} tokens more than the base model ({', '.join(map(repr, more[:MOST_NAMED]))}); "
            "their rows are left out, since the base model's tokenizer, which is used, does not write them.",
            AddedTokensWarning,
            stacklevel=2,
        )
    if other and {"vocabulary", "added tokens"} & set(unlike):
        unlike.append(f"tokens such as {', '.join(map(repr, other[:MOST_NAMED]))}")
    if unlike:
        raise AuditError(
            f"the tokenizer of {name!r} differs from that of the base model {lm.name!r} (different: "
            f"{', '.join(unlike[:MOST_NAMED])}), so both models would not read the same tokens; if the edit did not "
            "mean to change the tokenizer, copy the base model's into the folder."
        )


def _tokens_apart(ours: Mapping[str, int], theirs: Mapping[str, int]) -> tuple[list[str], list[str]]:
    """The tokens that only `theirs` has, and those of `ours` that it lacks or numbers differently."""
    more = sorted((token for token in theirs if token not in ours), key=lambda token: theirs[token])
    return more, [token for token, number in ours.items() if theirs.get(token) != number]


def _is_tied(folder: Path, name: str) -> bool:
    with foreign_files("config.json", name, "name a folder written by save_pretrained"):
        return bool(_configs.from_pretrained(folder, trust_remote_code=False).tie_word_embeddings)


def _declared_fields(kind: type[Any]) -> frozenset[str] | None:
    """The fields that a config class declares; None if it has no defaults for all of them.

    Only these can change the network. Other keys of a config.json are notes of the tools that wrote it.
    """
    try:
        return frozenset(kind().to_dict())
    except (TypeError, ValueError):
        return None


def _relevant_fields(config: Mapping[str, Any]) -> dict[str, Any]:
    """The config fields that affect what the network computes, nested configs included."""
    return {
        key: _relevant_fields(value) if isinstance(value, Mapping) else value
        for key, value in config.items()
        if key not in OTHER_MATTERS and not any(word in key for word in TRAINING_ONLY)
    }


def _parts(rules: Mapping[str, Any]) -> dict[str, Any]:
    """The rules of a tokenizer by their name in an error message."""
    inner: Mapping[str, Any] = rules["rules"]
    model = inner.get("model")
    parts = {key.replace("_", " "): value for key, value in inner.items() if key not in ("model", "version")}
    if isinstance(model, Mapping):
        parts |= {{"vocab": "vocabulary"}.get(key, key.replace("_", " ")): value for key, value in model.items()}
    return parts | {f"the {key} token": value for key, value in rules["specials"].items()}
