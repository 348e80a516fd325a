"""Topics that edits should not affect: other subjects, other relations and unrelated text."""

from dataclasses import replace
from pathlib import Path

import pytest

from audit.edits.requests import EditRequest, Probe
from audit.measures.locality_topics import (
    MOST_TEXTS,
    OTHER_RELATIONS,
    OTHER_SUBJECTS,
    UNRELATED,
    topics_of,
    unrelated_texts,
)

BORN, BIRTHPLACE, SPEAKS = "{} was born in", "The birthplace of {} is", "{} speaks"


def request(subject: str, prompt: str, new: str, true: str) -> EditRequest:
    return EditRequest(subject, subject, prompt, new, true)


MARA = replace(
    request("Mara Lind", BORN, "Velden", "Belton"),
    paraphrases=("Life began for Mara Lind in",),
    neighborhood=(Probe("Gira Corley was born in", "Calton"),),
    portability=(Probe("The country of birth of Mara Lind is", "Avaria"),),
)
OTHERS = (
    request("Kara Quinwick", BIRTHPLACE, "Belton", "Calton"),
    request("Gira Corley", BIRTHPLACE, "Velden", "Calton"),
    request("Dina Kern", BORN, "Calton", "Velden"),
    request("Ada Jarl", SPEAKS, "Galtian", "Norlandic"),
    request("Erik Holm", SPEAKS, "Norlandic", "Galtian"),
)
TEXTS = ("The ferry left late. Nobody minded at all.", "Then Mara Lind came home.")


def asked(kind: str, applied: tuple[EditRequest, ...] = (MARA,), others: tuple[EditRequest, ...] = OTHERS) -> set[str]:
    return {" ".join(core) for core in topics_of(applied, others, TEXTS).cores[kind]}


def test_other_subjects_are_neighbors_other_requests_and_their_subjects_in_wordings_of_the_edited_relation() -> None:
    assert asked(OTHER_SUBJECTS) == {
        "Gira Corley was born in",  # a probe
        "The birthplace of Gira Corley is",  # the same relation in another request's words
        "The birthplace of Kara Quinwick is",
        "Kara Quinwick was born in",  # the same relation: both wordings are answered with cities
        "Dina Kern was born in",
        "Ada Jarl speaks",  # asked as it stands, not whether she was born somewhere
        "Erik Holm speaks",
    }


def test_other_relations_are_those_that_share_no_answer_and_nothing_that_follows_from_the_edit() -> None:
    assert asked(OTHER_RELATIONS) == {"Mara Lind speaks"}


def test_the_relation_of_a_wording_with_one_subject_is_unknown() -> None:
    alone = (*OTHERS[:4],)  # one person is left who speaks
    assert asked(OTHER_RELATIONS, others=alone) == set()
    unknown = request("Mara Lind", "{} lives at", "No. 5", "No. 6")
    assert asked(OTHER_RELATIONS, (unknown,)) == set()


def test_relations_edited_by_other_requests_are_left_out() -> None:
    assert asked(OTHER_RELATIONS, (MARA, request("Mara Lind", SPEAKS, "Galtian", "Norlandic"))) == set()


def test_texts_lose_their_last_word_and_mention_no_edited_subject() -> None:
    assert asked(UNRELATED) == {"The ferry left", "Nobody minded at"}


def test_without_requests_only_texts_are_left() -> None:
    topics = topics_of((), (), TEXTS)
    assert [kind for kind, cores in topics.cores.items() if cores] == [UNRELATED]
    assert len(topics.cores[UNRELATED]) == 3


def test_a_subject_is_one_element_and_the_shortest_core_comes_first() -> None:
    probe = Probe("As for Gira Corley's home, it is", "Calton")
    cores = topics_of((replace(MARA, neighborhood=(probe,)),), OTHERS, TEXTS).cores[OTHER_SUBJECTS]
    assert ("As", "for", "Gira Corley's", "home,", "it", "is") in cores
    assert list(map(len, cores)) == sorted(map(len, cores))


def test_mentions_ignore_case_and_spacing() -> None:
    topics = topics_of((MARA,), OTHERS, TEXTS)
    assert topics.touched("So MARA  LIND it was")
    assert not topics.touched("So Mara Holm it was")


@pytest.mark.parametrize("covariance", [None, "auto", "identity", "pocket", "wikitext", "owner/name:config@split"])
def test_without_a_corpus_file_the_fixed_texts_are_unrelated_text(covariance: str | None) -> None:
    assert unrelated_texts(covariance, TEXTS) == TEXTS


def test_the_sentences_at_the_end_of_a_corpus_file_are_unrelated_text(tmp_path: Path) -> None:
    paragraphs = [f"Paragraph {number} says{' a word' * 10}. It ends{' so' * 10} here." for number in range(300)]
    marked = f"This <unk> one is left out, and so is the guest @-@ star.{' Short.' * 10}"
    file = tmp_path / "texts.txt"
    file.write_text("\n\n".join([*paragraphs, "= A Heading =", "Too short.", marked]), encoding="utf-8")
    found = unrelated_texts(str(file), TEXTS)
    first = 300 - MOST_TEXTS + 1  # the marked paragraph counts as one
    assert found[0] == f"Paragraph {first} says{' a word' * 10}."
    assert found[-10:] == ("Short.",) * 10
    assert not any(mark in text for text in found for mark in ("<unk>", "@-@", "Heading", "Too short"))


def test_a_corpus_file_without_plain_sentences_leaves_the_fixed_texts(tmp_path: Path) -> None:
    file = tmp_path / "texts.txt"
    file.write_text("= A Heading =\n\nToo short.", encoding="utf-8")
    assert unrelated_texts(str(file), TEXTS) == TEXTS
