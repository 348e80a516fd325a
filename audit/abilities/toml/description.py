"""The description of an ability in a .toml file: its keys, their types, and what is wrong with a file.

title = "Triage of tickets"              # default: the name of the file
prompt = "Ticket: {{ text }}\\nTeam:"     # a template of jinja2 over the columns of a row
gold = "team"                            # the column with the right answer, or a list of right answers
metric = "accuracy"                      # or "exact match", "token F1", "ROUGE"
readings = ["answers", "choices"]        # in order of preference; default: all that the file allows
floor = "constant"                       # or "majority", "1/k", or a number; default: measured
cluster = "customer"                     # the column that says which rows share a source

[answers]
pattern = 'Team: (\\w+)'                  # its one group is the answer; default: the whole text
max_new_tokens = 8
stop = ["\\n"]
example = "Team: {{ team }}"             # a right answer in writing; default: the gold

[choices]
labels = ["billing", "technical"]        # or column = "options"

[data]
file = "triage.jsonl"                    # default: the .jsonl, .csv or .parquet file of the same name
training = "triage.train.jsonl"          # or hub, config, split, training and revision
"""

import difflib
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from audit.abilities.data import Source
from audit.abilities.data.files import KINDS, FileSource
from audit.abilities.data.hub import HubDataSet, HubSource
from audit.abilities.toml.template import RowTemplate
from audit.errors import AuditError, first_line

NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")
METRICS = ("accuracy", "exact match", "token F1", "ROUGE")
READINGS = ("answers", "choices", "calibrated", "likelihood")
FLOORS = ("constant", "majority", "1/k")
LONGEST_ANSWER = 4096  # tokens

_TEXT, _NUMBER, _WHOLE, _TEXTS, _TABLE = "a text", "a number", "a whole number", "a list of texts", "a table"
_KEYS: dict[str, dict[str, tuple[str, ...]]] = {
    "": {
        "title": (_TEXT,),
        "prompt": (_TEXT,),
        "gold": (_TEXT,),
        "metric": (_TEXT,),
        "readings": (_TEXTS,),
        "floor": (_TEXT, _NUMBER),
        "cluster": (_TEXT,),
        "answers": (_TABLE,),
        "choices": (_TABLE,),
        "data": (_TABLE,),
    },
    "answers": {"pattern": (_TEXT,), "max_new_tokens": (_WHOLE,), "stop": (_TEXTS,), "example": (_TEXT,)},
    "choices": {"labels": (_TEXTS,), "column": (_TEXT,)},
    "data": {name: (_TEXT,) for name in ("file", "training", "hub", "config", "split", "revision")},
}


@dataclass(frozen=True)
class WrittenAnswers:
    """How an answer is written and read: `pattern` has one group, `example` is a right answer in writing."""

    pattern: re.Pattern[str] | None = None
    max_new_tokens: int = 32
    stop: tuple[str, ...] = ("\n",)
    example: RowTemplate | None = None


@dataclass(frozen=True)
class Description:
    """An ability as its file describes it; `labels` and `options` (a column) are empty without [choices]."""

    path: Path
    title: str
    prompt: RowTemplate
    gold: str
    metric: str
    readings: tuple[str, ...]
    floor: str | float
    cluster: str
    answers: WrittenAnswers
    labels: tuple[str, ...]
    options: str
    source: Source
    plain: Mapping[str, Any] = field(repr=False)  # the content of the file, for fingerprints

    @property
    def name(self) -> str:
        return self.path.stem


def read_description(path: Path) -> Description:
    """The description in a file.

    Raises:
        AuditError: the file cannot be read or is not TOML, a key is unknown, missing or of the wrong type, a template
            or a pattern is none, or two keys contradict each other.
    """
    try:
        plain = tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise AuditError(f"{path} is not TOML ({error}); correct it.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise AuditError(f"{path} cannot be read ({first_line(error)}); give the .toml file of an ability.") from None
    if not NAME.fullmatch(path.stem):
        raise AuditError(
            f"{path}: the name of the file is the name of the ability; use letters, digits, - and _, and begin with a "
            "letter."
        )
    _require_keys(path, plain)
    if plain.get("choices") == {}:
        raise AuditError(f"{path}: [choices] is empty; give labels or column.")
    answers, choices = plain.get("answers", {}), plain.get("choices", {})
    labels, options = _labels(path, choices), choices.get("column", "")
    metric = plain.get("metric", "accuracy" if choices else "exact match")
    _require_one_of(path, "metric", metric, METRICS)
    return Description(
        path=path,
        title=plain.get("title", path.stem),
        prompt=RowTemplate(plain["prompt"], f"{path}, prompt"),
        gold=plain["gold"],
        metric=metric,
        readings=_readings(path, plain.get("readings"), labels, options),
        floor=_floor(path, plain.get("floor", "constant"), options),
        cluster=plain.get("cluster", ""),
        answers=_written(path, answers),
        labels=labels,
        options=options,
        source=_source(path, plain.get("data", {})),
        plain=plain,
    )


def _require_keys(path: Path, plain: Mapping[str, Any]) -> None:
    for name in ("prompt", "gold"):
        if name not in plain:
            raise AuditError(f"{path} has no {name}; every ability needs a prompt and the column of its gold.")
    tables = {name: plain[name] for name in ("answers", "choices", "data") if isinstance(plain.get(name), dict)}
    for table, content in (("", plain), *tables.items()):
        known, where = _KEYS[table], f"[{table}] " if table else ""
        for key, value in content.items():
            if key not in known:
                close = difflib.get_close_matches(key, known, n=1)
                guess = f" (did you mean {close[0]!r}?)" if close else ""
                raise AuditError(f"{path}: {where}{key} is not a key of an ability{guess}; use {', '.join(known)}.")
            if not any(_is(kind, value) for kind in known[key]):
                raise AuditError(f"{path}: {where}{key} = {value!r} is not {' or '.join(known[key])}; correct it.")


def _is(kind: str, value: Any) -> bool:
    if kind == _TEXTS:
        return isinstance(value, list) and bool(value) and all(_is(_TEXT, one) for one in value)
    if kind == _TEXT:
        return isinstance(value, str) and bool(value)
    kinds: dict[str, Any] = {_NUMBER: int | float, _WHOLE: int, _TABLE: dict}
    return isinstance(value, kinds[kind]) and not isinstance(value, bool)


def _require_one_of(path: Path, key: str, value: str, known: Sequence[str]) -> None:
    if value not in known:
        raise AuditError(f"{path}: {key} = {value!r} is unknown; use {', '.join(known)}.")


def _labels(path: Path, choices: Mapping[str, Any]) -> tuple[str, ...]:
    """The fixed labels, if there are any."""
    if len(choices) > 1:
        raise AuditError(f"{path}: [choices] has both labels and column; give one of the two.")
    labels = tuple(choices.get("labels", ()))
    if labels and (len(labels) < 2 or len({label.strip() for label in labels}) < len(labels)):
        raise AuditError(f"{path}: [choices] labels = {list(labels)!r}: give at least two, all different.")
    return tuple(label.strip() for label in labels)


def _readings(path: Path, wanted: list[str] | None, labels: tuple[str, ...], options: str) -> tuple[str, ...]:
    """The readings in order of preference, by default all that the file allows."""
    allowed = ["answers", *(["choices"] if labels or options else []), *(["calibrated"] if len(labels) == 2 else [])]
    allowed.append("likelihood")
    for reading in wanted or ():
        _require_one_of(path, "readings", reading, READINGS)
        if reading not in allowed:
            needed = "exactly two labels" if reading == "calibrated" else "labels or a column of options"
            raise AuditError(f"{path}: the reading {reading!r} needs {needed} under [choices]; add them.")
    if wanted and len(set(wanted)) < len(wanted):
        raise AuditError(f"{path}: readings = {wanted!r} names a reading twice; name each once.")
    return tuple(wanted or allowed)


def _floor(path: Path, floor: str | float, options: str) -> str | float:
    if isinstance(floor, str):
        _require_one_of(path, "floor", floor, FLOORS)
        if floor == "1/k" and not options:
            raise AuditError(
                f"{path}: floor = '1/k' needs a column of options under [choices], because a fixed answer can be right "
                'more often; use "constant".'
            )
        return floor
    if not 0 <= floor < 1:
        raise AuditError(f"{path}: floor = {floor!r} is no score below 1; give a number from 0 to below 1.")
    return float(floor)


def _written(path: Path, answers: Mapping[str, Any]) -> WrittenAnswers:
    pattern = None
    if "pattern" in answers:
        try:
            pattern = re.compile(answers["pattern"])
        except re.error as error:
            raise AuditError(
                f"{path}: [answers] pattern = {answers['pattern']!r} is no regular expression ({error}); correct it."
            ) from None
        if pattern.groups != 1:
            raise AuditError(
                f"{path}: [answers] pattern = {answers['pattern']!r} has {pattern.groups} groups; put the answer into "
                "one group, and write other groups as (?: )."
            )
    longest = answers.get("max_new_tokens", 32)
    if not 1 <= longest <= LONGEST_ANSWER:
        raise AuditError(f"{path}: [answers] max_new_tokens = {longest} is not from 1 to {LONGEST_ANSWER}; correct it.")
    example = RowTemplate(answers["example"], f"{path}, [answers] example") if "example" in answers else None
    return WrittenAnswers(pattern, longest, tuple(answers.get("stop", ("\n",))), example)


def _source(path: Path, data: Mapping[str, Any]) -> Source:
    hub_keys = sorted(data.keys() & {"config", "split", "revision"})
    if "hub" in data:
        if "file" in data or "split" not in data:
            raise AuditError(f"{path}: [data] hub needs a split, and no file; correct it.")
        revision, training = data.get("revision"), data.get("training", "")
        data_set = HubDataSet(data["hub"], data.get("config"), data["split"], training, revision)
        return HubSource(table={path.stem: data_set})
    if hub_keys:
        raise AuditError(f"{path}: [data] {hub_keys[0]} is for a data set of the hub, and there is no hub; add it.")
    training = path.parent / data["training"] if "training" in data else None
    if "file" in data:
        return FileSource(path.parent / data["file"], training)
    beside = [file for kind in KINDS if (file := path.with_suffix(kind)).is_file()]
    if len(beside) != 1:
        there = "both " + " and ".join(file.name for file in beside) if beside else "no file of rows"
        raise AuditError(
            f"{path} has {there} beside it; put one of {', '.join(path.stem + kind for kind in KINDS)} there, or name "
            "a file under [data]."
        )
    return FileSource(beside[0], training)
