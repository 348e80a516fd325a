"""Edit requests from the files of benchmarks: CounterFact (ROME's nested and EasyEdit's flat schema) and ZsRE.

    CounterFact, nested: {"case_id": 0, "requested_rewrite": {"prompt": "... {} ...", "subject": ...,
        "target_new": {"str": ...}, "target_true": {"str": ...}}, "paraphrase_prompts": [...],
        "neighborhood_prompts": [...]}
    CounterFact, flat: {"case_id": 0, "prompt": ..., "subject": ..., "target_new": ..., "ground_truth": ...,
        "rephrase_prompt": ..., "locality_prompt": ..., "locality_ground_truth": ...}
    ZsRE: {"subject": ..., "src": ..., "alt": ..., "answers": [...], "rephrase": ..., "loc": ..., "loc_ans": ...}

The prompts of the last two contain the subject; one occurrence of it becomes `{}`. ZsRE is in the schema of MEND's
evaluation set, which EasyEdit reads too. Its new target is `alt`, as in EasyEdit; the code of ROME edits towards
`answers[0]` instead, which is the true answer in these rows.

All readers raise `AuditError` if a field is missing or has the wrong type, and `UnusableError` if the row is well
formed but no request: an empty subject or target, a target equal to an old answer, a prompt without the subject.
"""

from collections.abc import Sequence

from audit.edits.checks import SLOT, check_present, check_prompt, check_target, put_slot
from audit.edits.requests import EditRequest, Probe
from audit.edits.rows import Row

FLAT_FIELDS = (
    "prompt", "subject", "target_new", "ground_truth", "rephrase_prompt", "locality_prompt", "locality_ground_truth"
)  # fmt: skip


def read_nested_counterfact(row: Row) -> EditRequest:
    """A row of ROME's file. By construction of the set, the neighborhood prompts share the old answer."""
    rewrite = row.inside("requested_rewrite")
    prompt, subject = rewrite.text("prompt"), rewrite.text("subject")
    target_new, target_true = (rewrite.inside(field).text("str") for field in ("target_new", "target_true"))
    paraphrases, neighbors = row.texts("paraphrase_prompts"), row.texts("neighborhood_prompts")
    check_present("requested_rewrite.subject", subject, "the subject of the fact")
    check_present("requested_rewrite.prompt", prompt, f"a prompt with one {SLOT}")
    check_prompt("requested_rewrite.prompt", prompt, subject)
    check_target("requested_rewrite.target_new.str", target_new, (target_true,) if target_true else ())
    return EditRequest(
        case_id=row.case_id,
        subject=subject,
        prompt=prompt,
        target_new=target_new,
        target_true=target_true or None,
        paraphrases=tuple(text for text in paraphrases if text),
        neighborhood=tuple(Probe(text, target_true) for text in neighbors if text and target_true),
    )


def read_flat_counterfact(row: Row) -> EditRequest:
    """A row of EasyEdit's CounterFact file; `portability` is read where the row has it."""
    prompt, subject, target_new, target_true, rephrase, near, near_answer = (row.text(field) for field in FLAT_FIELDS)
    check_present("subject", subject, "the subject of the fact")
    check_target("target_new", target_new, (target_true,) if target_true else ())
    return EditRequest(
        case_id=row.case_id,
        subject=subject,
        prompt=put_slot("prompt", prompt, subject),
        target_new=target_new,
        target_true=target_true or None,
        paraphrases=(rephrase,) if rephrase else (),
        neighborhood=probes(near, (near_answer,)),
        portability=one_hop(row),
    )


def read_zsre(row: Row) -> EditRequest:
    """A row of ZsRE; `portability` is read where the row has it (in EasyEdit's extended file)."""
    subject, src, alt, rephrase, loc = (row.text(field) for field in ("subject", "src", "alt", "rephrase", "loc"))
    answers = row.answers("answers")
    check_present("subject", subject, "the subject of the fact")
    check_target("alt", alt, answers)
    prompt = put_slot("src", src, subject)
    return EditRequest(
        case_id=row.case_id,
        subject=subject,
        prompt=prompt,
        target_new=alt,
        target_true=answers[0] if answers else None,
        paraphrases=(rephrase,) if rephrase else (),
        neighborhood=probes(loc, row.answers("loc_ans")),
        portability=one_hop(row),
    )


def one_hop(row: Row) -> tuple[Probe, ...]:
    """The portability probe of EasyEdit's extended files, if the row has one."""
    if row.values.get("portability") is None:
        return ()
    hop = row.inside("portability")
    return probes(hop.text("New Question"), hop.answers("New Answer"))


def probes(prompt: str, answers: Sequence[str]) -> tuple[Probe, ...]:
    """One probe whose right answers are `answers`; none if the prompt is empty or there is no answer."""
    given = tuple(answer for answer in answers if answer)
    return (Probe(prompt, given[0], given[1:]),) if prompt and given else ()
