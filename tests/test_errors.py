"""The reason that another library gives, as part of one sentence: also an exception without a message has one."""

from pathlib import Path
from types import SimpleNamespace

import pytest
from huggingface_hub.errors import HfHubHTTPError

from audit.abilities.data.sources import FolderSource
from audit.errors import AuditError, first_line
from audit.models.loading import hub_sentences
from audit.reports.workflows.grid_cells import Cell
from audit.workflows.grid.cells import FailedCell
from audit.workflows.grid.ray import _received


@pytest.mark.parametrize(
    ("message", "line"),
    [
        ("it broke", "it broke"),
        ("\n it broke: \nat line 7", "it broke"),
        ("it broke.", "it broke"),
        ("", "ValueError"),
        (" \n ", "ValueError"),
        (".", "ValueError"),
    ],
)
def test_the_first_line_of_a_message_or_the_name_of_its_type(message: str, line: str) -> None:
    assert first_line(ValueError(message)) == line


def test_a_data_file_that_fails_without_a_message_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(path: Path) -> None:
        raise OSError

    (tmp_path / "sst2.jsonl").write_text("{}")
    monkeypatch.setattr("audit.abilities.data.files._json_rows", fail)
    with pytest.raises(AuditError, match=r"^cannot read .*sst2\.jsonl for sentiment \(OSError\); put a UTF-8 file"):
        FolderSource(tmp_path).rows("sentiment")


def test_a_hub_that_refuses_without_a_message_is_one_sentence() -> None:
    class RefusedError(HfHubHTTPError):
        def __init__(self) -> None:
            Exception.__init__(self)

    said = r"^the hub refused the model 'owner/model' \(RefusedError\); try again"
    with pytest.raises(AuditError, match=said), hub_sentences("owner/model", None):
        raise RefusedError


def test_a_cell_that_ray_loses_without_a_message_is_one_sentence() -> None:
    errors = pytest.importorskip("ray.exceptions")

    def get(task: object) -> object:
        raise errors.RayError

    found = _received(SimpleNamespace(get=get), None, Cell("pocket-gpt2", "rome", "", "batch-single", 1, 1))
    assert isinstance(found, FailedCell)
    assert found.reason == "Ray lost it (RayError); run the grid again."
