"""Logs of inspect_ai: `.eval`, a zip of JSON, and `.json`, one document.

`inspect_ai.log.read_eval_log` needs seconds to import and reads every message of every sample. The scores are in a
summary, `summaries.json`, which is read here; where a log has none, in `samples/*.json`. The members of a zip are
packed with Deflate or, by newer versions, with Zstandard, which Python's zipfile reads from 3.14 on and pyarrow here.
https://inspect.aisi.org.uk/eval-logs.html
"""

import json
import struct
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from audit.errors import AuditError, first_line
from audit.store.files import parse_json
from audit.workflows.results.choices import Choices, chosen_metric
from audit.workflows.results.columns import with_file
from audit.workflows.results.task_scores import TaskScores, checked, listed

ZSTANDARD = 93
LETTERS: Mapping[str, float] = {
    "C": 1.0,
    "P": 0.5,
    "I": 0.0,
    "N": 0.0,
    "yes": 1.0,
    "true": 1.0,
    "no": 0.0,
    "false": 0.0,
}
COMPARED = 900  # characters of a text; a summary cuts longer ones


def inspect_task(path: Path, choices: Choices) -> tuple[TaskScores, tuple[str, ...]]:
    """The task of a log, with the mean score over the epochs of each sample, and notes about samples without a score.

    Raises:
        AuditError: the file is no log, or not one of a finished evaluation; or a score is no number.
    """
    with_file(path)
    try:
        header, samples = _zipped(path) if path.suffix == ".eval" else _document(path)
        task, status = str(header["eval"]["task"]), str(header.get("status"))
    except (ValueError, KeyError, TypeError, AttributeError, OSError, zipfile.BadZipFile, zlib.error) as problem:
        reason = f"it lacks {problem}" if isinstance(problem, KeyError) else first_line(problem)
        raise AuditError(f"{path}: is no log of inspect_ai ({reason}); give an .eval or .json log.") from None
    if status != "success":
        raise AuditError(
            f"{path}: the status of this log is {status!r}, so samples are missing; finish it with inspect eval-retry."
        )
    return _task(path, task, samples, choices)


def _task(
    path: Path, task: str, samples: Sequence[Mapping[str, Any]], choices: Choices
) -> tuple[TaskScores, tuple[str, ...]]:
    origin = str(path)
    try:
        scored = [one for one in samples if one.get("scores")]
        if not scored:
            raise AuditError(f"{path}: no sample of {task} has a score; run inspect score on the log.")
        metric = _metric(origin, task, scored, choices)
        scorer, _, key = metric.partition("/")
        there = [one for one in scored if scorer in one["scores"]]
        scores = [_number(one["scores"][scorer]["value"], key, origin, one) for one in there]
        found = TaskScores(
            task=task,
            metric=metric,
            protocol="inspect",
            ids=[str(one["id"]) for one in there],
            scores=np.array(scores, dtype=np.float64),
            content={"document": [_content(one) for one in there]},
            **_floor(there, scores),
            texts=[str(one["scores"][scorer].get("answer") or "") for one in there],
            golds=[" or ".join(_texts(one.get("target"))) for one in there],
        )
        pairs = {(str(one["id"]), one.get("epoch")) for one in there}
    except (KeyError, TypeError, AttributeError) as problem:
        raise AuditError(f"{path}: a sample of {task} is damaged (it lacks {problem}); export the log again.") from None
    if len(pairs) < len(there):
        raise AuditError(f"{path}: {len(there) - len(pairs)} samples of {task} occur twice in an epoch; mend the log.")
    without = [str(one["id"]) for one in samples if scorer not in (one.get("scores") or {})]
    note = (
        f"{path}: {len(without)} samples of {task} have no score by {scorer} ({listed(without)}) and count as missing."
    )
    return checked(found, origin, repeated=True), (note,) if without else ()


def _metric(origin: str, task: str, scored: Sequence[Mapping[str, Any]], choices: Choices) -> str:
    """The scorer, or "scorer/key" where its value is a mapping."""
    offered: list[str] = []
    refused: dict[str, str] = {}
    for name, score in scored[0]["scores"].items():
        value = score["value"]
        if isinstance(value, dict):
            offered += [f"{name}/{key}" for key in value]
            refused[name] = "has several values for each sample"
        elif isinstance(value, list):
            refused[name] = "has a list of values for each sample"
        else:
            offered.append(name)
    return chosen_metric(origin, task, offered, refused, choices)


def _number(value: Any, key: str, origin: str, sample: Mapping[str, Any]) -> float:
    """The score as `inspect_ai.scorer.value_to_float` has it."""
    value = value[key] if key else value
    if isinstance(value, str):
        named = LETTERS.get(value, LETTERS.get(value.lower()))
        if named is not None:
            return named
    try:
        return float(value)
    except (TypeError, ValueError):
        raise AuditError(
            f"{origin}: sample {sample['id']!r} has the score {json.dumps(value)[:60]}, which is no number; choose "
            "another scorer with --metric."
        ) from None


def _floor(samples: Sequence[Mapping[str, Any]], scores: Sequence[float]) -> dict[str, Any]:
    """The score of the best constant answer, where a sample is right or wrong; else nothing is known."""
    if any(score not in (0.0, 1.0) for score in scores):
        return {}
    targets = Counter(" or ".join(_texts(one.get("target"))) for one in samples)
    constant = max(targets.values()) / len(samples)
    choices = [len(one["choices"]) for one in samples if one.get("choices")]
    chance = sum(1 / number for number in choices) / len(choices) if choices else 0.0
    source = "the most frequent target" if constant >= chance else "chance among the choices"
    return {"floor": max(constant, chance), "floor_source": source}


def _content(sample: Mapping[str, Any]) -> str:
    """What the sample asks, as far as both kinds of log have it."""
    parts = [*_texts(sample.get("input")), *_texts(sample.get("choices")), *_texts(sample.get("target"))]
    return "\n".join([" ".join(part.split())[:COMPARED] for part in parts])


def _texts(value: Any) -> list[str]:
    """The texts in an input, a target or choices: a text, or a list of texts or of messages."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, list):
        return [text for one in value for text in _texts(one)]
    if isinstance(value, dict):
        return _texts(value.get("content", value.get("text")))
    return [] if value is None else [str(value)]


def _document(path: Path) -> tuple[Mapping[str, Any], Sequence[Mapping[str, Any]]]:
    document = parse_json(path.read_bytes())
    if document.get("samples") is None and "eval" in document:
        raise ValueError("it has no samples: it was written with --no-log-samples")
    return document, document["samples"]


def _zipped(path: Path) -> tuple[Mapping[str, Any], Sequence[Mapping[str, Any]]]:
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        if "header.json" not in names:
            raise ValueError("it has no header.json: it was not finished, or it is another zip")
        header = parse_json(_member(archive, "header.json"))
        if "summaries.json" in names:
            return header, parse_json(_member(archive, "summaries.json"))
        samples = [name for name in names if name.startswith("samples/") and name.endswith(".json")]
        return header, list(_each(archive, samples))


def _each(archive: zipfile.ZipFile, names: Sequence[str]) -> Iterator[Mapping[str, Any]]:
    for name in names:
        yield parse_json(_member(archive, name))


def _member(archive: zipfile.ZipFile, name: str) -> bytes:
    """The content of a member of a zip."""
    member = archive.getinfo(name)
    if member.compress_type != ZSTANDARD:
        return archive.read(member)
    import pyarrow as pa

    assert archive.fp is not None
    archive.fp.seek(member.header_offset)
    lengths = struct.unpack("<2H", archive.fp.read(30)[26:])  # of the name and of the extra field
    archive.fp.seek(sum(lengths), 1)
    packed = pa.BufferReader(archive.fp.read(member.compress_size))
    with pa.input_stream(packed, compression="zstd") as stream:
        content: bytes = stream.read()
    if zlib.crc32(content) != member.CRC:
        raise ValueError(f"{name} in it is damaged")
    return content
