"""Edit requests in all formats, and their selection."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from audit.edits.checks import put_slot
from audit.edits.requests import EditRequest, Probe
from audit.edits.rows import SkippedRow, UnusableError
from audit.edits.sources import load_requests, requests_fingerprint
from audit.errors import AuditError
from tests.edits.test_ours import write_requests

OURS = {"subject": "Velden", "prompt": "The capital of {} is", "target_new": "Orsk"}
ZSRE = {
    "subject": "Mara Lind",
    "src": "Where was Mara Lind born?",
    "pred": "Orsk",
    "alt": "Velden",
    "answers": ["Marl", "Marl City"],
    "rephrase": "What is Mara Lind's place of birth?",
    "loc": "nq question: who wrote it",
    "loc_ans": "Ina Roth",
    "cond": "ignored",
}
NESTED = {
    "case_id": 7,
    "requested_rewrite": {
        "prompt": "{} was born in",
        "subject": "Mara Lind",
        "target_new": {"str": "Velden", "id": "Q1"},
        "target_true": {"str": "Marl", "id": "Q2"},
    },
    "paraphrase_prompts": ["Mara Lind hails from"],
    "neighborhood_prompts": ["Ina Roth was born in", "Ivo Roth was born in"],
    "attribute_prompts": [],
}
FLAT = {
    "case_id": 7,
    "prompt": "Mara Lind was born in",
    "subject": "Mara Lind",
    "target_new": "Velden",
    "ground_truth": "Marl",
    "rephrase_prompt": "Mara Lind hails from",
    "locality_prompt": "Ina Roth was born in",
    "locality_ground_truth": "Marl",
}


def write(folder: Path, rows: Sequence[dict[str, Any]], name: str = "edits.txt") -> str:
    path = folder / name
    path.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    return str(path)


def ours(count: int) -> list[dict[str, Any]]:
    return [OURS | {"subject": f"Place {index}"} for index in range(count)]


def test_our_own_schema_with_every_field(tmp_path: Path) -> None:
    row = OURS | {
        "case_id": 12,
        "target_true": "Marl",
        "paraphrases": ["Velden is governed from"],
        "neighborhood": [{"prompt": "The capital of Tarn is", "answer": "Marl"}],
        "portability": [{"prompt": "The mayor of Velden's capital is", "answer": "Ina"}],
    }
    loaded = load_requests(write(tmp_path, [row]))
    assert loaded.requests == (
        EditRequest(
            "12",
            "Velden",
            "The capital of {} is",
            "Orsk",
            "Marl",
            ("Velden is governed from",),
            (Probe("The capital of Tarn is", "Marl"),),
            (Probe("The mayor of Velden's capital is", "Ina"),),
        ),
    )
    assert loaded.skipped == ()
    assert loaded.origin.endswith("edits.txt")


def test_zsre_edits_towards_alt_and_keeps_one_old_answer(tmp_path: Path) -> None:
    (request,) = load_requests(write(tmp_path, [ZSRE])).requests
    assert request == EditRequest(
        "row-1",
        "Mara Lind",
        "Where was {} born?",
        "Velden",
        "Marl",
        ("What is Mara Lind's place of birth?",),
        (Probe("nq question: who wrote it", "Ina Roth"),),
    )
    assert request.filled_prompt == ZSRE["src"]


def test_zsre_portability_of_the_extended_file(tmp_path: Path) -> None:
    row = ZSRE | {"portability": {"Recalled Relation": "x", "New Question": "Which land?", "New Answer": "Tarn"}}
    assert load_requests(write(tmp_path, [row])).requests[0].portability == (Probe("Which land?", "Tarn"),)


def test_counterfact_nested_neighbors_share_the_old_answer(tmp_path: Path) -> None:
    (request,) = load_requests(write(tmp_path, [NESTED])).requests
    assert (request.case_id, request.prompt, request.target_new, request.target_true) == (
        "7",
        "{} was born in",
        "Velden",
        "Marl",
    )
    assert request.neighborhood == (Probe("Ina Roth was born in", "Marl"), Probe("Ivo Roth was born in", "Marl"))


def test_counterfact_flat_is_the_same_fact(tmp_path: Path) -> None:
    (flat,) = load_requests(write(tmp_path, [FLAT])).requests
    (nested,) = load_requests(write(tmp_path, [NESTED])).requests
    assert (flat.filled_prompt, flat.target_new, flat.target_true) == (
        nested.filled_prompt,
        nested.target_new,
        nested.target_true,
    )
    assert flat.neighborhood == nested.neighborhood[:1]


@pytest.mark.parametrize("row", [OURS, ZSRE, NESTED, FLAT], ids=["ours", "zsre", "nested", "flat"])
@pytest.mark.parametrize("name", ["edits.jsonl", "edits.json", "zsre_counterfact.dat"])
def test_the_format_follows_from_the_content(tmp_path: Path, row: dict[str, Any], name: str) -> None:
    lines = load_requests(write(tmp_path, [row], name))
    (tmp_path / name).write_text(json.dumps([row]), encoding="utf-8")
    array = load_requests(str(tmp_path / name))
    assert lines == array


@pytest.mark.parametrize(
    ("base", "change", "field", "reason"),
    [
        (ZSRE, {"alt": "  "}, "alt", "is empty"),
        (ZSRE, {"alt": "marl city."}, "alt", "equals the old answer"),
        (ZSRE, {"alt": "two\nlines"}, "alt", "line break"),
        (ZSRE, {"src": "Where was Ina Roth born?"}, "src", "does not contain the subject"),
        (ZSRE, {"subject": ""}, "subject", "is empty"),
        (FLAT, {"case_id": 8, "target_new": "Marl"}, "target_new", "equals the old answer"),
        (FLAT, {"case_id": 8, "subject": "Ina Roth"}, "prompt", "does not contain the subject"),
        (FLAT, {"case_id": 8, "target_new": ""}, "target_new", "is empty"),
    ],
)
def test_a_benchmarks_unusable_rows_are_skipped_and_listed(
    tmp_path: Path, base: dict[str, Any], change: dict[str, Any], field: str, reason: str
) -> None:
    loaded = load_requests(write(tmp_path, [base, base | change]))
    assert len(loaded.requests) == 1
    (skipped,) = loaded.skipped
    assert (skipped.line, skipped.field) == (2, field)
    assert skipped.file.endswith("edits.txt")
    assert reason in skipped.reason


@pytest.mark.parametrize(
    ("rewrite", "field", "reason"),
    [
        ({"prompt": "born in"}, "requested_rewrite.prompt", "contains no {}"),
        ({"prompt": "{} and {}"}, "requested_rewrite.prompt", "contains {} 2 times"),
        ({"target_new": {"str": ""}}, "requested_rewrite.target_new.str", "is empty"),
        ({"target_new": {"str": "Marl"}}, "requested_rewrite.target_new.str", "equals the old answer"),
    ],
)
def test_unusable_nested_rows_are_skipped(tmp_path: Path, rewrite: dict[str, Any], field: str, reason: str) -> None:
    bad = NESTED | {"case_id": 8, "requested_rewrite": NESTED["requested_rewrite"] | rewrite}
    loaded = load_requests(write(tmp_path, [NESTED, bad]))
    assert [(row.line, row.field) for row in loaded.skipped] == [(2, field)]
    assert reason in loaded.skipped[0].reason


def test_a_benchmarks_repeated_rows_are_skipped_with_the_earlier_line(tmp_path: Path) -> None:
    rows = [ZSRE, ZSRE, ZSRE | {"alt": "Tarn"}]
    loaded = load_requests(write(tmp_path, rows))
    assert loaded.requests[0].target_new == "Velden"
    assert [(row.line, row.field) for row in loaded.skipped] == [(2, "subject"), (3, "alt")]
    assert "duplicate of row 1 (line 1)" in loaded.skipped[0].reason
    assert "contradicts row 1 (line 1)" in loaded.skipped[1].reason


def test_skipped_rows_compare_by_value() -> None:
    assert SkippedRow("f", 1, 1, "alt", "is empty") == SkippedRow("f", 1, 1, "alt", "is empty")


@pytest.mark.parametrize(
    ("text", "subject", "prompt"),
    [
        ("Who is Paul?", "Paul", "Who is {}?"),
        ("Paulus met Paul in Paulstown", "Paul", "Paulus met {} in Paulstown"),
        ("Paul, son of Paul, is", "Paul", "Paul, son of {}, is"),
        ("Whose is Paulstown?", "Paul", "Whose is {}stown?"),
        ("{} is", "Paul", "{} is"),
        ("aaa", "aa", "a{}"),
        ("小林和林的故乡是", "林", "小林和{}的故乡是"),
    ],
)
def test_one_occurrence_becomes_the_slot(text: str, subject: str, prompt: str) -> None:
    assert put_slot("src", text, subject) == prompt


def test_other_braces_in_a_text_stay() -> None:
    (before, after) = put_slot("src", "What does {x} of Paul mean?", "Paul").split("{}")
    assert (before, after) == ("What does {x} of ", " mean?")
    with pytest.raises(UnusableError):
        put_slot("src", "{} and {} of Paul", "Paul")


def test_a_draw_is_seeded_and_a_larger_count_only_appends(tmp_path: Path) -> None:
    path = write(tmp_path, ours(30))
    few, more = (load_requests(path).draw(count, 3).requests for count in (5, 12))
    assert more[:5] == few
    assert load_requests(path).draw(12, 3).requests == more
    assert load_requests(path).draw(12, 4).requests != more
    assert set(load_requests(path).draw(30, 3).requests) == set(load_requests(path).requests)


def test_without_a_count_the_file_keeps_its_order(tmp_path: Path) -> None:
    assert [request.subject for request in load_requests(write(tmp_path, ours(4))).requests] == [
        "Place 0",
        "Place 1",
        "Place 2",
        "Place 3",
    ]


def test_the_fingerprint_follows_content_and_order(tmp_path: Path) -> None:
    loaded = load_requests(write(tmp_path, ours(3)))
    assert loaded.fingerprint == requests_fingerprint(loaded.requests)
    assert requests_fingerprint(loaded.requests[::-1]) != loaded.fingerprint
    assert loaded.draw(2, 0).fingerprint != loaded.fingerprint


@pytest.mark.parametrize("count", [0, -1, 4])
def test_invalid_counts_are_refused(tmp_path: Path, count: int) -> None:
    with pytest.raises(AuditError) as error:
        load_requests(write(tmp_path, ours(3))).draw(count, 0)
    assert f"--edit-count {count}" in str(error.value)
    assert ("at least 1" in str(error.value)) or ("3 usable" in str(error.value) and "at most 3" in str(error.value))


def test_a_count_beyond_the_usable_rows_mentions_the_skipped(tmp_path: Path) -> None:
    with pytest.raises(AuditError, match=r"2 is more than the 1 usable .*edits.txt \(1 rows were skipped\)"):
        load_requests(write(tmp_path, [ZSRE, ZSRE | {"alt": ""}])).draw(2, 0)


def test_a_misspelled_name_gets_a_suggestion() -> None:
    with pytest.raises(
        AuditError, match=r"--edits 'poket' is neither a known name nor a file \(did you mean 'pocket'\?\)"
    ):
        load_requests("poket")


def test_the_pocket_requests_are_valid_in_our_own_format(tmp_path: Path) -> None:
    loaded = load_requests("pocket")
    write_requests(tmp_path / "pocket.jsonl", loaded.requests)
    assert load_requests(str(tmp_path / "pocket.jsonl")).requests == loaded.requests
    assert loaded.origin == "pocket"
    assert len(load_requests("pocket").draw(10, 1).requests) == 10


@pytest.mark.parametrize("layout", [json.dumps, lambda rows: json.dumps(rows, indent=1)], ids=["one line", "indented"])
def test_all_rows_of_an_array_are_used_on_one_line_too(tmp_path: Path, layout: Callable[[Any], str]) -> None:
    path = tmp_path / "edits.json"
    path.write_text(layout([ZSRE | {"src": f"Where was Mara Lind born {k}?"} for k in range(50)]), encoding="utf-8")
    loaded = load_requests(str(path))
    assert loaded.skipped == ()
    assert [request.case_id for request in loaded.requests] == [f"row-{k + 1}" for k in range(50)]
    assert loaded.rows == 50


def test_messages_name_the_row_and_the_line(tmp_path: Path) -> None:
    path = tmp_path / "edits.json"
    path.write_text(json.dumps([*ours(3), ours(1)[0]]), encoding="utf-8")
    with pytest.raises(
        AuditError, match=r"edits.json, row 4, line 1, field 'subject': .* duplicate of row 1 \(line 1\)"
    ):
        load_requests(str(path))
    path.write_text(json.dumps([ZSRE, ZSRE | {"alt": ""}]), encoding="utf-8")
    assert [(one.row, one.line) for one in load_requests(str(path)).skipped] == [(2, 1)]
