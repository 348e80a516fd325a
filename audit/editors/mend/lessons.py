"""Training data of MEND's editing network: edits with rephrasings, and texts that an edit must not change.

Requests are split by subject: no subject of the training split occurs in validation or test.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from random import Random

from audit.edits.requests import EditRequest
from audit.edits.sources import load_requests
from audit.edits.variants import request_variants
from audit.errors import AuditError
from audit.models.scripts import gap
from audit.store.files import read_text

SPLIT_SEED = 5
VALIDATION_SHARE = TEST_SHARE = 1 / 12
POCKET_TARGETS = 6  # new targets for each fact of a training person
POCKET_TEXTS = 8000
POCKET_FACT_SHARE = 0.7
POCKET_TEXT_SEED = 700  # differs from the seed of the models' training corpus
FEWEST_SUBJECTS = 12


@dataclass(frozen=True)
class MendLessons:
    """Requests and texts by split; `origin` describes the data for the card."""

    training: tuple[EditRequest, ...]
    validation: tuple[EditRequest, ...]
    test: tuple[EditRequest, ...]
    texts: tuple[str, ...]
    validation_texts: tuple[str, ...]
    origin: str


def pocket_lessons() -> MendLessons:
    """Edits of people in the pocket world, for facts that no pocket request edits, and texts about everyone else.

    Training texts do not name a person of validation or test.
    """
    from audit.edits.pocket import other_requests
    from audit.pocket.world import build_world

    training, validation, test = _split(build_world().people)
    held_out = (*validation, *test)
    texts = [text for text in _pocket_texts(POCKET_TEXT_SEED) if not any(person in text for person in held_out)]
    return MendLessons(
        training=other_requests(training, POCKET_TARGETS, seed=1),
        validation=other_requests(validation, 1, seed=2),
        test=other_requests(test, 1, seed=3),
        texts=tuple(texts),
        validation_texts=tuple(islice(_pocket_texts(POCKET_TEXT_SEED + 1), POCKET_TEXTS // 8)),
        origin=f"pocket world: {len(training)} people in training, {len(validation)} in validation, {len(test)} in "
        "the test; no (person, relation) pair of the pocket requests",
    )


def file_lessons(edits: Sequence[str], texts: str | None, variants: int = 0, seed: int = 0) -> MendLessons:
    """Lessons from files of edit requests, and from a text file whose paragraphs are the texts.

    The requests' neighborhood probes (ZsRE's locality questions) with their answers are texts, too; in the paper, the
    only ones.

    Args:
        edits: files in any supported format.
        texts: a text file; None for the probes alone.
        variants: further training lessons made from each training request; see `request_variants`. Validation and test
            are requests of the files.
        seed: of the further lessons.

    Raises:
        AuditError: a file cannot be read, there are too few subjects, or there is no text.
    """
    requests = [request for file in edits for request in load_requests(file).requests]
    subjects = list(dict.fromkeys(request.subject for request in requests))
    files = ", ".join(edits)
    if len(subjects) < FEWEST_SUBJECTS:
        raise AuditError(
            f"{files} has edits of {len(subjects)} subjects, too few for a validation split; "
            f"give at least {FEWEST_SUBJECTS}."
        )
    training, validation, test = _split(subjects)
    of = {part: tuple(r for r in requests if r.subject in frozenset(part)) for part in (training, validation, test)}
    paragraphs = () if texts is None else _paragraphs(Path(texts).expanduser())
    held_back = max(1, len(paragraphs) // 10)
    learned = (*paragraphs[:-held_back], *_probes(of[training]))
    later = (*paragraphs[-held_back:], *_probes(of[validation]))
    if not learned or not later:
        raise AuditError(
            f"{texts or files} has no text for the locality loss; give a text file of several paragraphs with --texts."
        )
    lessons = (*of[training], *request_variants(of[training], variants, seed))
    return MendLessons(
        lessons,
        of[validation],
        of[test],
        learned,
        later,
        f"{files}: {len(training)} subjects in training, {len(validation)} in validation, {len(test)} in the test; "
        f"{len(lessons)} training edits, of which {len(lessons) - len(of[training])} are variants",
    )


def _split(subjects: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
    """Training, validation and test subjects, shuffled with `SPLIT_SEED`."""
    shuffled = list(subjects)
    Random(SPLIT_SEED).shuffle(shuffled)
    validation, test = int(len(subjects) * VALIDATION_SHARE), int(len(subjects) * TEST_SHARE)
    parts = shuffled[:validation], shuffled[validation : validation + test], shuffled[validation + test :]
    return tuple(parts[2]), tuple(parts[0]), tuple(parts[1])


def _pocket_texts(seed: int) -> list[str]:
    """A mix of facts in all wordings and lessons of the abilities."""
    from audit.pocket.training.corpus import END, fact_text, lessons
    from audit.pocket.world import build_world

    rng = Random(f"texts {seed}")
    facts = build_world().facts()
    others = (lesson.text.removesuffix(END) for lesson in lessons(seed) if lesson.subject is None)
    texts: list[str] = []
    for _ in range(POCKET_TEXTS):
        if rng.random() < POCKET_FACT_SHARE:
            fact = rng.choice(facts)
            texts.append(f"{fact_text(fact, rng.randrange(len(fact.relation.phrasings)))[0]} {fact.answer}.")
        else:
            texts.append(next(others))
    return texts


def _probes(requests: Sequence[EditRequest]) -> tuple[str, ...]:
    near = (probe for request in requests for probe in request.neighborhood)
    return tuple(probe.prompt + gap(probe.prompt, probe.answer) + probe.answer for probe in near)


def _paragraphs(path: Path) -> tuple[str, ...]:
    """The parts of a text file separated by empty lines; in WikiText these have a space."""
    try:
        content = read_text(path)
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise AuditError(f"--texts {path} cannot be read ({reason}); give a plain UTF-8 text file.") from None
    return tuple(part.strip() for part in re.split(r"\n\s*\n", content) if part.strip())
