"""The published files load unchanged (slices of them, outside the repository)."""

import os
from pathlib import Path

import pytest

from audit.edits.sources import load_requests

SHARED = Path(os.environ.get("AUDIT_SHARED", Path(__file__).resolve().parents[2] / "../shared"))


def real_file(name: str) -> str:
    path = SHARED / "data" / "real" / name
    if not path.is_file():
        pytest.skip(f"{name} is not there: it is not part of the repository (set AUDIT_SHARED to its folder)")
    return str(path)


@pytest.mark.parametrize(
    ("name", "rows", "skipped"),
    [
        ("zsre.jsonl", 71, [(55, "alt")]),
        ("counterfact_easyedit.jsonl", 400, []),
        ("counterfact_rebuilt.jsonl", 400, []),
    ],
)
def test_published_files_load(name: str, rows: int, skipped: list[tuple[int, str]]) -> None:
    loaded = load_requests(real_file(name))
    assert [(row.line, row.field) for row in loaded.skipped] == skipped
    assert len(loaded.requests) + len(skipped) == rows
    assert all(request.prompt.count("{}") == 1 and request.target_true for request in loaded.requests)
    assert all(request.paraphrases and request.neighborhood for request in loaded.requests)


def test_both_counterfact_files_contain_the_same_facts() -> None:
    flat = load_requests(real_file("counterfact_easyedit.jsonl")).requests
    nested = {request.case_id: request for request in load_requests(real_file("counterfact_rebuilt.jsonl")).requests}
    for request in flat:
        twin = nested[request.case_id]
        assert (request.filled_prompt, request.target_new, request.target_true) == (
            twin.filled_prompt,
            twin.target_new,
            twin.target_true,
        )
