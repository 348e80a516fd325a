"""Cards on disk and on the hub: other bytes stay, and every refusal of the hub is one sentence. The hub is a fake."""

from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard
from huggingface_hub.errors import (
    EntryNotFoundError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
)

from audit.errors import AuditError
from audit.reports.model_card import BEGIN
from audit.workflows.model_page import push_card, write_card
from tests.reports.sample import REPORT


class Hub:
    """A hub with one card, or one that raises; `pushed` are the cards that were committed."""

    def __init__(self, card: Path | Exception, refusal: Exception | None = None) -> None:
        self.card, self.refusal = card, refusal
        self.pushed: list[tuple[str, str, str]] = []

    def download(self, repo: str, file: str) -> str:
        assert file == "README.md"
        if isinstance(self.card, Exception):
            raise self.card
        return str(self.card)

    def push(self, card: ModelCard, repo: str, *, commit_message: str) -> str:
        if self.refusal is not None:
            raise self.refusal
        self.pushed.append((repo, str(card), commit_message))
        return f"https://hub.example/{repo}/commit/1"

    def install(self, monkeypatch: pytest.MonkeyPatch) -> "Hub":
        monkeypatch.setattr("audit.workflows.model_page.hf_hub_download", self.download)
        monkeypatch.setattr(ModelCard, "push_to_hub", lambda card, *args, **named: self.push(card, *args, **named))
        return self


class NoRepositoryError(RepositoryNotFoundError):
    """Without the response of a server, which the real one needs."""

    def __init__(self) -> None:
        Exception.__init__(self, "404")


@pytest.mark.parametrize("start", [b"", b"\xef\xbb\xbf"])
def test_a_card_on_disk_keeps_its_bytes(start: bytes, tmp_path: Path) -> None:
    file = tmp_path / "README.md"
    body = "# Mine\r\n\r\nTwo  blanks, é\r\n".encode()
    file.write_bytes(start + b"---\r\nlicense: mit\r\n---\r\n" + body)
    write_card(file, REPORT)
    whole = file.read_bytes()
    assert whole.startswith(start + b"---\r\nlicense: mit\r\n")
    assert body in whole
    assert whole.replace(b"\r\n", b"").count(b"\n") == 0
    write_card(file, REPORT)
    assert file.read_bytes() == whole


def test_a_new_card_is_written_with_its_folder(tmp_path: Path) -> None:
    write_card(tmp_path / "model" / "README.md", REPORT, name="mine")
    assert ModelCard.load(tmp_path / "model" / "README.md").data.model_name == "mine"


def test_a_file_that_is_no_text_or_no_file_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(AuditError, match=r"--out .*binary: it is not UTF-8 text; give the README\.md"):
        write_card(tmp_path / "binary", REPORT)
    with pytest.raises(AuditError, match=r"--out .* cannot be written"):
        write_card(tmp_path / "binary" / "README.md", REPORT)


def test_the_card_on_the_hub_is_merged_and_committed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "README.md").write_text("---\nlicense: mit\n---\n# Theirs\n", encoding="utf-8")
    hub = Hub(tmp_path / "README.md").install(monkeypatch)
    assert push_card("me/mine", REPORT) == "https://hub.example/me/mine/commit/1"
    ((repo, text, message),) = hub.pushed
    assert (repo, message) == ("me/mine", "Add the audit of the edit")
    assert text.startswith("---\nlicense: mit\n")
    assert "# Theirs\n" in text and BEGIN in text


def test_a_model_without_a_card_gets_one(monkeypatch: pytest.MonkeyPatch) -> None:
    hub = Hub(EntryNotFoundError("404")).install(monkeypatch)
    push_card("me/mine", REPORT, name="mine")
    assert "# `mine`" in hub.pushed[0][1]


@pytest.mark.parametrize(
    ("hub", "error"),
    [
        (Hub(HFValidationError("bad")), "is not the id of a model on the hub; write NAME or OWNER/NAME"),
        (Hub(NoRepositoryError()), "the hub has no such model, or this token may not see it"),
        (Hub(LocalEntryNotFoundError("no connection")), "the hub cannot be reached"),
        (Hub(OfflineModeIsEnabled("offline")), "unset HF_HUB_OFFLINE, or write the card with --out"),
        (Hub(EntryNotFoundError("404"), ValueError("base_model: bad\nmore")), r"refused the card \(base_model: bad\)"),
        (Hub(EntryNotFoundError("404"), RuntimeError("reset")), r"refused the card \(reset\)"),
    ],
)
def test_a_refusal_is_one_sentence(hub: Hub, error: str, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.install(monkeypatch)
    with pytest.raises(AuditError, match=error) as caught:
        push_card("me/mine", REPORT)
    assert "\n" not in str(caught.value)
    assert hub.pushed == []


def test_a_damaged_card_on_the_hub_is_not_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "README.md").write_text(f"{BEGIN}\n", encoding="utf-8")
    hub: Any = Hub(tmp_path / "README.md").install(monkeypatch)
    with pytest.raises(AuditError, match="the card of me/mine has 1 markers"):
        push_card("me/mine", REPORT)
    assert hub.pushed == []
