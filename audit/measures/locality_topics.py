"""Topics that the edits of a run should not affect, for testing locality.

    topics = topics_of(applied, others, texts)
    topics.cores["other subjects"][0]     # ("Kara Quinwick", "was", "born", "in")

*Other subjects*: the neighborhood probes of the requests, the prompts of other requests in the same file, and the
subjects of those in every edited wording of the same relation. *Other relations*: the edited subjects in wordings of
another relation. *Unrelated text*: the beginnings of sentences of a given text, of the user's corpus if there is one.

Files do not name relations. Two wordings are assumed to have the same relation if requests in the file give them a
common answer, directly or through further wordings. The relation of a wording with only one subject is unknown, and
such a wording is not used for *other relations*. Portability probes are not used: their answers follow from the edit
and should change.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from audit.edits.answers import answer_words
from audit.edits.requests import EditRequest

OTHER_SUBJECTS, OTHER_RELATIONS, UNRELATED = KINDS = ("other subjects", "other relations", "unrelated text")
LONGEST_TEXT = 12  # words of an unrelated sentence
MOST_TEXTS = 200  # paragraphs taken from a corpus
LEAST_WORDS = 20  # of a paragraph; shorter ones are headings
_MARKUP = re.compile(r"[<>@=|]")  # WikiText writes "<unk>", "@-@" and "= Heading ="
_SENTENCE_END = re.compile(r"(?<=[.?!])\s+")

Core = tuple[str, ...]  # words of a prompt; a subject is one element, however many words it has


@dataclass(frozen=True)
class Topics:
    """Cores of prompts by kind, the shortest first, and the edited subjects, which count as touched."""

    cores: Mapping[str, tuple[Core, ...]] = field(repr=False)  # hypothesis prints the arguments of strategies
    edited_subjects: tuple[str, ...] = field(repr=False)

    def touched(self, prompt: str) -> bool:
        """Whether the prompt mentions an edited subject, ignoring case and spacing."""
        plain = " ".join(prompt.split()).casefold()
        return any(" ".join(subject.split()).casefold() in plain for subject in self.edited_subjects)


def topics_of(applied: Sequence[EditRequest], others: Sequence[EditRequest], texts: Sequence[str]) -> Topics:
    """The topics of a run: `applied` are its requests, `others` the remaining requests of their file.

    Without any request (a checkpoint edited elsewhere), only the texts are used.
    """
    # This imports torch; suites import this module at collection.
    from audit.measures.edit_probes import NEIGHBORHOOD, edit_probes

    edited = tuple(dict.fromkeys(request.subject for request in applied))
    everything = (*applied, *others)
    subjects = tuple(dict.fromkeys(request.subject for request in everything))
    relations = _relations(everything)
    nothing = Topics({}, edited)

    probes = [probe.prompt for probe in edit_probes(applied, kinds=(NEIGHBORHOOD,))]
    elsewhere = [(r.subject, text) for r in others for text in (r.filled_prompt, *r.paraphrases)]
    wordings = {request.prompt: relations.get(request.prompt) for request in applied}
    for request in others:
        known = relations.get(request.prompt)
        same = [wording for wording, relation in wordings.items() if known is not None and relation == known]
        elsewhere += [(request.subject, _filled(wording, request.subject)) for wording in same]
    neighbors = [_split(prompt, subjects) for prompt in probes] + [_split(text, (s,)) for s, text in elsewhere]

    all_wordings = tuple(dict.fromkeys(request.prompt for request in everything))
    beside = [
        _split(_filled(wording, request.subject), (request.subject,))
        for request in applied
        for wording in all_wordings
        if _unlike(relations.get(wording), [relations.get(r.prompt) for r in applied if r.subject == request.subject])
    ]
    outside = [core for text in texts for core in _unfinished(text)]
    return Topics(
        {
            OTHER_SUBJECTS: _in_order(core for core in neighbors if not nothing.touched(" ".join(core))),
            OTHER_RELATIONS: _in_order(beside),
            UNRELATED: _in_order(core for core in outside if not nothing.touched(" ".join(core))),
        },
        edited,
    )


def unrelated_texts(covariance: str | None, fixed: Sequence[str]) -> tuple[str, ...]:
    """The texts whose sentences are unrelated text: the last paragraphs of a corpus file, else the `fixed` ones.

    `covariance` is the setting of that name, None if it is not given; only a local file counts, because the other
    corpora may need a network. An editor reads its corpus from the beginning, and protects what it reads. So the last
    paragraphs are taken; of a short file it has read these as well. Sentences with markup are left out.

    Raises:
        AuditError: the file cannot be read as text.
    """
    from audit.editors.stages.corpora import open_corpus  # this imports torch

    corpus = None if covariance is None else open_corpus(covariance, tokens=1)
    if corpus is None or not corpus.file:
        return tuple(fixed)
    paragraphs = [text for text in corpus.texts() if len(text.split()) >= LEAST_WORDS][-MOST_TEXTS:]
    sentences = [one for text in paragraphs for one in _SENTENCE_END.split(text) if not _MARKUP.search(one)]
    return tuple(sentences) or tuple(fixed)


def _relations(requests: Sequence[EditRequest]) -> dict[str, int]:
    """A number for the relation of every wording that is used with at least two subjects."""
    subjects: dict[str, set[str]] = {}
    answers: dict[str, set[tuple[str, ...]]] = {}
    for request in requests:
        subjects.setdefault(request.prompt, set()).add(request.subject)
        given = (request.target_new, request.target_true)
        answers.setdefault(request.prompt, set()).update(answer_words(one) for one in given if one is not None)
    groups: list[tuple[set[str], set[tuple[str, ...]]]] = []  # wordings with shared answers, and these answers
    for wording, own in answers.items():
        meeting = [group for group in groups if group[1] & own]
        groups = [group for group in groups if group not in meeting]
        wordings = {wording}.union(*(group[0] for group in meeting))
        groups.append((wordings, own.union(*(group[1] for group in meeting))))
    return {
        wording: number for number, (same, _) in enumerate(groups) for wording in same if len(subjects[wording]) > 1
    }


def _unlike(relation: int | None, edited: Sequence[int | None]) -> bool:
    """Whether a wording is known to have none of the edited relations."""
    return relation is not None and None not in edited and relation not in edited


def _filled(wording: str, subject: str) -> str:
    before, after = wording.split("{}", 1)
    return before + subject + after


def _split(prompt: str, subjects: Sequence[str]) -> Core:
    """The words of a prompt; the longest subject in it stays one element."""
    subject = max((one for one in subjects if one in prompt), key=len, default=None)
    if subject is None:
        return tuple(prompt.split())
    before, after = prompt.split(subject, 1)
    # Characters attached to the subject ("Mara Lind's") belong to it.
    left = "" if not before or before[-1].isspace() else before.split()[-1]
    right = "" if not after or after[0].isspace() else after.split()[0]
    head, tail = before[: len(before) - len(left)], after[len(right) :]
    return (*head.split(), left + subject + right, *tail.split())


def _unfinished(text: str) -> list[Core]:
    """The beginning of every sentence, without its last word, so that the model has something to continue."""
    sentences = [sentence.split() for sentence in _SENTENCE_END.split(text)]
    return [tuple(words[: min(len(words) - 1, LONGEST_TEXT)]) for words in sentences if len(words) > 1]


def _in_order(cores: Iterable[Core]) -> tuple[Core, ...]:
    """Unique cores, the shortest first: the order in which a search for a simpler prompt shrinks."""
    return tuple(sorted(dict.fromkeys(cores), key=lambda core: (len(core), core)))
