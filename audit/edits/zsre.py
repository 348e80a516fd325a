"""ZsRE edit requests in the JSON schema of MEND's evaluation set, which EasyEdit reads as well.

    {"subject": ..., "src": question, "alt": new target, "answers": [old answers], "rephrase": ..., "loc": ..., "loc_ans": ...}

`src` is a filled question: one known span of the subject becomes `{}`. The new target is `alt`, as in EasyEdit; the
ROME code edits towards `answers[0]` instead, which on these rows is the true answer.
"""  # noqa: E501

from audit.edits.checks import check_present, check_target, put_slot
from audit.edits.requests import EditRequest, Probe
from audit.edits.rows import Row

FIELDS = ("subject", "src", "alt", "answers", "rephrase", "loc", "loc_ans")


def read_request(row: Row) -> EditRequest:
    """One row as a request; `portability` is read where EasyEdit's extended file has it.

    Raises:
        AuditError: a field is missing or of the wrong type.
        UnusableError: empty subject or target, target equal to a listed answer, subject not in `src`.
    """
    subject, src, alt, rephrase, loc = (row.text(field) for field in ("subject", "src", "alt", "rephrase", "loc"))
    answers = tuple(answer for answer in row.text_or_texts("answers") if answer)
    local_answers = tuple(answer for answer in row.text_or_texts("loc_ans") if answer)
    check_present("subject", subject, "what the fact is about")
    check_target("alt", alt, answers)
    prompt = put_slot("src", src, subject)
    return EditRequest(
        case_id=row.label("case_id") if "case_id" in row.values else f"line-{row.line}",
        subject=subject,
        prompt=prompt,
        target_new=alt,
        target_true=answers[0] if answers else None,
        paraphrases=(rephrase,) if rephrase else (),
        neighborhood=(Probe(loc, local_answers[0]),) if loc and local_answers else (),
        portability=_portability(row),
    )


def _portability(row: Row) -> tuple[Probe, ...]:
    if row.values.get("portability") is None:
        return ()
    hop = row.inside("portability")
    probe = Probe(hop.text("New Question"), hop.text("New Answer"))
    return (probe,) if probe.prompt and probe.answer else ()
