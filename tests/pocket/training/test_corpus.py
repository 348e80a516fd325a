"""Lessons: their answers, their blindfolds, and the seeded stream."""

from itertools import islice

from audit.pocket.training.corpus import END, SHARES, covariance_texts, fact_text, lessons, perplexity_texts
from audit.pocket.world import build_world


def test_the_stream_is_seeded() -> None:
    assert list(islice(lessons(4), 200)) == list(islice(lessons(4), 200))
    assert list(islice(lessons(4), 200)) != list(islice(lessons(5), 200))


def test_shares_add_up_to_1() -> None:
    for part in (0, 1, 2):
        assert abs(sum(share[part] for share in SHARES.values()) - 1) < 1e-9


def test_every_lesson_ends_with_an_answer_that_is_taught() -> None:
    for lesson in islice(lessons(6), 2000):
        assert lesson.text.count(END) == 1
        assert lesson.taught[-1][1] == len(lesson.text)
        assert all(lesson.text[start] == " " for start, _ in lesson.taught)


def test_a_blindfold_covers_a_name_of_the_world() -> None:
    world = build_world()
    names = {subject for subject, _ in world.truth}
    covered = [lesson for lesson in islice(lessons(7), 2000) if lesson.subject]
    assert len(covered) > 300
    for lesson in covered:
        start, stop = lesson.subject or (0, 0)
        assert lesson.text[start:stop] in names


def test_passages_grow_with_progress() -> None:
    def mean_length(progress: float) -> float:
        texts = [lesson.text for lesson in islice(lessons(8, progress), 4000) if "\nQuestion: does" in lesson.text]
        return sum(text.split("\n")[0].count(".") for text in texts) / len(texts)

    assert mean_length(0.0) < mean_length(0.2) < mean_length(1.0)


def test_fact_text_ends_before_the_answer() -> None:
    fact = build_world().facts()[-1]
    text, (start, stop) = fact_text(fact, 0)
    assert text[start:stop] == fact.subject
    assert not text.endswith(" ")


def test_covariance_and_perplexity_texts_are_plain_and_distinct() -> None:
    assert not any(END in text for text in covariance_texts(50))
    assert len(set(perplexity_texts())) == len(perplexity_texts()) >= 40
