"""A run's folder appears whole or not at all."""

from dataclasses import replace
from pathlib import Path

import pytest

from audit.errors import AuditError
from audit.reports import folder as folder_module
from audit.reports.folder import read_report, run_name, write_report
from tests.reports.sample import REPORT


def test_the_folder_is_stamped_and_named(tmp_path: Path) -> None:
    folder = write_report(REPORT, tmp_path / "reports")
    assert folder == tmp_path / "reports" / "20261121-101500-memit-pocket-gpt2"
    assert sorted(path.name for path in folder.iterdir()) == ["items.jsonl", "report.html", "report.md", "verdict.json"]
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


@pytest.mark.parametrize(
    ("editor", "model", "name"),
    [
        ("my_lab.editors:Surgeon", "meta-llama/Llama-2-7b-hf", "20261121-101500-Surgeon-Llama-2-7b-hf"),
        ("memit", "./my models/edited one/", "20261121-101500-memit-edited-one"),
        ("memit", "..", "20261121-101500-memit-"),
    ],
)
def test_names_hold_on_every_file_system(editor: str, model: str, name: str) -> None:
    assert run_name(replace(REPORT, header=replace(REPORT.header, editor=editor, model=model))) == name


def test_runs_of_the_same_second_are_numbered(tmp_path: Path) -> None:
    names = [write_report(REPORT, tmp_path).name for _ in range(3)]
    first = "20261121-101500-memit-pocket-gpt2"
    assert names == [first, f"{first}-2", f"{first}-3"]


def test_what_was_written_is_read_back_with_its_place(tmp_path: Path) -> None:
    folder = write_report(REPORT, tmp_path)
    assert read_report(folder, with_items=True) == replace(REPORT, folder=str(folder))
    assert read_report(folder / "verdict.json").items == ()
    assert f"`{folder}`" not in (folder / "report.md").read_text(encoding="utf-8").splitlines()[0]


def test_a_writer_that_breaks_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(report: object) -> str:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(folder_module, "markdown", broken)
    with pytest.raises(AuditError, match=r"cannot be written there \(No space left on device\)"):
        write_report(REPORT, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_without_a_run_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(AuditError, match=r"verdict\.json cannot be read: give the folder of a run"):
        read_report(tmp_path)
