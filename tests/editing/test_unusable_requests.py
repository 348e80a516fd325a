"""A request that the model's tokenizer or the editor cannot use is found before anything is edited."""

import json
from pathlib import Path
from typing import Any

import pytest

from audit import Audit
from audit.editors.stages.base_editor import BaseEditor
from audit.errors import AuditError
from audit.reports.markdown import markdown
from audit.reports.terminal import summary
from tests.small_audit import NAMES, SmallWorld, build

COIN = "How many coins has Velden?"  # " coins" is one token, so the subject "coin" ends inside a token


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> SmallWorld:
    return build(tmp_path_factory.mktemp("world"))


def zsre(subject: str, prompt: str) -> dict[str, Any]:
    return {
        "subject": subject,
        "src": prompt,
        "alt": "Calton",
        "answers": ["Marl"],
        "rephrase": "",
        "loc": "Who is it",
        "loc_ans": "Mara",
    }


ROWS = [zsre(name, f"Where does {name} live?") for name in NAMES[:2]] + [zsre("coin", COIN)]
ROWS += [zsre(name, f"Where does {name} live?") for name in NAMES[2:]]


def audit(world: SmallWorld, folder: Path, rows: list[dict[str, Any]], **more: Any) -> Audit:
    edits = folder / "edits.json"
    edits.write_text(json.dumps(rows), encoding="utf-8")
    return Audit(
        **world.options(**{"editor": "memit", "device": "cpu", "use_store": False, "edits": str(edits)} | more)
    )


@pytest.fixture
def edited(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes of the batches that an editor was given."""
    seen: list[int] = []
    original = BaseEditor.edit

    def counting(self: Any, lm: Any, requests: Any, progress: Any = None) -> Any:
        seen.append(len(requests))
        return original(self, lm, requests, progress)

    monkeypatch.setattr(BaseEditor, "edit", counting)
    return seen


@pytest.mark.parametrize("seed", range(4))
def test_another_row_is_taken_in_place_of_an_unusable_one(
    world: SmallWorld, tmp_path: Path, edited: list[int], seed: int
) -> None:
    run = audit(world, tmp_path, ROWS, edit_count=4, seed=seed)
    run.prepare()
    assert edited == []
    assert sorted(request.subject for request in run.requests) == sorted(NAMES)
    assert run.header.missing_edits == 0
    skipped = run.report().skipped
    assert all((one.row, one.field) == (3, "row") and "'coin' cannot be found" in one.reason for one in skipped)


def test_the_requests_of_a_seed_stay_the_same_without_unusable_rows(world: SmallWorld, tmp_path: Path) -> None:
    few, more = (
        audit(world, tmp_path, [row for row in ROWS if row["subject"] != "coin"], edit_count=count) for count in (2, 4)
    )
    few.prepare(), more.prepare()
    assert more.requests[:2] == few.requests


def test_too_few_usable_rows_are_edited_and_said(world: SmallWorld, tmp_path: Path) -> None:
    report = audit(world, tmp_path, ROWS, edit_count=5, editor="identity").run(["nli"])
    assert report.header.edit_count == 5  # this editor needs no token of the subject
    run = audit(world, tmp_path, ROWS, edit_count=5)
    run.prepare()
    assert (run.header.edit_count, run.header.missing_edits, run.header.usable_rows) == (4, 1, 4)
    last = summary(run.report(), verbosity=-1).splitlines()[-1]
    assert last.startswith("The edit plan has 1 edit fewer than --edit-count asked for;")


def test_an_unusable_row_of_our_own_format_is_an_error_with_its_place(
    world: SmallWorld, tmp_path: Path, edited: list[int]
) -> None:
    rows = [{"subject": "coin", "prompt": COIN.replace("coin", "{}"), "target_new": "Calton"}]
    rows += [{"subject": name, "prompt": "{} lives in", "target_new": "Calton"} for name in NAMES]
    with pytest.raises(AuditError, match=r"edits.json, row 1, line 1: the last token of the subject 'coin' .*; put a"):
        audit(world, tmp_path, rows, edit_count=5).prepare()
    assert edited == []


def test_a_file_without_any_usable_row_is_an_error(world: SmallWorld, tmp_path: Path) -> None:
    with pytest.raises(AuditError, match=r"no edit request of .* can be used by the editor memit on .*'coin'"):
        audit(world, tmp_path, [zsre("coin", COIN)], edit_count=1).prepare()


def test_an_editor_that_needs_the_old_answer_refuses_requests_without_one(world: SmallWorld, tmp_path: Path) -> None:
    rows = [{**zsre(name, f"Where does {name} live?"), "answers": []} for name in NAMES]
    with pytest.raises(AuditError, match=r"no edit request of .* can be used by the editor kn .* has no old answer"):
        audit(world, tmp_path, rows, editor="kn").prepare()


def test_a_prompt_that_does_not_fit_into_the_context_is_skipped(world: SmallWorld, tmp_path: Path) -> None:
    long = zsre("Mara", f"Where does Mara, {'who is old, ' * 100}live?")
    run = audit(world, tmp_path, [long, *ROWS[:2]], edit_count=2, editor="ft")
    run.prepare()
    assert {request.subject for request in run.requests} == set(NAMES[:2])


def test_a_subject_whose_last_token_covers_punctuation_is_edited_and_noted(world: SmallWorld, tmp_path: Path) -> None:
    run = audit(world, tmp_path, [zsre("coins. #", "What is coins. ####")], edit_count=1)  # "##" is a token
    run.prepare()
    report = run.report()
    note = "row-1: the last token of the subject 'coins. #' also covers '#' after it"
    assert report.edit_notes == (note,)
    assert note in markdown(report) and note in summary(report, width=200)
