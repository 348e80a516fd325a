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
    lessons = file_lessons(zsre_like(tmp_path / "edits.jsonl", 24), None)
    parts = [{r.subject for r in part} for part in (lessons.training, lessons.validation, lessons.test)]
    assert [len(part) for part in parts] == [20, 2, 2]
    assert len(set.union(*parts)) == 24
    assert len(lessons.texts) == 20 and all(text.endswith(" is Kelm") for text in lessons.texts)


def test_paragraphs_of_a_text_file_are_the_texts(tmp_path: Path) -> None:
    (tmp_path / "texts.txt").write_text("\n\n".join(f"Paragraph {n}." for n in range(20)), encoding="utf-8")
    lessons = file_lessons(zsre_like(tmp_path / "edits.jsonl", 12), str(tmp_path / "texts.txt"))
    assert len(lessons.texts) == 18 and lessons.validation_texts == ("Paragraph 18.", "Paragraph 19.")


def test_unusable_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(AuditError, match="has edits of 3 subjects, too few"):
        file_lessons(zsre_like(tmp_path / "few.jsonl", 3), None)
    edits = zsre_like(tmp_path / "edits.jsonl", 12)
    with pytest.raises(AuditError, match=r"--texts .* cannot be read"):
        file_lessons(edits, str(tmp_path / "nowhere.txt"))
    os.mkfifo(tmp_path / "pipe")
    for name, kind in (("pipe", "a named pipe"), (".", "a folder")):
        with pytest.raises(AuditError, match=rf"cannot be read \([^\[]* is {kind}, not a file\); give a plain UTF-8"):
            file_lessons(edits, str(tmp_path / name))
    with pytest.raises(AuditError, match=r"cannot be read \(null is a device, not a file\)"):
        file_lessons(edits, "/dev/null")
    (tmp_path / "one.txt").write_text("alone", encoding="utf-8")
    with pytest.raises(AuditError, match="has no text for the locality loss"):
        file_lessons(edits, str(tmp_path / "one.txt"))
