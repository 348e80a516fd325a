"""Where covariance texts come from."""

from pathlib import Path

import pytest

from audit.editors.stages.corpora import open_corpus
from audit.errors import AuditError


def test_a_text_file_is_read_by_paragraphs(tmp_path: Path) -> None:
    path = tmp_path / "mine.txt"
    path.write_text("One line.\nStill the first.\n\n\nThe second.\n", encoding="utf-8")
    corpus = open_corpus(str(path), 100)
    assert list(corpus.texts()) == ["One line.\nStill the first.", "The second."]
    assert list(corpus.texts()) == list(corpus.texts())
    assert corpus.origin == "mine.txt"


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


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "binary.txt"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(AuditError, match="not UTF-8"):
        open_corpus(str(path), 100)


def test_a_hub_data_set_is_named_by_config_and_split(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[object, ...]] = []

    def load(name: str, config: str | None, split: str, streaming: bool) -> list[dict[str, str]]:
        asked.append((name, config, split, streaming))
        return [{"text": "One."}, {"text": "Two."}]

    monkeypatch.setattr("datasets.load_dataset", load)
    corpus = open_corpus("owner/name:en@test", 100)
    assert asked == []  # nothing is fetched before it is needed
    assert list(corpus.texts()) == ["One.", "Two."]
    list(open_corpus("owner/name", 100).texts())
    assert asked == [("owner/name", "en", "test", True), ("owner/name", None, "train", True)]
    assert corpus.fingerprint != open_corpus("owner/name", 100).fingerprint


@pytest.mark.parametrize(
    ("trouble", "sentence"),
    [(ConnectionError("offline."), r"cannot be read \(offline\); give a local"), (None, "no column 'text'")],
)
def test_a_hub_data_set_that_cannot_be_had(
    trouble: Exception | None, sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(*_: object, **__: object) -> list[dict[str, int]]:
        if trouble is not None:
            raise trouble
        return [{"label": 1}]

    monkeypatch.setattr("datasets.load_dataset", load)
    with pytest.raises(AuditError, match=sentence):
        list(open_corpus("owner/name", 100).texts())


def test_the_pocket_corpus_is_made_to_measure() -> None:
    corpus = open_corpus("pocket", 200)
    texts = list(corpus.texts())
    assert texts and all(texts)
    assert corpus.fingerprint == open_corpus("pocket", 200).fingerprint
