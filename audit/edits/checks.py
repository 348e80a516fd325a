"""Checks that all formats of edit requests share.

Each check raises `UnusableError` with the field's name in the file.
"""

import re
from collections.abc import Sequence

from audit.edits.answers import same_answer
from audit.edits.requests import EditRequest
from audit.edits.rows import Row, UnusableError, shown
from audit.models.scripts import is_unspaced

SLOT = "{}"


def check_present(field: str, text: str, what: str) -> None:
    """The text is not empty; `what` describes the text in the remedy."""
    if not text:
        raise UnusableError(field, "is empty", f"write {what}")


def check_prompt(field: str, prompt: str, subject: str) -> None:
    """The prompt contains exactly one `{}`."""
    places = prompt.count(SLOT)
    if places == 0 and subject and subject in prompt:
        raise UnusableError(
            field, f"contains the subject {shown(subject)} but no {SLOT}", f"write {SLOT} in place of the subject"
        )
    if places == 0:
        raise UnusableError(
            field, f"{shown(prompt)} contains no {SLOT} for the subject", f"write {SLOT} where the subject goes"
        )
    if places > 1:
        raise UnusableError(field, f"{shown(prompt)} contains {SLOT} {places} times", f"keep one {SLOT}")


def check_target(field: str, target: str, old_answers: Sequence[str] = ()) -> None:
    """The target is one line of text and differs from every old answer (compared with `same_answer`)."""
    check_present(field, target, "the answer that the edited model should give")
    if "\n" in target or "\r" in target:
        raise UnusableError(field, f"{shown(target)} contains a line break", "write the answer on one line")
    for old in old_answers:
        if same_answer(target, old):
            raise UnusableError(
                field,
                f"{shown(target)} equals the old answer {shown(old)}",
                "give an answer that differs in more than case, punctuation and a leading article",
            )


def put_slot(field: str, text: str, subject: str) -> str:
    """The prompt of a text that contains the subject: one occurrence is replaced by `{}`.

    Of several occurrences it is the last one that is a whole word, because it is nearest to the answer; if none is a
    whole word, it is the last one. A text that already contains `{}` is returned unchanged.
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
            f"{shown(text)} does not contain the subject {shown(subject)}",
            "spell the subject exactly as in the text",
        )
    start = (whole or starts)[-1]
    return text[:start] + SLOT + text[start + len(subject) :]


def _is_whole_word(text: str, start: int, end: int) -> bool:
    edges = ((text[start - 1 : start], text[start]), (text[end : end + 1], text[end - 1]))
    return not any(outer.isalnum() and not is_unspaced(outer) and not is_unspaced(inner) for outer, inner in edges)


class Repeats:
    """Finds duplicates and contradictions among the requests of one file, and repeated case ids.

    Args:
        subject_field: the field of the subject in the file, for errors.
        target_field: the field of the new target.
        duplicates: whether several rows may hold the same edit, as the cases of MQuAKE do.

    >>> repeats = Repeats(subject_field="subject", target_field="target_new")
    >>> repeats.check([request], row)  # raises UnusableError if an earlier row has the same prompt
    """

    def __init__(self, subject_field: str, target_field: str, *, duplicates: bool = False) -> None:
        self._fields = (subject_field, target_field)
        self._duplicates = duplicates
        self._prompts: dict[str, tuple[Row, str]] = {}
        self._case_ids: dict[str, Row] = {}

    def check(self, requests: Sequence[EditRequest], row: Row) -> None:
        """Compare the requests of a row with those of all earlier rows, and keep them for later rows."""
        subject_field, target_field = self._fields
        prompts = [" ".join(request.filled_prompt.split()) for request in requests]
        for prompt, request in zip(prompts, requests, strict=True):
            earlier, target = self._prompts.get(prompt, (row, request.target_new))
            if not same_answer(target, request.target_new):
                raise UnusableError(
                    target_field,
                    f"{shown(request.target_new)} contradicts row {earlier.number} (line {earlier.line}), which edits "
                    f"{shown(prompt)} to {shown(target)}",
                    "keep one of the two rows",
                )
            if prompt in self._prompts and not self._duplicates:
                raise UnusableError(
                    subject_field,
                    f"{shown(prompt)} is a duplicate of row {earlier.number} (line {earlier.line})",
                    "remove one of the two rows",
                )
            if request.case_id in self._case_ids:
                first = self._case_ids[request.case_id]
                raise UnusableError(
                    "case_id",
                    f"{shown(request.case_id)} is already used in row {first.number} (line {first.line})",
                    "give every row its own case_id",
                )
        for prompt, request in zip(prompts, requests, strict=True):
            self._prompts.setdefault(prompt, (row, request.target_new))
            self._case_ids[request.case_id] = row
