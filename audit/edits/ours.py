"""Our own format of edit requests: JSON Lines, one request on each line.

    {"subject": "Velden", "prompt": "The capital of {} is", "target_new": "Orsk", "target_true": "Marl"}

docs/edit-requests.md describes every field.
"""

import difflib
from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

from audit.edits.checks import SLOT, check_present, check_prompt, check_target
from audit.edits.requests import EditRequest, Probe
from audit.edits.rows import Row, UnusableError, shown

REQUIRED = ("subject", "prompt", "target_new")
OPTIONAL = ("case_id", "target_true", "paraphrases", "neighborhood", "portability")


def read_request(row: Row) -> EditRequest:
    """The request of a row.

    Raises:
        AuditError: a field is missing, unknown or of the wrong type.
        UnusableError: the fields are well formed but do not make a request.
    """
    _check_keys(row, (*REQUIRED, *OPTIONAL))
    subject, prompt, target_new = (row.text(field) for field in REQUIRED)
    check_present("subject", subject, "the subject of the fact")
    check_present("prompt", prompt, f"a prompt with one {SLOT} where the subject goes")
    check_prompt("prompt", prompt, subject)
    target_true = _target_true(row)
    check_target("target_new", target_new, () if target_true is None else (target_true,))
    check_present("case_id", row.case_id, "a name or number for the row, or leave the field out")
    request = EditRequest(row.case_id, subject, prompt, target_new, target_true)
    return replace(
        request,
        paraphrases=_paraphrases(row, request.filled_prompt),
        neighborhood=_probes(row, "neighborhood", request.filled_prompt),
        portability=_probes(row, "portability", request.filled_prompt),
    )


def request_fields(request: EditRequest) -> dict[str, Any]:
    """The inverse of `read_request`: the fields of a row; empty optional fields are left out."""
    fields = _filled(asdict(request))
    probes = {
        kind: [_filled(probe) for probe in fields[kind]] for kind in ("neighborhood", "portability") if kind in fields
    }
    return fields | probes


def _filled(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that are not empty."""
    return {name: value for name, value in fields.items() if value not in (None, ())}


def _target_true(row: Row) -> str | None:
    if row.values.get("target_true") is None:
        return None
    target_true = row.text("target_true")
    check_present("target_true", target_true, "the old answer, or leave the field out")
    return target_true


def _paraphrases(row: Row, edit_prompt: str) -> tuple[str, ...]:
    texts = row.texts("paraphrases") if "paraphrases" in row.values else ()
    for index, text in enumerate(texts):
        _check_complete(f"paraphrases[{index}]", text, edit_prompt)
    return texts


def _probes(row: Row, kind: str, edit_prompt: str) -> tuple[Probe, ...]:
    probes = []
    for index, entry in enumerate(row.objects(kind) if kind in row.values else ()):
        _check_keys(entry, ("prompt", "answer", "aliases"))
        aliases = entry.texts("aliases") if "aliases" in entry.values else ()
        probe = Probe(entry.text("prompt"), entry.text("answer"), aliases)
        _check_complete(f"{kind}[{index}].prompt", probe.prompt, edit_prompt)
        for field, answer in [("answer", probe.answer), *((f"aliases[{k}]", one) for k, one in enumerate(aliases))]:
            check_present(f"{kind}[{index}].{field}", answer, "the answer that the edited model should give")
        probes.append(probe)
    return tuple(probes)


def _check_complete(field: str, text: str, edit_prompt: str) -> None:
    """A probe's prompt is complete and differs from the edit prompt."""
    check_present(field, text, "a complete prompt")
    if SLOT in text:
        raise UnusableError(field, f"{shown(text)} contains {SLOT}", f"write the subject; only 'prompt' has a {SLOT}")
    if text == edit_prompt:
        raise UnusableError(field, f"{shown(text)} is the edit prompt itself", "word it differently or remove it")


def _check_keys(row: Row, known: tuple[str, ...]) -> None:
    for key in row.values:
        if key not in known:
            close = difflib.get_close_matches(key, known, n=1)
            remedy = f"write '{close[0]}' if that was meant, or remove it" if close else "remove it"
            raise row.error(shown(key)[1:-1], "is not a known field", f"{remedy}; known fields are {', '.join(known)}")
