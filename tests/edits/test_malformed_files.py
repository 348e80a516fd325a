"""Every malformed file gives an error of one sentence with the file, the line, the field and a remedy."""

import errno
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from audit.edits.sources import load_requests
from audit.errors import AuditError

GOOD: dict[str, Any] = {"subject": "Velden", "prompt": "The capital of {} is", "target_new": "Orsk"}
PROBE = {"prompt": "The capital of Marn is", "answer": "Marl"}
ZSRE: dict[str, Any] = {
    "subject": "Mara Lind",
    "src": "Where was Mara Lind born?",
    "alt": "Velden",
    "answers": ["Marl"],
    "rephrase": "Mara Lind hails from where?",
    "loc": "nq question: who wrote it",
    "loc_ans": "Ina Roth",
}
FLAT: dict[str, Any] = {
    "case_id": 7,
    "prompt": "Mara Lind was born in",
    "subject": "Mara Lind",
    "target_new": "Velden",
    "ground_truth": "Marl",
    "rephrase_prompt": "Mara Lind hails from",
    "locality_prompt": "Ina Roth was born in",
    "locality_ground_truth": "Marl",
}
NESTED: dict[str, Any] = {
    "case_id": 7,
    "requested_rewrite": {
        "prompt": "{} was born in",
        "subject": "Mara Lind",
        "target_new": {"str": "Velden"},
        "target_true": {"str": "Marl"},
    },
    "paraphrase_prompts": ["Mara Lind hails from"],
    "neighborhood_prompts": ["Ina Roth was born in"],
}


def lines(*rows: Any) -> bytes:
    return "\n".join(json.dumps(row) for row in rows).encode("utf-8")


def without(row: dict[str, Any], field: str) -> dict[str, Any]:
    return {key: value for key, value in row.items() if key != field}


def second(**change: Any) -> bytes:
    """A good first row and a bad second one in our own format."""
    return lines(GOOD, GOOD | {"subject": "Tarn"} | change)


CASES: dict[str, tuple[bytes, Sequence[str]]] = {
    # not JSON
    "empty": (b"", ["the file is empty", "write one complete JSON object on each line"]),
    "blank": (b" \n\t\r\n ", ["the file is empty", "write one complete JSON object on each line"]),
    "binary": (b"\x89PNG\r\n\x1a\n\x00\xff", ["is not UTF-8 text (byte 0)", "save it as plain UTF-8 JSON"]),
    "gzip": (b"\x1f\x8b\x08\x00\x00", ["is not UTF-8 text (byte 1)", "unpacked"]),
    "utf-16": ('{"a": 1}'.encode("utf-16"), ["is not UTF-8 text (byte 0)", "save it as plain UTF-8 JSON"]),
    "nul bytes": (b'{"a":\n\x00}', ["line 2", "NUL byte", "save it as plain UTF-8 JSON"]),
    "csv": (b"subject,prompt,target_new\nVelden,x,y\n", ["line 1", "is not JSON", "write one complete JSON object"]),
    "python": (b"{'subject': 'Velden'}", ["line 1", "is not JSON", "write one complete JSON object"]),
    "cut line": (
        lines(GOOD) + b'\n{"subject": "Ta',
        ["line 2", "is not JSON", "column 13", "one complete JSON object"],
    ),
    "two on a line": (lines(GOOD) + b" " + lines(GOOD), ["line 1", "is not JSON", "Extra data", "on each line"]),
    "cut array": (b"[" + lines(GOOD) + b",\n", ["line 2", "is not JSON", "one JSON array of objects"]),
    "unclosed array": (b"[" + lines(GOOD) + b"\n", ["line 2", "the list is not closed", "one JSON array of objects"]),
    "no comma": (b"[" + lines(GOOD) + b"\n" + lines(GOOD) + b"]", ["line 2", "in place of a comma", "JSON array"]),
    "after the array": (b"[" + lines(GOOD) + b"]\n\nx", ["line 3", "text after the closing bracket", "JSON array"]),
    "empty array": (b"[ ]", ["the list is empty", "add at least one edit request"]),
    "deep nesting": (b"[" * 200_000, ["line 1", "is not JSON", "one JSON array of objects"]),
    "NaN": (b'{"subject": NaN}', ["line 1", "NaN is not a JSON value", "write one complete JSON object"]),
    "endless number": (b'{"subject": ' + b"9" * 5000 + b"}", ["line 1", "is not JSON", "one complete JSON object"]),
    "key twice": (
        b'{"subject": "a", "subject": "b"}',
        ["line 1", 'the key "subject" occurs twice', "write one complete JSON object"],
    ),
    # JSON, but no rows of a known format
    "a text": (b'"Velden"', ["line 1", 'the row is text ("Velden"), not an object', "write one complete JSON object"]),
    "a list a line": (b"[[1]]", ["line 1", "the row is a list ([1]), not an object", "one JSON array of objects"]),
    "null later": (lines(GOOD) + b"\nnull", ["line 2", "the row is null", "write one complete JSON object"]),
    "strange keys": (lines({"question": 1}), ["line 1", 'its keys ("question")', "docs/edit-requests.md"]),
    "no keys": (b"{}", ["line 1", "its keys (none)", "give each row 'subject', 'prompt' and 'target_new'"]),
    "wrapped": (lines({"data": [GOOD]}), ["line 1", 'its keys ("data")', "or a file of a benchmark"]),
    "mixed formats": (lines(ZSRE, NESTED), ["line 2", "has the format CounterFact", "use one format in a file"]),
    # our own format: every bad row is an error
    "no subject": (lines(GOOD, without(GOOD, "subject")), ["line 2", "field 'subject'", "is missing", "add 'subject'"]),
    "no prompt": (
        lines(without(GOOD, "prompt")),
        ["line 1", "not recognized", "our own format lacks 'prompt'", "give each row"],
    ),
    "no target": (
        lines(GOOD, without(GOOD, "target_new")),
        ["line 2", "field 'target_new'", "is missing", "add 'target_new'"],
    ),
    "subject a number": (second(subject=3), ["line 2", "field 'subject'", "a number (3)", "write it in quotes"]),
    "prompt null": (second(prompt=None), ["line 2", "field 'prompt'", "is null", "write it in quotes"]),
    "target a list": (second(target_new=["a"]), ["line 2", "field 'target_new'", "a list", "write it in quotes"]),
    "target a truth": (second(target_new=True), ["line 2", "field 'target_new'", "true/false (true)", "in quotes"]),
    "empty subject": (second(subject=" "), ["line 2", "field 'subject'", "is empty", "write the subject of the fact"]),
    "empty prompt": (second(prompt=""), ["line 2", "field 'prompt'", "is empty", "with one {}"]),
    "empty target": (second(target_new="\t"), ["line 2", "field 'target_new'", "is empty", "write the answer"]),
    "two-line target": (second(target_new="a\nb"), ["line 2", "field 'target_new'", "line break", "on one line"]),
    "lone surrogate": (
        second(target_new="\ud800"),
        ["line 2", "field 'target_new'", "lone surrogate", "write the character itself"],
    ),
    "target is old": (
        second(target_new="the orsk.", target_true="Orsk"),
        ["line 2", "field 'target_new'", 'equals the old answer "Orsk"', "give an answer that differs"],
    ),
    "empty old answer": (second(target_true=""), ["line 2", "field 'target_true'", "is empty", "leave the field out"]),
    "subject not in prompt": (
        second(prompt="The capital of Marl is"),
        ["line 2", "field 'prompt'", "contains no {}", "write {} where the subject goes"],
    ),
    "subject for braces": (
        second(prompt="The capital of Tarn is"),
        ["line 2", "field 'prompt'", 'contains the subject "Tarn" but no {}', "write {} in place of the subject"],
    ),
    "braces twice": (second(prompt="{} of {}"), ["line 2", "field 'prompt'", "contains {} 2 times", "keep one {}"]),
    "duplicate": (
        lines(GOOD, GOOD | {"subject": "Tarn"}, GOOD),
        ["line 3", "field 'subject'", "is a duplicate of row 1 (line 1)", "remove one of the two rows"],
    ),
    "contradiction": (
        lines(GOOD, GOOD | {"target_new": "Marl"}),
        [
            "line 2",
            "field 'target_new'",
            'contradicts row 1 (line 1), which edits "The capital of Velden is" to "Orsk"',
            "keep",
        ],
    ),
    "case id twice": (
        lines(GOOD | {"case_id": 1}, GOOD | {"subject": "Tarn", "case_id": "1"}),
        ["line 2", "field 'case_id'", "already used in row 1 (line 1)", "its own case_id"],
    ),
    "case id a truth": (second(case_id=False), ["line 2", "field 'case_id'", "true/false", "write it in quotes"]),
    "case id empty": (second(case_id=""), ["line 2", "field 'case_id'", "is empty", "leave the field out"]),
    "misspelled field": (
        second(target_ture="Marl"),
        ["line 2", "field 'target_ture'", "is not a known field", "write 'target_true' if that was meant"],
    ),
    "odd field": (
        second(xyz=1),
        ["line 2", "field 'xyz'", "is not a known field", "remove it; known fields are subject"],
    ),
    "odd field on two lines": (second(**{"x\ny": 1}), ["line 2", r"field 'x\ny'", "is not a known field", "remove it"]),
    "paraphrases a text": (
        second(paraphrases="Tarn is ruled from"),
        ["line 2", "field 'paraphrases'", "not a list", "write a list of texts in [ ]"],
    ),
    "paraphrase a number": (second(paraphrases=["a", 2]), ["line 2", "field 'paraphrases[1]'", "number", "in quotes"]),
    "paraphrase empty": (
        second(paraphrases=[""]),
        ["line 2", "field 'paraphrases[0]'", "is empty", "write a complete prompt"],
    ),
    "paraphrase with braces": (
        second(paraphrases=["{} is ruled from"]),
        ["line 2", "field 'paraphrases[0]'", "contains {}", "write the subject"],
    ),
    "paraphrase is the prompt": (
        second(paraphrases=["The capital of Tarn is"]),
        ["line 2", "field 'paraphrases[0]'", "is the edit prompt itself", "word it differently"],
    ),
    "probe a text": (
        second(neighborhood=["x"]),
        ["line 2", "field 'neighborhood[0]'", "not an object", "write an object in { }"],
    ),
    "probes an object": (
        second(portability=PROBE),
        ["line 2", "field 'portability'", "not a list", "write a list of objects in [ ]"],
    ),
    "probe without answer": (
        second(neighborhood=[PROBE, without(PROBE, "answer")]),
        ["line 2", "field 'neighborhood[1].answer'", "is missing", "add 'answer'"],
    ),
    "probe with empty answer": (
        second(portability=[PROBE | {"answer": ""}]),
        ["line 2", "field 'portability[0].answer'", "is empty", "write the answer"],
    ),
    "probe with odd field": (
        second(neighborhood=[PROBE | {"target": "x"}]),
        ["line 2", "field 'neighborhood[0].target'", "is not a known field", "known fields are prompt, answer"],
    ),
    # a benchmark's file: a missing field or a wrong type is an error too
    "zsre without answers": (
        lines(ZSRE, without(ZSRE, "answers")),
        ["line 2", "field 'answers'", "is missing", "add 'answers'"],
    ),
    "zsre answers a number": (lines(ZSRE | {"answers": 4}), ["line 1", "field 'answers'", "a number (4)", "in quotes"]),
    "zsre answers of numbers": (lines(ZSRE | {"answers": [4]}), ["line 1", "field 'answers[0]'", "number", "quotes"]),
    "flat without rephrase": (
        lines(FLAT, without(FLAT, "rephrase_prompt")),
        ["line 2", "field 'rephrase_prompt'", "is missing", "add 'rephrase_prompt'"],
    ),
    "nested target a text": (
        lines(NESTED | {"requested_rewrite": NESTED["requested_rewrite"] | {"target_new": "Velden"}}),
        ["line 1", "field 'requested_rewrite.target_new'", "not an object", "write an object in { }"],
    ),
    "nested without str": (
        lines(NESTED | {"requested_rewrite": NESTED["requested_rewrite"] | {"target_true": {"id": "Q1"}}}),
        ["line 1", "field 'requested_rewrite.target_true.str'", "is missing", "add 'str'"],
    ),
    "nested prompts a text": (
        lines(NESTED | {"neighborhood_prompts": "x"}),
        ["line 1", "field 'neighborhood_prompts'", "not a list", "write a list of texts in [ ]"],
    ),
    "nothing usable": (
        lines(ZSRE | {"alt": ""}, ZSRE | {"alt": "Marl"}),
        ["none of its 2 rows can be used", "line 1", "field 'alt'", "is empty", "correct them"],
    ),
}


@pytest.mark.parametrize(("content", "parts"), CASES.values(), ids=CASES.keys())
def test_a_malformed_file_gives_an_error_of_one_sentence(tmp_path: Path, content: bytes, parts: Sequence[str]) -> None:
    path = tmp_path / "broken.jsonl"
    path.write_bytes(content)
    with pytest.raises(AuditError) as error:
        load_requests(str(path))
    sentence = str(error.value)
    assert [part for part in ("broken.jsonl", *parts) if part not in sentence] == [], sentence
    assert len(sentence.splitlines()) == 1
    assert sentence.endswith(".")


def test_there_are_at_least_thirty() -> None:
    assert len(CASES) >= 30


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("missing.jsonl", ["missing.jsonl", "neither a known name nor a file", "give pocket, or the path of a file"]),
        (".", ["is a folder", "give one file"]),
    ],
)
def test_a_path_of_another_kind(tmp_path: Path, name: str, parts: Sequence[str]) -> None:
    check_path(tmp_path / name, parts)


def test_a_pipe_and_a_device_are_named(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    check_path(
        tmp_path / "pipe", ["cannot be read (pipe is a named pipe, not a file); give a file with read permission"]
    )
    check_path(Path("/dev/null"), ["cannot be read (null is a device, not a file)"])


def test_a_path_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "exists", refuse)
    monkeypatch.setattr(Path, "is_dir", refuse)
    check_path(tmp_path / "edits.jsonl", ["edits.jsonl: cannot be read (Permission denied); give a file with read"])


def check_path(path: Path, parts: Sequence[str]) -> None:
    with pytest.raises(AuditError) as error:
        load_requests(str(path))
    assert all(part in str(error.value) for part in parts), str(error.value)
    assert len(str(error.value).splitlines()) == 1
