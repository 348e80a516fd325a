"""Is a checkpoint an edited version of the base model at all: the same architecture, reading the same tokens?"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformers import AutoConfig, AutoTokenizer

from audit.errors import AuditError
from audit.models.fingerprints import tokenizer_rules
from audit.models.language_model import LanguageModel
from audit.models.loading import UNREADABLE, first_line

CONFIG_FILE = "config.json"
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "tokenizer.model", "vocab.json")
# What a config says about training, saving, generating or other heads, and not about what the network computes.
OTHER_MATTERS = frozenset(
    "_name_or_path architectures auto_map bos_token_id chunk_size_feed_forward dtype eos_token_id id2label "
    "initializer_range label2id output_attentions output_hidden_states pad_token_id pretraining_tp problem_type "
    "return_dict sep_token_id task_specific_params tokenizer_class torch_dtype transformers_version unsloth_version "
    "use_cache".split()
)
TRAINING_ONLY = ("dropout", "pdrop", "summary_", "gradient_checkpointing")
MOST_NAMED = 3  # differences in one sentence

# transformers types these two loosely: what from_pretrained returns depends on its arguments.
_configs: Any = AutoConfig
_tokenizers: Any = AutoTokenizer


def check_architecture(lm: LanguageModel, folder: Path, name: str) -> None:
    """Compare a checkpoint's config with the base model's, in everything that decides what the network computes.

    Raises:
        AuditError: the config cannot be read or differs; the sentence names what differs.
    """
    try:
        config = _configs.from_pretrained(folder, trust_remote_code=False)
    except UNREADABLE as error:
        raise AuditError(
            f"the config of {name!r} cannot be read ({first_line(error)}); name a folder that save_pretrained wrote."
        ) from error
    theirs, ours = config.to_dict(), lm.model.config.to_dict()
    if theirs.get("model_type") != ours.get("model_type"):
        raise AuditError(
            f"the checkpoint {name!r} is a {theirs.get('model_type')}, but the base model {lm.name!r} is a "
            f"{ours.get('model_type')}; name the model that was edited."
        )
    theirs, ours = _computing(theirs), _computing(ours)
    unlike = [key for key in sorted({*theirs, *ours}) if theirs.get(key) != ours.get(key)]
    if unlike:
        named = ", ".join(f"{key} is {theirs.get(key)} and not {ours.get(key)}" for key in unlike[:MOST_NAMED])
        more = f", and {len(unlike) - MOST_NAMED} more" if len(unlike) > MOST_NAMED else ""
        raise AuditError(
            f"the checkpoint {name!r} has another architecture than the base model {lm.name!r}: {named}{more}; name "
            "the model that was edited."
        )


def check_tokenizer(lm: LanguageModel, folder: Path, name: str) -> None:
    """Compare the rules of a checkpoint's tokenizer, if it has one, with the base model's.

    Raises:
        AuditError: it cannot be loaded or differs; the sentence names what differs.
    """
    if not any((folder / file).is_file() for file in TOKENIZER_FILES):
        return
    try:
        tokenizer = _tokenizers.from_pretrained(folder, trust_remote_code=False)
    except UNREADABLE as error:
        raise AuditError(
            f"the tokenizer of {name!r} cannot be loaded ({first_line(error)}); copy the base model's in its place."
        ) from error
    theirs, ours = _parts(tokenizer_rules(tokenizer)), _parts(tokenizer_rules(lm.tokenizer))
    unlike = [part for part in {**ours, **theirs} if theirs.get(part) != ours.get(part)]
    if unlike:
        raise AuditError(
            f"the tokenizer of {name!r} is not that of the base model {lm.name!r} ({', '.join(unlike[:MOST_NAMED])} "
            f"{'differs' if len(unlike) == 1 else 'differ'}), so the two would not be asked the same questions; copy "
            "the base model's tokenizer beside the weights if it was to stay."
        )


def _computing(config: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that decide what the network computes, those of an inner config as well."""
    return {
        key: _computing(value) if isinstance(value, Mapping) else value
        for key, value in config.items()
        if key not in OTHER_MATTERS and not any(word in key for word in TRAINING_ONLY)
    }


def _parts(rules: Mapping[str, Any]) -> dict[str, Any]:
    """A tokenizer's rules by the words of a sentence."""
    inner: Mapping[str, Any] = rules["rules"]
    model = inner.get("model")
    parts = {key.replace("_", " "): value for key, value in inner.items() if key not in ("model", "version")}
    if isinstance(model, Mapping):
        parts |= {{"vocab": "vocabulary"}.get(key, key.replace("_", " ")): value for key, value in model.items()}
    return parts | {f"the {key} token": value for key, value in rules["specials"].items()}
