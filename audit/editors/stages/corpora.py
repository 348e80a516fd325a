"""The corpora on which C is measured: the shipped one, a text file, WikiText, or another data set of the hub.

    corpus = open_corpus("texts.txt", tokens=30_000)
    next(corpus.texts())

Names come before files: a file called "wikitext" is given as ./wikitext.
"""

import hashlib
import re
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from audit.errors import AuditError
from audit.models.fingerprints import content_fingerprint

POCKET, WIKITEXT_NAME = "pocket", "wikitext"
WIKIPEDIA = "wikimedia/wikipedia:20231101.en@train"  # the references' corpus, in a copy that can still be loaded
WIKITEXT = "Salesforce/wikitext:wikitext-2-raw-v1@train"  # 2 million words, 7 MB
_LONGEST_PIECE = 4000  # characters of a text file that are one text, some 1,000 tokens
_TOKENS_PER_POCKET_TEXT = 16  # below the mean of the pocket corpus, so that its texts suffice
_REMEDY = "give a text file, as in --editor-config covariance=texts.txt, or covariance=wikitext with a connection"


class CorpusUnavailableError(AuditError):
    """A data set of the hub is neither in the local cache nor can it be loaded; `reason` says why."""

    def __init__(self, source: str, reason: str) -> None:
        super().__init__(
            f"covariance={source}: the data set is not in the local cache and cannot be loaded ({reason}); {_REMEDY}."
        )
        self.reason = reason


@dataclass(frozen=True)
class Corpus:
    """Texts to measure C on; `texts()` starts again from the first text at each call.

    `caveat` is a sentence that a report gives, empty if there is nothing to say. `file` says whether a user wrote it.
    """

    origin: str
    fingerprint: str
    texts: Callable[[], Iterator[str]]
    file: bool = False
    caveat: str = ""


def check_source(source: str) -> None:
    """Check what can be checked of the setting `covariance` without reading texts.

    Raises:
        AuditError: the setting is empty, or names a folder, a pipe, a device or a file that does not exist.
    """
    if not source.strip():
        raise AuditError(f"covariance is empty; {_REMEDY}.")
    if source not in (POCKET, WIKITEXT_NAME):
        _file_of(source)


def open_corpus(source: str, tokens: int) -> Corpus:
    """The corpus of the setting `covariance`: "pocket", "wikitext", the path of a text file, or a hub data set.

    Args:
        source: the value of the setting.
        tokens: the tokens that will be read; the pocket corpus is generated to that length.

    Raises:
        AuditError: the file does not exist, is no text, or is empty. A hub data set that cannot be loaded raises when
            its first text is read.
    """
    if source == POCKET:
        from audit.pocket.training.corpus import covariance_texts

        texts = tuple(covariance_texts(max(1, tokens // _TOKENS_PER_POCKET_TEXT)))
        return Corpus("pocket corpus", content_fingerprint(list(texts)), lambda: iter(texts))
    if source == WIKITEXT_NAME:
        return replace(_hub_data_set(WIKITEXT, streaming=False), origin="WikiText-2")
    path = _file_of(source)
    return _hub_data_set(source) if path is None else _text_file(path)


def fallback_corpus(tokens: int, reason: str) -> Corpus:
    """The shipped corpus for a model that is not a pocket model, with a caveat that names what is missing."""
    caveat = (
        "The covariance of the editor was measured on the shipped pocket corpus, whose few hundred words are no "
        f"sample of ordinary text ({reason.rstrip('.')}); for an edit that protects ordinary text, {_REMEDY}."
    )
    return replace(open_corpus(POCKET, tokens), caveat=caveat)


def _file_of(source: str) -> Path | None:
    """The text file that `source` names; None if it is the name of a hub data set."""
    try:
        path = Path(source).expanduser()
        mode = path.stat().st_mode
    except FileNotFoundError:
        if path.suffix in {".txt", ".md", ".json", ".jsonl"} or source.startswith((".", "/", "~")):
            raise AuditError(f"covariance={source}: there is no such file; give a text file that exists.") from None
        return None
    except (OSError, ValueError, RuntimeError) as error:  # RuntimeError: ~name without such a user
        reason = getattr(error, "strerror", None) or str(error)
        raise AuditError(f"covariance={source}: the file cannot be read ({reason}); give another text file.") from None
    if stat.S_ISDIR(mode):
        raise AuditError(f"covariance={source}: this is a folder; give one text file.")
    if not stat.S_ISREG(mode):
        raise AuditError(
            f"covariance={source}: this is a pipe or a device, which can be read only once; write the texts into a "
            "file first."
        )
    return path


def _text_file(path: Path) -> Corpus:
    """Each paragraph (separated by blank lines) is one text, a long one several."""
    try:
        content = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise AuditError(
            f"covariance={path}: the file is not UTF-8 text (byte {error.start} is {error.object[error.start]:#04x}); "
            "save it as UTF-8, or give another text file."
        ) from None
    except OSError as error:
        raise AuditError(
            f"covariance={path}: the file cannot be read ({error.strerror}); give another text file."
        ) from None
    texts = [piece for paragraph in re.split(r"\n[^\S\n]*\n", content) for piece in _pieces(paragraph)]
    if not texts:
        raise AuditError(f"covariance={path}: the file holds no text; give one with ten tokens a key dimension.")
    return Corpus(path.name, hashlib.sha256(content.encode()).hexdigest(), lambda: iter(texts), file=True)


def _pieces(paragraph: str) -> list[str]:
    """A paragraph in pieces of at most `_LONGEST_PIECE` characters, cut at white space where there is any."""
    return re.findall(rf"\S(?:.{{0,{_LONGEST_PIECE - 2}}}\S)?(?!\S)|\S{{1,{_LONGEST_PIECE}}}", paragraph, re.DOTALL)


def _hub_data_set(source: str, *, streaming: bool = True) -> Corpus:
    name, _, split = source.partition("@")
    name, _, config = name.partition(":")

    def texts() -> Iterator[str]:
        from datasets import exceptions, load_dataset

        try:
            rows = load_dataset(name, config or None, split=split or "train", streaming=streaming)
            for row in rows:
                text = row.get("text")
                if not isinstance(text, str):
                    raise AuditError(
                        f"covariance={source}: the data set has no column 'text' (it has {', '.join(row)}); "
                        "give a local text file or another data set."
                    )
                if text.strip():
                    yield text.strip()
        except (OSError, ValueError, exceptions.DatasetsError) as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
            raise CorpusUnavailableError(source, reason) from None

    return Corpus(source, content_fingerprint(["hub", name, config, split or "train"]), texts)
