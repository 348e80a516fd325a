"""What makes an edit request usable, whatever format it came in.

Each check raises `UnusableError` with the file's own name of the field, so that the sentence points at the column.
"""

import re
from collections.abc import Sequence

from audit.edits.answers import same_answer
from audit.edits.requests import EditRequest
from audit.edits.rows import UnusableError, shown

SLOT = "{}"


def check_present(field: str, text: str, what: str) -> None:
    """The text is not empty; `what` says in the remedy what belongs there."""
    if not text:
        raise UnusableError(field, "is empty", f"write {what}")


def check_prompt(field: str, prompt: str, subject: str) -> None:
    """The prompt holds exactly one `{}`."""
    places = prompt.count(SLOT)
    if places == 0 and subject and subject in prompt:
        raise UnusableError(
            field, f"names the subject {shown(subject)} but holds no {SLOT}", f"write {SLOT} in the subject's place"
        )
    if places == 0:
        raise UnusableError(
            field, f"{shown(prompt)} holds no {SLOT} for the subject", f"write {SLOT} where the subject goes"
        )
    if places > 1:
        raise UnusableError(
            field, f"{shown(prompt)} holds {SLOT} {places} times", f"keep one {SLOT} and write the rest out"
        )


def check_target(field: str, target: str, old_answers: Sequence[str] = ()) -> None:
    """The target is one line of text that differs from every old answer as the measures compare them."""
    check_present(field, target, "the answer that the edited model should give")
    if "\n" in target or "\r" in target:
        raise UnusableError(field, f"{shown(target)} holds a line break", "write the answer on one line")
    for old in old_answers:
        if same_answer(target, old):
            raise UnusableError(
                field,
                f"{shown(target)} equals the old answer {shown(old)}",
                "give an answer that differs in more than case, punctuation and a leading article",
            )


def put_slot(field: str, text: str, subject: str) -> str:
    """The prompt for a filled question: `{}` in place of one known span of the subject.

    Of several mentions the last whole-word one is taken, the one that a causal model reads nearest to its answer; the
    others stay as they are. A text that holds `{}` already is returned as it is.
    """
    if SLOT in text:
        check_prompt(field, text, subject)
        return text
    spans = [match.span() for match in re.finditer(f"(?={re.escape(subject)})", text)]
    starts = [start for start, _ in spans]
    whole = [start for start in starts if _is_whole_word(text, start, start + len(subject))]
    if not starts:
        raise UnusableError(
            field,
            f"{shown(text)} does not hold the subject {shown(subject)}",
            "spell the subject exactly as the text does",
        )
    start = (whole or starts)[-1]
    return text[:start] + SLOT + text[start + len(subject) :]


def _is_whole_word(text: str, start: int, end: int) -> bool:
    before, after = text[start - 1 : start], text[end : end + 1]
    return not (before.isalnum() or after.isalnum())


class Repeats:
    """Remembers the questions and case ids of one file, to find duplicates and contradictions.

    >>> repeats = Repeats(subject_field="subject", target_field="target_new")
    >>> repeats.check(request, line=3)  # raises UnusableError when line 1 or 2 asked the same
    """

    def __init__(self, subject_field: str, target_field: str) -> None:
        self._fields = (subject_field, target_field)
        self._questions: dict[str, tuple[int, str]] = {}
        self._case_ids: dict[str, int] = {}

    def check(self, request: EditRequest, line: int) -> None:
        subject_field, target_field = self._fields
        question = " ".join(request.question.split())
        if question in self._questions:
            earlier, target = self._questions[question]
            if same_answer(target, request.target_new):
                raise UnusableError(
                    subject_field, f"{shown(question)} is a duplicate of line {earlier}", "remove one of the two rows"
                )
            raise UnusableError(
                target_field,
                f"{shown(request.target_new)} contradicts line {earlier}, which edits {shown(question)} "
                f"to {shown(target)}",
                "keep one of the two rows",
            )
        if request.case_id in self._case_ids:
            raise UnusableError(
                "case_id",
                f"{shown(request.case_id)} is already used on line {self._case_ids[request.case_id]}",
                "give every row a case_id of its own",
            )
        self._questions[question] = (line, request.target_new)
        self._case_ids[request.case_id] = line
