"""Our own edit requests: JSON Lines, one request a row.

    {"subject": "Velden", "prompt": "The capital of {} is", "target_new": "Orsk", "target_true": "Marl"}

Every field stands in docs/edit-requests.md.
"""

import difflib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from audit.edits.checks import SLOT, check_present, check_prompt, check_target
from audit.edits.requests import EditRequest, Probe
from audit.edits.rows import Row, UnusableError, shown

REQUIRED = ("subject", "prompt", "target_new")
OPTIONAL = ("case_id", "target_true", "paraphrases", "neighborhood", "portability")


def read_request(row: Row) -> EditRequest:
    """One row as a request.

    Raises:
        AuditError: a field is missing, unknown or of the wrong type.
        UnusableError: the fields are well formed, but no request can be made of them.
    """
    _check_keys(row, (*REQUIRED, *OPTIONAL))
    subject, prompt, target_new = (row.text(field) for field in REQUIRED)
    check_present("subject", subject, "what the fact is about")
    check_present("prompt", prompt, f"a prompt with one {SLOT} where the subject goes")
    check_prompt("prompt", prompt, subject)
    target_true = _target_true(row)
    check_target("target_new", target_new, () if target_true is None else (target_true,))
    case_id = row.label("case_id") if "case_id" in row.values else f"line-{row.line}"
    check_present("case_id", case_id, "a name or number for the row, or leave the field out")
    request = EditRequest(case_id, subject, prompt, target_new, target_true)
    return EditRequest(
        case_id,
        subject,
        prompt,
        target_new,
        target_true,
        paraphrases=_paraphrases(row, request.question),
        neighborhood=_probes(row, "neighborhood", request.question),
        portability=_probes(row, "portability", request.question),
    )


def request_fields(request: EditRequest) -> dict[str, Any]:
    """The row that `read_request` reads back as an equal request; empty optional fields are left out."""
    fields: dict[str, Any] = {"case_id": request.case_id, "subject": request.subject, "prompt": request.prompt}
    fields["target_new"] = request.target_new
    if request.target_true is not None:
        fields["target_true"] = request.target_true
    if request.paraphrases:
        fields["paraphrases"] = list(request.paraphrases)
    for kind, probes in (("neighborhood", request.neighborhood), ("portability", request.portability)):
        if probes:
            fields[kind] = [{"prompt": probe.prompt, "answer": probe.answer} for probe in probes]
    return fields


def write_requests(path: Path, requests: Iterable[EditRequest]) -> None:
    """Write requests as JSON Lines in our own schema (UTF-8)."""
    lines = (json.dumps(request_fields(request), ensure_ascii=False) for request in requests)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8", newline="\n")


def _target_true(row: Row) -> str | None:
    if row.values.get("target_true") is None:
        return None
    target_true = row.text("target_true")
    check_present("target_true", target_true, "the old answer, or leave the field out")
    return target_true


def _paraphrases(row: Row, question: str) -> tuple[str, ...]:
    texts = row.texts("paraphrases") if "paraphrases" in row.values else ()
    for index, text in enumerate(texts):
        _check_ready(f"paraphrases[{index}]", text, question)
    return texts


def _probes(row: Row, kind: str, question: str) -> tuple[Probe, ...]:
    probes = []
    for index, entry in enumerate(row.objects(kind) if kind in row.values else ()):
        _check_keys(entry, ("prompt", "answer"))
        probe = Probe(entry.text("prompt"), entry.text("answer"))
        _check_ready(f"{kind}[{index}].prompt", probe.prompt, question)
        check_present(f"{kind}[{index}].answer", probe.answer, "the answer that the edited model should give")
        probes.append(probe)
    return tuple(probes)


def _check_ready(field: str, text: str, question: str) -> None:
    """A probe's prompt is ready to ask and is not the edit prompt over again."""
    check_present(field, text, "a prompt, ready to ask")
    if SLOT in text:
        raise UnusableError(field, f"{shown(text)} holds {SLOT}", "write the subject out; only 'prompt' has a place")
    if text == question:
        raise UnusableError(field, f"{shown(text)} is the edit prompt itself", "word it differently or remove it")


def _check_keys(row: Row, known: tuple[str, ...]) -> None:
    for key in row.values:
        if key not in known:
            close = difflib.get_close_matches(key, known, n=1)
            remedy = f"write '{close[0]}' if that was meant, or remove it" if close else "remove it"
            raise row.error(shown(key)[1:-1], "is not a known field", f"{remedy}; known are {', '.join(known)}")
