"""What limits a run's edits is in the first lines of the report and in the last line of the summary."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from audit import Audit
from audit.cli import app
from audit.reports.json_report import report_from_json, verdict_json
from audit.reports.markdown import markdown
from audit.reports.rows import RunReport, SkippedEdit
from audit.reports.run_sentences import caveats, header_lines
from audit.reports.terminal import summary
from tests.reports.sample import REPORT
from tests.small_audit import SmallWorld, build

FEW_ROWS = (
    "Only 26 of the 1000 rows of zsre.json can be used as edit requests; correct the other 974, which the report lists "
    "with their reasons."
)
FEW_EDITS = (
    "The edit plan has 2 edits fewer than --edit-count asked for; the report lists the rows that cannot be used."
)


def limited(**header: Any) -> RunReport:
    return replace(REPORT, header=replace(REPORT.header, edits="zsre.json", **header))


@pytest.mark.parametrize(
    ("header", "sentences"),
    [
        ({"edit_rows": 1000, "usable_rows": 26}, (FEW_ROWS,)),
        ({"edit_count": 8, "missing_edits": 2}, (FEW_EDITS,)),
        ({"edit_rows": 1000, "usable_rows": 26, "edit_count": 8, "missing_edits": 2}, (FEW_ROWS, FEW_EDITS)),
        ({"edit_rows": 1000, "usable_rows": 500}, ()),
        ({"edit_count": 8, "missing_edits": 2, "editing_caveats": ("Few texts.",)}, (FEW_EDITS, "Few texts.")),
        ({}, ()),
    ],
)
def test_few_rows_and_few_edits_are_caveats(header: dict[str, Any], sentences: tuple[str, ...]) -> None:
    assert caveats(limited(**header).header) == sentences


@pytest.mark.parametrize("verbosity", [-1, 0, 1])
@pytest.mark.parametrize("width", [40, 100])
def test_a_caveat_is_the_last_line_at_every_verbosity(verbosity: int, width: int) -> None:
    text = summary(limited(edit_rows=1000, usable_rows=26), width=width, verbosity=verbosity)
    assert text.splitlines()[-1] == FEW_ROWS


def test_a_caveat_is_in_the_first_lines_of_the_report_and_in_the_header() -> None:
    report = limited(edit_rows=1000, usable_rows=26)
    assert f"- {FEW_ROWS}" in markdown(report).splitlines()[:6]
    assert header_lines(report.header)[0] == f"audit: {FEW_ROWS}"


def test_what_an_editor_says_survives_the_report_file() -> None:
    report = limited(editing_caveats=("Few texts.", "No texts."))
    again = report_from_json(verdict_json(report), origin="verdict.json")
    assert again.header == report.header
    older = json.loads(verdict_json(report))
    del older["header"]["editing_caveats"]
    assert report_from_json(json.dumps(older), origin="verdict.json").header.editing_caveats == ()


def test_an_audit_without_a_corpus_names_the_one_it_took(tmp_path: Path) -> None:
    small = build(tmp_path, "llama")
    config = {"steps": "2", "layer": "1", "contexts_per_length": "0", "covariance_tokens": "300"}
    options = small.options(editor="rome", editor_config=config, edit_count=2, device="cpu", triage=False)
    for _ in range(2):  # the second time, the patch is read from the store
        audit = Audit(**options, store=tmp_path / "store")
        assert audit.header.editing_caveats == ()  # nothing is edited yet
        report = audit.run(["nli"])
        (caveat,) = report.header.editing_caveats
        assert caveat.startswith("The covariance of the editor was measured on the shipped pocket corpus")
        assert summary(report, width=2000, verbosity=-1).splitlines()[-1] == caveat
        assert f"- {caveat}" in markdown(report).splitlines()
    named = Audit(**options | {"editor_config": config | {"covariance": "pocket"}}, use_store=False).run(["nli"])
    assert named.header.editing_caveats == ()


def test_a_skipped_row_is_named_by_row_and_line() -> None:
    skipped = (SkippedEdit("zsre.json", 1, "alt", "empty", row=27),)
    text = summary(replace(REPORT, skipped=skipped), width=200)
    assert "the first at zsre.json, row 27, line 1 (alt: empty)" in text


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> SmallWorld:
    small = build(tmp_path_factory.mktemp("world"))
    rows = [
        {
            "subject": name,
            "src": f"Where does {name} live?",
            "alt": "Velden" if name == "Mara Lind" else "",
            "answers": ["Marl"],
            "rephrase": "",
            "loc": "",
            "loc_ans": "",
        }
        for name in ("Mara Lind", "Kara Quinwick", "Gira Corley")
    ]
    small.edits.write_text(json.dumps(rows), encoding="utf-8")
    return small


def test_an_audit_of_few_rows_says_so(world: SmallWorld) -> None:
    report = Audit(**world.options(editor="identity", device="cpu", use_store=False)).run(["nli"])
    assert (report.header.edit_rows, report.header.usable_rows, report.header.edit_count) == (3, 1, 1)
    assert summary(report, verbosity=-1).splitlines()[-1].startswith("Only 1 of the 3 rows of ")
    assert [(one.row, one.line) for one in report.skipped] == [(2, 1), (3, 1)]


@pytest.mark.parametrize("command", [["run", "nli"], ["curve", "nli"]])
def test_a_command_says_so_in_its_last_line(world: SmallWorld, tmp_path: Path, command: list[str]) -> None:
    options = {"model": world.model, "edits": world.edits, "data": world.rows, "editor": "identity", "device": "cpu"}
    words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    words += ["--reports", str(tmp_path), "--limit", "8"]
    result = CliRunner().invoke(app, [*command, *words, "--no-store"])
    assert result.stdout.splitlines()[-1].startswith("Only 1 of the 3 rows of "), result.output
