"""What no edit of a run touched, as far as its requests and their file can tell: what locality is asked about.

    topics = topics_of(applied, others, texts)
    topics.cores["other subjects"][0]     # ("Kara Quinwick", "was", "born", "in")

*Other subjects*: the neighborhood probes of the requests, what the other requests of the same file ask, and the
subjects of those in every edited wording of the same relation. *Other relations*: the edited subjects in wordings of
another relation. *Unrelated text*: a text of the world outside.

Files do not name relations. Two wordings are taken for the same relation when requests in the file give them a common
answer (birthplaces are cities, wherever they stand), through others if need be; and a wording that is asked of one
subject only is of no known relation, so that nothing is accused on its account. Portability probes are no part of this:
their answers follow from the edit, and ought to change.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from audit.edits.answers import answer_words
from audit.edits.requests import EditRequest

OTHER_SUBJECTS, OTHER_RELATIONS, UNRELATED = KINDS = ("other subjects", "other relations", "unrelated text")
LONGEST_TEXT = 12  # words of an unrelated sentence

Core = tuple[str, ...]  # words of a prompt; a subject is one word, however many it has


@dataclass(frozen=True)
class Topics:
    """Cores of prompts by kind, the shortest first, and the subjects whose mention makes a prompt touched."""

    cores: Mapping[str, tuple[Core, ...]] = field(repr=False)  # hypothesis shows what strategies are made of
    edited_subjects: tuple[str, ...] = field(repr=False)

    def touched(self, prompt: str) -> bool:
        """Whether the prompt mentions an edited subject, in whatever case and spacing."""
        plain = " ".join(prompt.split()).casefold()
        return any(" ".join(subject.split()).casefold() in plain for subject in self.edited_subjects)


def topics_of(applied: Sequence[EditRequest], others: Sequence[EditRequest], texts: Sequence[str]) -> Topics:
    """What can be asked: `applied` are the run's requests, `others` those of their file that were left out.

    With no request at all (somebody else's checkpoint), only the texts are left.
    """
    from audit.measures.edit_success import NEIGHBORHOOD, edit_questions  # with torch, and suites name this module

    edited = tuple(dict.fromkeys(request.subject for request in applied))
    everything = (*applied, *others)
    subjects = tuple(dict.fromkeys(request.subject for request in everything))
    relations = _relations(everything)
    nothing = Topics({}, edited)

    probes = [question.prompt for question in edit_questions(applied, kinds=(NEIGHBORHOOD,))]
    elsewhere = [(r.subject, text) for r in others for text in (r.question, *r.paraphrases)]
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


def _relations(requests: Sequence[EditRequest]) -> dict[str, int]:
    """A number for the relation of every wording that is asked of two subjects or more."""
    subjects: dict[str, set[str]] = {}
    answers: dict[str, set[tuple[str, ...]]] = {}
    for request in requests:
        subjects.setdefault(request.prompt, set()).add(request.subject)
        given = (request.target_new, request.target_true)
        answers.setdefault(request.prompt, set()).update(answer_words(one) for one in given if one is not None)
    groups: list[tuple[set[str], set[tuple[str, ...]]]] = []  # wordings that share answers, and these answers
    for wording, own in answers.items():
        meeting = [group for group in groups if group[1] & own]
        groups = [group for group in groups if group not in meeting]
        wordings = {wording}.union(*(group[0] for group in meeting))
        groups.append((wordings, own.union(*(group[1] for group in meeting))))
    return {
        wording: number for number, (same, _) in enumerate(groups) for wording in same if len(subjects[wording]) > 1
    }


def _unlike(relation: int | None, edited: Sequence[int | None]) -> bool:
    """Whether a wording is known to be of none of the relations that were edited."""
    return relation is not None and None not in edited and relation not in edited


def _filled(wording: str, subject: str) -> str:
    before, after = wording.split("{}", 1)
    return before + subject + after


def _split(prompt: str, subjects: Sequence[str]) -> Core:
    """The words of a prompt; the longest subject in it stays in one piece."""
    subject = max((one for one in subjects if one in prompt), key=len, default=None)
    if subject is None:
        return tuple(prompt.split())
    before, after = prompt.split(subject, 1)
    # What touches the subject ("Mara Lind's") belongs to it.
    left = "" if not before or before[-1].isspace() else before.split()[-1]
    right = "" if not after or after[0].isspace() else after.split()[0]
    head, tail = before[: len(before) - len(left)], after[len(right) :]
    return (*head.split(), left + subject + right, *tail.split())


def _unfinished(text: str) -> list[Core]:
    """The beginning of every sentence, without the last of its words, so that something is left to say."""
    sentences = [sentence.split() for sentence in re.split(r"(?<=[.?!])\s+", text)]
    return [tuple(words[: min(len(words) - 1, LONGEST_TEXT)]) for words in sentences if len(words) > 1]


def _in_order(cores: Iterable[Core]) -> tuple[Core, ...]:
    """Each once, the shortest first: what a search for a simpler prompt goes back to."""
    return tuple(sorted(dict.fromkeys(cores), key=lambda core: (len(core), core)))
