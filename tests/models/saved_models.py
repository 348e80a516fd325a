"""Models saved on disk as folders and in the hub cache."""

import shutil
from pathlib import Path

from audit.models.language_model import LanguageModel

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def save(lm: LanguageModel, folder: Path) -> Path:
    """What save_pretrained writes of model and tokenizer."""
    lm.model.save_pretrained(folder)
    lm.tokenizer.save_pretrained(folder)
    return folder


def put_in_cache(cache: Path, name: str, folder: Path) -> None:
    """Lay a model into the hub's cache as a download would have."""
    repository = cache / f"models--{name.replace('/', '--')}"
    shutil.copytree(folder, repository / "snapshots" / COMMIT)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(COMMIT)
