"""The tokenizer files of a model folder, checked before or after transformers reads them.

    check_tokenizer_files(folder, "./my-model")
    with foreign_tokenizer(folder, "./my-model", "copy it again"):
        tokenizer = ...
    refuse_empty(tokenizer, "./my-model")

Each error names the file, the field and its value.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from audit.errors import AuditError
from audit.models.files.model_folder import check_auto_map, foreign_files, is_whole, json_object, wrong_value

TOKENIZER_CONFIG, TOKENIZER_FILE = "tokenizer_config.json", "tokenizer.json"
SPECIAL_TOKENS, ADDED_TOKENS = "special_tokens_map.json", "added_tokens.json"

_TOKENS = ("bos_token", "eos_token", "unk_token", "pad_token", "sep_token", "cls_token", "mask_token")


@contextmanager
def foreign_tokenizer(folder: Path | None, name: str, remedy: str) -> Iterator[None]:
    """As `foreign_files` for a tokenizer; if its tokenizer.json in `folder` has a wrong form, the error says so."""
    with foreign_files("tokenizer", name, remedy):
        try:
            yield
        except Exception:
            # Checked only now, because the file of a large vocabulary is slow to read.
            if folder is not None and (folder / TOKENIZER_FILE).is_file():
                _check_tokenizer_json(json_object(folder / TOKENIZER_FILE, name), name)
            raise


def check_tokenizer_files(folder: Path, name: str) -> None:
    """Check the small files of a tokenizer; `foreign_tokenizer` checks tokenizer.json where it cannot be read.

    Raises:
        AuditError: a file is no JSON object or has an impossible value, or the only tokenizer file needs a package that
            is not installed.
    """
    check_tokenizer_config(folder, name)
    _check_tokens(json_object(folder / SPECIAL_TOKENS, name, missing={}), SPECIAL_TOKENS, name)
    for token, number in json_object(folder / ADDED_TOKENS, name, missing={}).items():
        if not is_whole(number, 0):
            raise wrong_value(ADDED_TOKENS, name, token, number, "a token id")
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


def check_tokenizer_config(folder: Path, name: str) -> None:
    """Raise `AuditError` if tokenizer_config.json, where there is one, is no object or has an impossible value."""
    content = json_object(folder / TOKENIZER_CONFIG, name, missing={})
    _check_tokens(content, TOKENIZER_CONFIG, name)
    check_auto_map(content, TOKENIZER_CONFIG, name)
    kinds: tuple[tuple[str, Any, str], ...] = (
        ("model_max_length", int | float, "a number"),
        ("tokenizer_class", str, "the name of a class"),
        ("added_tokens_decoder", Mapping, "an object"),
    )
    for field, kind, wanted in kinds:
        value = content.get(field)
        if value is not None and not isinstance(value, kind):
            raise wrong_value(TOKENIZER_CONFIG, name, field, value, wanted)


def _check_tokens(content: Mapping[str, Any], file: str, name: str) -> None:
    for field in _TOKENS:
        value = content.get(field)
        token = value.get("content") if isinstance(value, Mapping) else value
        if value is not None and not isinstance(token, str):
            raise wrong_value(file, name, field, value, "a text, or an object with its content")


def _check_tokenizer_json(content: Mapping[str, Any], name: str) -> None:
    for field, kind, wanted in (("model", Mapping, "an object"), ("added_tokens", list, "a list")):
        if field not in content:
            raise AuditError(f"the {TOKENIZER_FILE} of {name!r} has no {field}; copy it again.")
        if not isinstance(content[field], kind):
            raise wrong_value(TOKENIZER_FILE, name, field, content[field], wanted)
