"""CounterFact edit requests: ROME's nested schema and EasyEdit's flat one.

    {"case_id": 0, "requested_rewrite": {"prompt": "... {} ...", "subject": ..., "target_new": {"str": ...},
     "target_true": {"str": ...}}, "paraphrase_prompts": [...], "neighborhood_prompts": [...]}
    {"case_id": 0, "prompt": filled, "subject": ..., "target_new": ..., "ground_truth": ..., "rephrase_prompt": ...,
     "locality_prompt": ..., "locality_ground_truth": ...}

The flat prompt is filled; one known span of the subject becomes `{}`.
"""

from audit.edits.checks import SLOT, check_present, check_prompt, check_target, put_slot
from audit.edits.requests import EditRequest, Probe
from audit.edits.rows import Row

NESTED_FIELDS = ("requested_rewrite", "paraphrase_prompts", "neighborhood_prompts")
FLAT_FIELDS = (
    "prompt", "subject", "target_new", "ground_truth", "rephrase_prompt", "locality_prompt", "locality_ground_truth"
)  # fmt: skip


def read_nested(row: Row) -> EditRequest:
    """One row of ROME's file. Neighborhood prompts share the old answer: that is how the set was built.

    Raises:
        AuditError: a field is missing or of the wrong type.
        UnusableError: empty subject or target, target equal to the old answer, not one `{}` in the prompt.
    """
    rewrite = row.inside("requested_rewrite")
    prompt, subject = rewrite.text("prompt"), rewrite.text("subject")
    target_new, target_true = (rewrite.inside(field).text("str") for field in ("target_new", "target_true"))
    paraphrases, neighbors = row.texts("paraphrase_prompts"), row.texts("neighborhood_prompts")
    check_present("requested_rewrite.subject", subject, "what the fact is about")
    check_present("requested_rewrite.prompt", prompt, f"a prompt with one {SLOT}")
    check_prompt("requested_rewrite.prompt", prompt, subject)
    check_target("requested_rewrite.target_new.str", target_new, (target_true,) if target_true else ())
    return EditRequest(
        case_id=_case_id(row),
        subject=subject,
        prompt=prompt,
        target_new=target_new,
        target_true=target_true or None,
        paraphrases=tuple(text for text in paraphrases if text),
        neighborhood=tuple(Probe(text, target_true) for text in neighbors if text and target_true),
    )


def read_flat(row: Row) -> EditRequest:
    """One row of EasyEdit's file.

    Raises:
        AuditError: a field is missing or of the wrong type.
        UnusableError: empty subject or target, target equal to the old answer, subject not in the prompt.
    """
    prompt, subject, target_new, target_true, rephrase, near, near_answer = (row.text(field) for field in FLAT_FIELDS)
    check_present("subject", subject, "what the fact is about")
    check_target("target_new", target_new, (target_true,) if target_true else ())
    return EditRequest(
        case_id=_case_id(row),
        subject=subject,
        prompt=put_slot("prompt", prompt, subject),
        target_new=target_new,
        target_true=target_true or None,
        paraphrases=(rephrase,) if rephrase else (),
        neighborhood=(Probe(near, near_answer),) if near and near_answer else (),
    )


def _case_id(row: Row) -> str:
    return row.label("case_id") if "case_id" in row.values else f"line-{row.line}"
