"""The corpora of the covariance: names, text files and data sets; a sentence for each that cannot be read."""

import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from audit.editors.stages.corpora import check_source, fallback_corpus, open_corpus
from audit.editors.stages.covariance import CovarianceSettings
from audit.errors import AuditError


def texts_of(path: Path, content: str) -> Sequence[str]:
    path.write_text(content, encoding="utf-8")
    return tuple(open_corpus(str(path), 100).texts())


def test_a_text_file_is_read_by_paragraphs(tmp_path: Path) -> None:
    path = tmp_path / "mine.txt"
    assert texts_of(path, "One line.\nStill the first.\n\n\nThe second.\n") == (
        "One line.\nStill the first.",
        "The second.",
    )
    corpus = open_corpus(str(path), 100)
    assert list(corpus.texts()) == list(corpus.texts())
    assert corpus.origin == "mine.txt"


def test_a_line_of_spaces_ends_a_paragraph(tmp_path: Path) -> None:
    """WikiText has such lines; without them the whole file was one text, of which 1,024 tokens were read."""
    path = tmp_path / "wiki.txt"
    assert texts_of(path, " \n = Title = \n \n First text . \n\t\n \n Second . \n") == (
        "= Title =",
        "First text .",
        "Second .",
    )


def test_line_ends_of_windows_and_a_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "windows.txt"
    path.write_bytes(b"\xef\xbb\xbfOne.\r\n\r\nTwo.\r\n")
    assert list(open_corpus(str(path), 100).texts()) == ["One.", "Two."]


@pytest.mark.parametrize("word", ["word ", "x"])
def test_a_long_paragraph_is_read_to_its_end(word: str, tmp_path: Path) -> None:
    content = word * 9001
    texts = texts_of(tmp_path / "long.txt", content)
    assert "".join(texts).replace(" ", "") == content.replace(" ", "")
    assert len(texts) > 2 and max(map(len, texts)) <= 4000
    assert all(text.strip() == text for text in texts)


def test_the_fingerprint_follows_the_content(tmp_path: Path) -> None:
    one, same, other = (tmp_path / name for name in ("a.txt", "b.txt", "c.txt"))
    one.write_text("Text.", encoding="utf-8")
    same.write_text("Text.", encoding="utf-8")
    other.write_text("Test.", encoding="utf-8")
    prints = [open_corpus(str(path), 100).fingerprint for path in (one, same, other)]
    assert prints[0] == prints[1] != prints[2]


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(AuditError, match=r"nothing\.txt: there is no such file"):
        open_corpus(str(tmp_path / "nothing.txt"), 100)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"fine \xff\xfe\x00", r"not UTF-8 text \(byte 5 is 0xff\); save it as UTF-8"),
        (b"", "the file holds no text"),
        (b" \n\n\t \r\n", "the file holds no text"),
    ],
)
def test_a_file_without_text_is_refused(content: bytes, sentence: str, tmp_path: Path) -> None:
    path = tmp_path / "corpus"
    path.write_bytes(content)
    with pytest.raises(AuditError, match=sentence):
        open_corpus(str(path), 100)


def test_what_is_no_file_is_refused_before_anything_is_measured(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    (tmp_path / "file").write_text("Text.", encoding="utf-8")
    for source, sentence in (
        (str(tmp_path), "this is a folder; give one text file"),
        (str(pipe), "this is a pipe or a device"),
        ("/dev/null", "this is a pipe or a device"),
        (str(tmp_path / "file" / "below.txt"), "cannot be read"),
        ("x" * 5000, "cannot be read"),
        ("~no-such-user-here/a.txt", "cannot be read"),
        ("nul\0byte", "cannot be read"),
        (str(tmp_path / "nothing.txt"), "there is no such file"),
        (" ", "covariance is empty; give a text file"),
    ):
        for check in (check_source, lambda source: CovarianceSettings(covariance=source).check(3)):
            with pytest.raises(AuditError, match=sentence) as error:
                check(source)
            assert "\n" not in str(error.value) and str(error.value).endswith(".")
    for source in ("auto", "identity", "pocket", "wikitext", "owner/name:en@test", str(tmp_path / "file")):
        CovarianceSettings(covariance=source).check(3)


def test_a_hub_data_set_is_named_by_config_and_split(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[object, ...]] = []

    def load(name: str, config: str | None, split: str, streaming: bool) -> list[dict[str, str]]:
        asked.append((name, config, split, streaming))
        return [{"text": "One."}, {"text": " "}, {"text": " Two. \n"}]

    monkeypatch.setattr("datasets.load_dataset", load)
    corpus = open_corpus("owner/name:en@test", 100)
    assert asked == []  # nothing is loaded before the first text
    assert list(corpus.texts()) == ["One.", "Two."]
    list(open_corpus("owner/name", 100).texts())
    assert list(open_corpus("wikitext", 100).texts()) == ["One.", "Two."]
    assert asked == [
        ("owner/name", "en", "test", True),
        ("owner/name", None, "train", True),
        ("Salesforce/wikitext", "wikitext-2-raw-v1", "train", False),  # not streamed, so that it stays in the cache
    ]
    assert corpus.fingerprint != open_corpus("owner/name", 100).fingerprint


def test_wikitext_without_a_connection_names_both_ways(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """With the real `datasets`, an empty cache and no connection."""
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path)
    with pytest.raises(AuditError) as error:
        list(open_corpus("wikitext", 100).texts())
    assert "not in the local cache" in str(error.value)
    assert "covariance=texts.txt, or covariance=wikitext with a connection" in str(error.value)


@pytest.mark.parametrize(
    ("trouble", "sentence"),
    [(ConnectionError("offline."), r"cannot be loaded \(offline\); give a text file"), (None, "no column 'text'")],
)
def test_a_hub_data_set_that_cannot_be_loaded(
    trouble: Exception | None, sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(*_: object, **__: object) -> list[dict[str, int]]:
        if trouble is not None:
            raise trouble
        return [{"label": 1}]

    monkeypatch.setattr("datasets.load_dataset", load)
    with pytest.raises(AuditError, match=sentence):
        list(open_corpus("owner/name", 100).texts())


def test_the_pocket_corpus_has_the_length_that_is_needed() -> None:
    corpus = open_corpus("pocket", 200)
    texts = list(corpus.texts())
    assert texts and all(texts)
    assert corpus.fingerprint == open_corpus("pocket", 200).fingerprint == fallback_corpus(200, "offline").fingerprint
