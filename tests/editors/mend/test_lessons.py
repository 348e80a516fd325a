"""Training data of the editing network: splits by subject, without the facts of the pocket requests."""

import json
import os
from pathlib import Path

import pytest

from audit.editors.mend.lessons import file_lessons, pocket_lessons
from audit.edits.pocket import pocket_requests
from audit.errors import AuditError
from audit.pocket.world import PERSON_RELATIONS


def relation_of(prompt: str) -> str:
    return next(r.name for r in PERSON_RELATIONS if prompt in r.phrasings)


def zsre_like(path: Path, subjects: int) -> str:
    rows = [
        {
            "subject": f"Person {number}",
            "prompt": "{} was born in",
            "target_new": "Velden",
            "paraphrases": [f"The birthplace of Person {number} is"],
            "neighborhood": [{"prompt": f"The capital of land {number} is", "answer": "Kelm"}],
        }
        for number in range(subjects)
    ]
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return str(path)


def test_pocket_people_are_in_one_split_only() -> None:
    lessons = pocket_lessons()
    people = [{request.subject for request in part} for part in (lessons.training, lessons.validation, lessons.test)]
    assert [len(part) for part in people] == [200, 20, 20]
    assert not people[0] & people[1] and not people[0] & people[2] and not people[1] & people[2]
    assert not any(person in text for person in people[1] | people[2] for text in lessons.texts)


def test_no_fact_that_a_pocket_request_edits_is_trained_on() -> None:
    edited = {(request.subject, relation_of(request.prompt)) for request in pocket_requests()}
    lessons = pocket_lessons()
    for request in (*lessons.training, *lessons.validation, *lessons.test):
        assert (request.subject, relation_of(request.prompt)) not in edited
        assert request.target_new != request.target_true


def test_a_file_is_split_by_subject_and_its_probes_are_the_texts(tmp_path: Path) -> None:
    lessons = file_lessons([zsre_like(tmp_path / "edits.jsonl", 24)], None)
    parts = [{r.subject for r in part} for part in (lessons.training, lessons.validation, lessons.test)]
    assert [len(part) for part in parts] == [20, 2, 2]
    assert len(set.union(*parts)) == 24
    assert len(lessons.texts) == 20 and all(text.endswith(" is Kelm") for text in lessons.texts)


def test_paragraphs_of_a_text_file_are_the_texts(tmp_path: Path) -> None:
    (tmp_path / "texts.txt").write_text("\n\n".join(f"Paragraph {n}." for n in range(20)), encoding="utf-8")
    lessons = file_lessons([zsre_like(tmp_path / "edits.jsonl", 12)], str(tmp_path / "texts.txt"))
    assert lessons.texts[:18] == tuple(f"Paragraph {n}." for n in range(18))
    assert lessons.validation_texts[:2] == ("Paragraph 18.", "Paragraph 19.")
    assert all(text.startswith("The capital of land") for text in (*lessons.texts[18:], *lessons.validation_texts[2:]))
    assert (len(lessons.texts), len(lessons.validation_texts)) == (18 + 10, 2 + 1)  # with the neighborhood probes


def test_lines_with_spaces_separate_paragraphs(tmp_path: Path) -> None:
    (tmp_path / "wiki.txt").write_text(" \n = Title = \n \n First , text . \n \n \n Second . \n", encoding="utf-8")
    texts = file_lessons([zsre_like(tmp_path / "edits.jsonl", 12)], str(tmp_path / "wiki.txt"))
    assert texts.texts[:2] == ("= Title =", "First , text .") and texts.validation_texts[0] == "Second ."


def test_several_files_are_split_together(tmp_path: Path) -> None:
    same = [zsre_like(tmp_path / "some.jsonl", 12), zsre_like(tmp_path / "more.jsonl", 24)]
    lessons = file_lessons(same, None)
    parts = [{r.subject for r in part} for part in (lessons.training, lessons.validation, lessons.test)]
    assert [len(part) for part in parts] == [20, 2, 2] and len(set.union(*parts)) == 24


def test_variants_are_made_of_training_edits_only(tmp_path: Path) -> None:
    edits = [zsre_like(tmp_path / "edits.jsonl", 12)]
    plain, more = file_lessons(edits, None), file_lessons(edits, None, variants=3)
    assert (more.validation, more.test) == (plain.validation, plain.test)
    assert more.training[: len(plain.training)] == plain.training
    assert {request.subject for request in more.training} == {request.subject for request in plain.training}


def test_unusable_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(AuditError, match="has edits of 3 subjects, too few"):
        file_lessons([zsre_like(tmp_path / "few.jsonl", 3)], None)
    edits = zsre_like(tmp_path / "edits.jsonl", 12)
    with pytest.raises(AuditError, match=r"--texts .* cannot be read"):
        file_lessons([edits], str(tmp_path / "nowhere.txt"))
    os.mkfifo(tmp_path / "pipe")
    for name, kind in (("pipe", "a named pipe"), (".", "a folder")):
        with pytest.raises(AuditError, match=rf"cannot be read \([^\[]* is {kind}, not a file\); give a plain UTF-8"):
            file_lessons([edits], str(tmp_path / name))
    with pytest.raises(AuditError, match=r"cannot be read \(null is a device, not a file\)"):
        file_lessons([edits], "/dev/null")
    rows = [json.loads(line) for line in Path(edits).read_text(encoding="utf-8").splitlines()]
    bare = tmp_path / "bare.jsonl"
    bare.write_text("\n".join(json.dumps(row | {"neighborhood": []}) for row in rows), encoding="utf-8")
    (tmp_path / "one.txt").write_text("alone", encoding="utf-8")
    with pytest.raises(AuditError, match=r"one\.txt has no text for the locality loss"):
        file_lessons([str(bare)], str(tmp_path / "one.txt"))
