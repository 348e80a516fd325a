"""Texts to measure key covariances on: the pocket corpus, a local text file, or a data set of the hub."""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from audit.errors import AuditError
from audit.models.fingerprints import content_fingerprint

WIKIPEDIA = "wikimedia/wikipedia:20231101.en@train"  # what the references use, in the copy that can still be loaded
_TOKENS_A_TEXT = 16  # fewer than the pocket corpus holds on average: enough texts for a number of tokens


@dataclass(frozen=True)
class Corpus:
    """`texts()` starts from the first text each time; nothing is read before it is called, if it can be helped."""

    origin: str
    fingerprint: str
    texts: Callable[[], Iterator[str]]


def open_corpus(source: str, tokens: int) -> Corpus:
    """The corpus called `source`: "pocket", the path of a text file, or a hub data set as name[:config][@split].

    Args:
        source: what the user named.
        tokens: how many tokens will be asked of it, for sources that are made to measure.

    Raises:
        AuditError: there is no such file and it cannot be a hub data set; a data set that cannot be had raises on
            its first text.
    """
    if source == "pocket":
        return _pocket(tokens)
    path = Path(source).expanduser()
    if path.is_file():
        return _text_file(path)
    if path.suffix in {".txt", ".md", ".json", ".jsonl"} or source.startswith((".", "/", "~")):
        raise AuditError(f"covariance={source}: there is no such file; give a text file that exists.")
    return _hub_data_set(source)


def _pocket(tokens: int) -> Corpus:
    from audit.pocket.training.corpus import covariance_texts

    texts = tuple(covariance_texts(max(1, tokens // _TOKENS_A_TEXT)))
    return Corpus("pocket corpus", content_fingerprint(list(texts)), lambda: iter(texts))


def _text_file(path: Path) -> Corpus:
    """Paragraphs (parted by empty lines) are the texts."""
    try:
        content = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise AuditError(f"covariance={path}: the file is not UTF-8 text; give a plain text file.") from None
    paragraphs = [paragraph.strip() for paragraph in content.split("\n\n") if paragraph.strip()]
    return Corpus(path.name, hashlib.sha256(content.encode()).hexdigest(), lambda: iter(paragraphs))


def _hub_data_set(source: str) -> Corpus:
    name, _, split = source.partition("@")
    name, _, config = name.partition(":")

    def texts() -> Iterator[str]:
        from datasets import load_dataset

        try:
            rows = load_dataset(name, config or None, split=split or "train", streaming=True)
            for row in rows:
                text = row.get("text")
                if not isinstance(text, str):
                    raise AuditError(
                        f"covariance={source}: the data set has no column 'text' (it has {', '.join(row)}); "
                        "give a local text file or another data set."
                    )
                yield text
        except (OSError, ValueError) as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise AuditError(
                f"covariance={source}: the data set cannot be read ({reason.rstrip('.')}); give a local text file, "
                "or covariance=identity for C = I."
            ) from None

    return Corpus(source, content_fingerprint(["hub", name, config, split or "train"]), texts)
