"""Edit requests from benchmarks that test what follows from an edit: KnowEdit, MQuAKE, WikiBigEdit and RippleEdits.

    KnowEdit (wiki_recent, wiki_counterfact, ZsRE-test-all): {"subject": ..., "prompt": ..., "target_new": ...,
        "ground_truth": ..., "rephrase_prompt": ..., "portability": {GROUP: [{"prompt": ..., "ground_truth": ...}]},
        "locality": {GROUP: [{"prompt": ..., "ground_truth": ...}]}}
    MQuAKE: {"case_id": 1, "requested_rewrite": [{"prompt": "... {} ...", "subject": ..., "question": ...,
        "target_new": {"str": ...}, "target_true": {"str": ...}}], "questions": [...], "new_answer": ...,
        "new_answer_alias": [...], "single_hops": [{"question": ..., "cloze": ..., "answer": ..., "answer_alias": []}],
        "new_single_hops": [...]}
    WikiBigEdit: {"subject": ..., "update": ..., "ans": ..., "rephrase": ..., "personas": ..., "loc": ...,
        "loc_ans": ..., "mhop": ..., "mhop_ans": ...}
    RippleEdits: {"example_type": ..., "edit": {"prompt": "The mother of SUBJECT is TARGET.", "relation": "MOTHER",
        "original_fact": {"prompt": ...}}, CRITERION: [{"test_queries": [{"prompt": ..., "answers": [{"value": ...,
        "aliases": [...]}]}]}]}

Lists of answers may be nested; each answer of a probe is right. The errors are those of `benchmark_files`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from audit.edits.benchmark_files import one_hop, probes
from audit.edits.checks import SLOT, check_present, check_prompt, check_target, put_slot
from audit.edits.requests import EditRequest, Probe
from audit.edits.rows import Row, UnusableError, shown

PORTABILITY_CRITERIA = ("Logical_Generalization", "Compositionality_I", "Compositionality_II", "Subject_Aliasing")
LOCALITY_CRITERIA = ("Relation_Specificity", "Relation_Specifity", "Forgetfulness", "Preservation")
# Around the subject in RippleEdits' sentences, where this is not "... RELATION of SUBJECT is".
_RELATIONS = {
    "SIBLING": "siblings of {} are",
    "CAST_MEMBER": "cast members of {} are",
    "SEX_OR_GENDER": "gender of {} is",
    "NATIVE_LANGUAGE": "mother tongue of {} is",
    "CAPITAL": "capital city of {} is",
    "POSITION_HELD": "position held by {} is",
    "NUMBER_OF_CHILDREN": "number of children {} has is",
    "COUNTRY": "country which {} is associated with is",
    "ETHNIC_GROUP": "ethnic group which {} is associated with is",
    "RELIGION": "religion which {} is associated with is",
    "MEMBER_OF_SPORTS_TEAM": "sports team which {} is a member of is",
    "LEAGUE": "league which {} plays in is",
    "AWARD_RECEIVED": "award {} won is",
    "CONTINENT": "continent which {} is part of is",
    "CURRENCY": "currency in {} is",
    "CAPITAL_OF": "country which {} is the capital of is",
    "FOLLOWS": "{} follows",
    "FOLLOWED_BY": "{} is followed by",
}


def read_knowedit(row: Row) -> EditRequest:
    """A row of KnowEdit; every group of `portability` and `locality` is read."""
    subject, prompt, target = (row.text(field) for field in ("subject", "prompt", "target_new"))
    old = row.answers("ground_truth") if "ground_truth" in row.values else ()
    rephrased = [row.answers(field) for field in ("rephrase_prompt", "rephrase") if field in row.values]
    check_present("subject", subject, "the subject of the fact")
    check_target("target_new", target, old)
    hops = row.values.get("portability")
    extended = isinstance(hops, dict) and "New Question" in hops
    return EditRequest(
        case_id=row.case_id,
        subject=subject,
        prompt=put_slot("prompt", prompt, subject),
        target_new=target,
        target_true=old[0] if old else None,
        paraphrases=tuple(text for texts in rephrased for text in texts),
        neighborhood=tuple(_in_groups(row, "locality")),
        portability=one_hop(row) if extended else tuple(_in_groups(row, "portability")),
    )


def read_mquake(row: Row) -> tuple[EditRequest, ...]:
    """The rewrites of a row of MQuAKE, one request each.

    The last request has the probes that need all rewrites of the row: the multi-hop prompts (portability), and the hops
    that no rewrite changes (neighborhood).
    """
    rewrites = row.objects("requested_rewrite")
    if not rewrites:
        raise UnusableError("requested_rewrite", "is an empty list", "give at least one rewrite")
    requests = []
    for number, rewrite in enumerate(rewrites):
        prompt, subject = rewrite.text("prompt"), rewrite.text("subject")
        target_new, target_true = (rewrite.inside(field).text("str") for field in ("target_new", "target_true"))
        question, at = rewrite.optional_text("question"), f"requested_rewrite[{number}]"
        check_present(f"{at}.subject", subject, "the subject of the fact")
        check_present(f"{at}.prompt", prompt, f"a prompt with one {SLOT}")
        check_prompt(f"{at}.prompt", prompt, subject)
        check_target(f"{at}.target_new.str", target_new, (target_true,) if target_true else ())
        requests.append(
            EditRequest(
                case_id=row.case_id if len(rewrites) == 1 else f"{row.case_id}.{number + 1}",
                subject=subject,
                prompt=prompt,
                target_new=target_new,
                target_true=target_true or None,
                paraphrases=(question,) if question else (),
            )
        )
    answers = (row.text("new_answer"), *_aliases(row, "new_answer_alias"))
    follow = (probe for text in row.texts("questions") for probe in probes(text, answers))
    rewritten = {text for one in requests for text in (one.filled_prompt, *one.paraphrases)}
    kept = [probe for field in ("single_hops", "new_single_hops") for probe in _hops(row, field, rewritten)]
    *first, last = requests
    return (*first, replace(last, neighborhood=tuple(kept), portability=tuple(follow)))


def read_wikibigedit(row: Row) -> EditRequest:
    """A row of WikiBigEdit; missing probes are null."""
    subject, update, target = (row.text(field) for field in ("subject", "update", "ans"))
    check_present("subject", subject, "the subject of the fact")
    check_target("ans", target)
    rephrased = [
        row.optional_text(field) for field in row.values if field == "rephrase" or field.startswith("personas")
    ]
    near, further = (
        probes(row.optional_text(field), (row.optional_text(f"{field}_ans"),)) for field in ("loc", "mhop")
    )
    return EditRequest(
        case_id=row.case_id,
        subject=subject,
        prompt=put_slot("update", update, subject),
        target_new=target,
        paraphrases=tuple(text for text in rephrased if text),
        neighborhood=near,
        portability=further,
    )


def read_ripple_edits(row: Row) -> EditRequest:
    """A row of RippleEdits, whose sentences hold subject and target; the row has only their Wikidata ids."""
    edit = row.inside("edit")
    sentence, relation = edit.text("prompt"), edit.text("relation")
    old = next((edit.inside(field) for field in ("original_fact", "previous_fact") if edit.values.get(field)), None)
    old_sentence = "" if old is None else old.text("prompt")
    near, further = (tuple(_in_criteria(row, names)) for names in (LOCALITY_CRITERIA, PORTABILITY_CRITERIA))
    known = [old_sentence, *(probe.prompt for probe in (*near, *further))]
    prompt, subject, target = _sentence_parts(sentence, relation, known)
    cloze = prompt.replace(SLOT, subject)
    target_true = old_sentence.removeprefix(cloze).strip().removesuffix(".") if old_sentence.startswith(cloze) else ""
    check_target("edit.prompt", target, (target_true,) if target_true else ())
    return EditRequest(
        case_id=row.case_id,
        subject=subject,
        prompt=prompt,
        target_new=target,
        target_true=target_true or None,
        neighborhood=near,
        portability=further,
    )


def _sentence_parts(sentence: str, relation: str, known: Sequence[str]) -> tuple[str, str, str]:
    """(prompt with `{}`, subject, target) of a sentence such as "The name of the mother of SUBJECT is TARGET.".

    If the subject itself contains the words after it, the one that occurs in most of the `known` texts is taken.
    """
    words = relation.lower().replace("_", " ").replace(SLOT, "")
    before, after = _RELATIONS.get(relation, f"{words} of {SLOT} is").split(SLOT)
    start = sentence.find(before) + len(before)
    parts = sentence[start:].split(f"{after} ")
    subjects = [f"{after} ".join(parts[:count]) for count in range(1, len(parts))]
    if before not in sentence or not any(subjects):
        raise UnusableError(
            "edit.prompt",
            f"{shown(sentence)} is not a sentence of the relation {shown(relation)}",
            f"write '... {before}SUBJECT{after} TARGET.'",
        )
    counts = {subject: sum(subject in text for text in known) for subject in subjects if subject}
    subject = max(counts, key=lambda one: (counts[one], len(one) if counts[one] else -len(one)))
    prompt, end = sentence[:start] + SLOT + after, start + len(subject) + len(after)
    check_prompt("edit.prompt", prompt, subject)
    return prompt, subject, sentence[end:].strip().removesuffix(".")


def _in_groups(row: Row, field: str) -> Iterator[Probe]:
    """The probes in all groups of `portability` or `locality` of KnowEdit."""
    if row.values.get(field) is None:
        return
    groups = row.inside(field)
    for name in groups.values:
        for entry in _objects(groups, name):
            yield from probes(entry.text("prompt"), entry.answers("ground_truth"))


def _in_criteria(row: Row, names: Sequence[str]) -> Iterator[Probe]:
    """The test queries of these criteria of RippleEdits."""
    for query in (query for name in names for case in _objects(row, name) for query in case.objects("test_queries")):
        given = query.objects("answers")
        answers = [text for answer in given for text in (answer.text("value"), *_aliases(answer, "aliases"))]
        yield from probes(query.text("prompt"), answers)


def _hops(row: Row, field: str, rewritten: set[str]) -> Iterator[Probe]:
    """The hops of MQuAKE that no rewrite changes."""
    for hop in _objects(row, field):
        cloze = hop.text("cloze")
        if rewritten.isdisjoint((cloze, hop.optional_text("question"))):
            yield from probes(cloze, (hop.text("answer"), *_aliases(hop, "answer_alias")))


def _objects(row: Row, field: str) -> tuple[Row, ...]:
    """The list of objects of an optional field."""
    return () if row.values.get(field) is None else row.objects(field)


def _aliases(row: Row, field: str) -> tuple[str, ...]:
    return row.answers(field) if field in row.values else ()
