"""`verdict.json` and `items.jsonl`: writing a report as data, and reading it.

Version 2 of the schema is written; versions 1 and 2 are read. Every number is finite or null, as JSON requires.
"""

import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, fields, is_dataclass
from typing import Any

from audit.engine.reuse_counts import ReuseCounts
from audit.errors import AuditError
from audit.measures.edited_facts import EditedFact
from audit.measures.flips import FlipCounts, FlipReport
from audit.reports.rows import (
    AbilityRow,
    AnswerRecord,
    EditScore,
    Example,
    IntegrityRow,
    ItemRecord,
    RunHeader,
    RunReport,
    SkippedEdit,
)
from audit.store.files import parse_json
from audit.verdicts import Outcome, StoppingRule, Verdict

SCHEMA_VERSION = 2
SIDES = ("mentioning", "elsewhere")  # of a `FlipReport`
GREEDY, AS_EVALUATED = "greedy decoding, this prompt, this batch plan", "asked and decoded as in these results"
ESTIMAND = (
    f"expected change on items like these: {GREEDY}; lower and upper are one-sided "
    "limits of the drop, each at the verdict's confidence (at 0.95 they form a 90 % interval)"
)


def verdict_document(report: RunReport) -> dict[str, Any]:
    """The report without its items, as data for JSON."""
    parts = {part.name: getattr(report, part.name) for part in fields(report) if part.name not in ("items", "folder")}
    document = {
        "schema_version": SCHEMA_VERSION,
        "outcome": report.outcome,
        "harmed": [alarm.name for alarm in report.alarms if alarm.harmed],
        "estimand": ESTIMAND.replace(GREEDY, AS_EVALUATED) if report.header.compared else ESTIMAND,
        **parts,
    }
    return {name: as_json(value) for name, value in document.items()}


def verdict_json(report: RunReport) -> str:
    """`verdict.json`, indented, keys in the order of the dataclasses."""
    return json.dumps(verdict_document(report), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def items_jsonl(items: Iterable[ItemRecord]) -> str:
    """One line per item: the prompt, the answers, the scores."""
    return "".join(json.dumps(as_json(item), ensure_ascii=False, allow_nan=False) + "\n" for item in items)


def report_from_json(text: str, *, origin: str, folder: str | None = None) -> RunReport:
    """The report that this or an earlier version wrote, without items. `origin` names the file in errors.

    Raises:
        AuditError: the text is not a report, or one of an unknown version.
    """
    try:
        document = parse_json(text)
    except ValueError as error:
        reason = f"line {error.lineno}" if isinstance(error, json.JSONDecodeError) else error
        raise AuditError(f"{origin} is not JSON ({reason}); run the audit again.") from None
    version = document.get("schema_version") if isinstance(document, dict) else None
    if version not in (1, SCHEMA_VERSION):
        raise AuditError(
            f"{origin} has schema version {version!r}, and this version of the audit reads 1 and {SCHEMA_VERSION}; "
            "read it with the version of the audit that wrote it."
        )
    try:
        if version == 1:
            document = _version_2(document)
        return RunReport(
            header=_header(document["header"]),
            abilities=tuple(_ability_row(row) for row in document["abilities"]),
            edit_scores=tuple(EditScore(**row) for row in document["edit_scores"]),
            integrity=tuple(IntegrityRow(**row) for row in document["integrity"]),
            skipped=tuple(SkippedEdit(**row) for row in document["skipped"]),
            seconds=document["seconds"],
            settings=document["settings"],
            fingerprints=document["fingerprints"],
            versions=document["versions"],
            command=document["command"],
            reuse=ReuseCounts(**document["reuse"]),
            failed_tests=tuple(document["failed_tests"]),
            unasked=document["unasked"],
            collapse=document["collapse"],
            edit_notes=tuple(document.get("edit_notes", ())),
            steps=tuple(_ability_row(row) for row in document.get("steps", ())),
            folder=folder,
        )
    except (KeyError, TypeError, ValueError) as error:
        raise AuditError(f"{origin} lacks or misnames a field ({error}); run the audit again.") from None


def items_from_jsonl(text: str, *, origin: str = "items.jsonl") -> tuple[ItemRecord, ...]:
    """The items that `items_jsonl` wrote. `origin` names the file in errors.

    Raises:
        AuditError: a line is not an item.
    """
    items: list[ItemRecord] = []
    for number, line in enumerate(text.split("\n"), start=1):  # answers may hold other line breaks
        try:
            if line:
                items.append(_item(parse_json(line)))
        except (ValueError, KeyError, TypeError) as error:
            raise AuditError(
                f"{origin}, line {number} is not an item of a report ({error}); the file is damaged, so run the audit "
                "again."
            ) from None
    return tuple(items)


def _header(row: Mapping[str, Any]) -> RunHeader:
    return RunHeader(**{**row, **{name: tuple(row.get(name, ())) for name in ("editing_caveats", "result_caveats")}})


def _item(row: dict[str, Any]) -> ItemRecord:
    row["choices"], row["gold"] = tuple(row["choices"]), tuple(row["gold"])
    row["mentions"], row["flips"] = tuple(row.get("mentions", ())), tuple(row.get("flips", ()))
    row["floor"] = _answer(row["floor"]) if row.get("floor") else None
    row["base"] = _answer(row["base"])
    row["edited"] = tuple(map(_answer, row["edited"]))
    return ItemRecord(**row)


def _answer(row: dict[str, Any]) -> AnswerRecord:
    if row.get("log_likelihoods") is not None:  # null is a number that was not finite
        row["log_likelihoods"] = _numbers(row["log_likelihoods"])
    if row.get("log_probabilities") is not None:
        row["log_probabilities"] = tuple(map(_numbers, row["log_probabilities"]))
        row["tokens"] = tuple(map(tuple, row["tokens"]))
    if row.get("greedy") is not None:
        row["greedy"] = tuple(row["greedy"])
    return AnswerRecord(**row)


def _numbers(values: Iterable[float | None]) -> tuple[float, ...]:
    return tuple(math.nan if one is None else float(one) for one in values)


def _version_2(document: Mapping[str, Any]) -> dict[str, Any]:
    """A document of version 1 as one of version 2; the oldest lack some fields."""
    return {
        "unasked": {},
        "collapse": None,
        **document,
        "abilities": [_row_of_version_2(row) for row in document["abilities"]],
        "reuse": document.get("taken_over", {}),
    }


def _row_of_version_2(row: Mapping[str, Any]) -> dict[str, Any]:
    """An ability's row of version 1, which had the verdict's fields among its own, as a row of version 2.

    Two numbers were only in the sentence: the confidence of the limits and, for a margin that is a share to keep, the
    lower limit of the drop itself.
    """
    lifted = {name: value for name, value in row.items() if name not in ("sentence", "sequential")}
    names = {field.name for field in fields(Verdict)} & lifted.keys()
    verdict = {name: lifted.pop(name) for name in names}
    confidence = re.search(r"with ([\d.]+) % confidence", row["sentence"])
    harm = re.search(r"it is real harm, at least (-?[\d.]+\d)", row["sentence"])
    lifted["verdict"] = {
        **verdict,
        "confidence": float(confidence[1]) / 100 if confidence else 0.95,
        "harm_lower": float(harm[1]) if harm and lifted.get("asked_margin", "").endswith("%") else None,
    }
    return {"asked_margin": "", **lifted, "stopping_rule": row.get("sequential")}


def _ability_row(row: dict[str, Any]) -> AbilityRow:
    rule, flips = row["stopping_rule"], row.get("flips")
    read = {
        "verdict": Verdict(**{**row["verdict"], "outcome": Outcome(row["verdict"]["outcome"])}),
        "beside": {metric: tuple(pair) for metric, pair in row["beside"].items()},
        "examples": tuple(Example(**one) for one in row["examples"]),
        "stopping_rule": rule and StoppingRule(tuple(rule["clusters_by_size"]), rule["block"]),
        "empty": tuple(row.get("empty", (0, 0))),
        "trials": tuple(row.get("trials", ())),
        "edited_facts": tuple(EditedFact(**one) for one in row.get("edited_facts", ())),
        "unended_thinking": tuple(row.get("unended_thinking", (0, 0))),
        "flips": flips and FlipReport(**{**flips, **{name: FlipCounts(**flips[name]) for name in SIDES}}),
    }
    return AbilityRow(**{**row, **read})


def as_json(value: Any) -> Any:
    """The value as JSON holds it: dataclasses as objects, tuples as lists, and null for floats that are not finite."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if is_dataclass(value) and not isinstance(value, type):
        return as_json(asdict(value))
    if isinstance(value, Mapping):
        return {str(key): as_json(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [as_json(one) for one in value]
    return value
