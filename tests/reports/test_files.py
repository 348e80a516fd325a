"""Files of a report land beside each other, or the user hears why not."""

from pathlib import Path

import pytest

from audit.errors import AuditError
from audit.reports.folder import write_texts, written_into


def test_texts_land_in_a_folder_that_is_made(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    assert write_texts(folder, {"one.md": "é\n", "two.json": "{}"}) == (folder / "one.md", folder / "two.json")
    assert (folder / "one.md").read_bytes() == "é\n".encode()
    assert write_texts(folder, {"one.md": "new"}) == (folder / "one.md",)
    assert (folder / "one.md").read_text(encoding="utf-8") == "new"


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    with pytest.raises(AuditError, match=r"--reports .*file/x: it cannot be written \(.+\); give another folder"):
        write_texts(tmp_path / "file" / "x", {"one.md": ""})
    with pytest.raises(AuditError, match="--out "), written_into(tmp_path / "file", "--out"):
        raise AssertionError("not reached")
