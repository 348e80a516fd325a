"""The ability that a .toml file describes.

ability = TomlAbility(read_description(Path("triage.toml")))
ability.readings()[0].prompt(ability.item(row, "triage/3"))
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

from audit.abilities.contract import Ability, Answer, Item, Row, Score, Scorer
from audit.abilities.data import Source, columns
from audit.abilities.readings.likelihood import Formulation, TextLikelihood, label_readings
from audit.abilities.readings.options import OptionTexts
from audit.abilities.readings.rouge import RougeMean
from audit.abilities.readings.words import exact_match, majority, squad_normalized, token_f1
from audit.abilities.toml.description import Description
from audit.engine import Decoding
from audit.errors import AuditError
from audit.store.content import content_fingerprint

_AROUND, _BEHIND = " \"'`*_()[]{}<>", ".,;:!?"  # what an answer may have around it, and behind it
CANDIDATES = 16  # golds that are tried as a constant answer, where an answer can be partly right
NAMES = {"ROUGE": "mean of ROUGE-1/2/L"}  # in reports, where it is not that of the file


class TomlAbility:
    """An ability with the prompt, the readings, the metric, the floor and the rows of a description.

    The golds of an item are texts: numbers and booleans as JSON writes them. A gold that is a whole number can be the
    place of the right option, counted from 0, if no option is a number.
    """

    protocol = "standard"
    reading = "answers"
    scorer: Scorer | None = None

    def __init__(self, description: Description) -> None:
        self.description = description
        self.name = self.data_name = description.name
        self.title = description.title
        self.metric = NAMES.get(description.metric, description.metric)
        self.graded = description.metric in ("token F1", "ROUGE")
        self.decoding: Decoding | None = Decoding(description.answers.max_new_tokens, description.answers.stop)
        self.source: Source = description.source
        self.fingerprint = content_fingerprint(dict(description.plain))

    def readings(self) -> tuple[Ability, ...]:
        """The readings of the description, in its order."""
        found = {one.reading: one for one in self._offered()}
        return tuple(found[reading] for reading in self.description.readings)

    def item(self, row: Row, key: str) -> Item:
        given = self.description
        fields = {str(column): _plain(value) for column, value in row.items()}
        golds = self._golds(fields, key)
        cluster = columns.passage_key(_text(fields, given.cluster, key)) if given.cluster else key
        item = Item(key, self.name, fields, golds, cluster)
        self.prompt(item)  # raises
        self._require_readable(item)
        return item

    def prompt(self, item: Item) -> str:
        return self.description.prompt.text(item.fields, item.key)

    def parse(self, text: str) -> Answer:
        """The group of the pattern, or the whole answer; with labels it must be one of them."""
        pattern = self.description.answers.pattern
        found = pattern.search(text) if pattern is not None else None
        answer = text.strip() if pattern is None else ((found[1] or "").strip() if found else "")
        if self.description.labels and self.description.metric == "accuracy":
            answer = next((label for label in self.description.labels if _same(label, answer)), "")
        return Answer(text, answer, True) if self._normalized(answer) else Answer(text, None, False)

    def score(self, item: Item, answer: Answer) -> Score:
        return Score(self._score(str(answer.value), item.gold) if answer.parseable else 0.0)

    def gold_answer(self, item: Item) -> str:
        example = self.description.answers.example
        return item.gold[0] if example is None else example.text(item.fields, item.key)

    def floor(self, items: Sequence[Item]) -> float:
        """The number of the description, the share of the majority class, 1 / k, or the best constant answer."""
        floor = self.description.floor
        if isinstance(floor, float):
            return floor
        if not items:
            return 0.0
        if floor == "1/k":
            return self._options.floor(items)
        return majority(items) if floor == "majority" else self._best_constant(items)

    def _offered(self) -> tuple[Ability, ...]:
        labels = self.description.labels
        if len(labels) == 2:
            first, second = labels
            measured = TomlAbility(replace(self.description, floor="constant"))  # a number is that of written answers
            _, *others = label_readings(measured, first, Formulation(self.prompt, lambda item: (first, second)))
            return self, *others
        if labels or self.description.options:
            return self, *self._options.readings(self)
        return self, TextLikelihood(self)

    @cached_property
    def _options(self) -> OptionTexts:
        labels, column = self.description.labels, self.description.options
        return OptionTexts(lambda item: labels or tuple(item.fields[column]), chance=not labels)

    def _golds(self, fields: dict[str, Any], key: str) -> tuple[str, ...]:
        """The golds of a row. Its options become texts in `fields`."""
        given = self.description
        value = fields.get(given.gold)
        values = value if isinstance(value, list) else [value]
        rows = [{**fields, given.gold: one} for one in values] if given.gold in fields else [fields]
        golds = tuple(_text(row, given.gold, key) for row in rows)
        options = given.labels
        if given.options:
            listed = fields.get(given.options)
            if isinstance(listed, list):
                fields[given.options] = [str(one) if isinstance(one, int | float) else one for one in listed]
            options = columns.texts(fields, given.options, key)
            if len(set(options)) < max(2, len(options)):
                raise AuditError(f"row {key} has the options {list(options)!r}; give at least two, all different.")
            fields[given.options] = list(options)
        if options and not any(map(_is_number, options)):
            golds = tuple(_at(options, one, gold) for one, gold in zip(values, golds, strict=True))
        for gold in golds:
            if options and gold not in options:
                raise AuditError(
                    f"row {key} has {gold!r} in column {given.gold!r}, which is none of its options "
                    f"{', '.join(options)}; correct the row or the options."
                )
        if not golds:
            raise AuditError(f"row {key} has an empty list in column {given.gold!r}; give a right answer.")
        return golds

    def _require_readable(self, item: Item) -> None:
        """Raise `AuditError` if the right answer, as worked examples show it, would not score as right."""
        if "answers" not in self.description.readings:
            return
        written = self.gold_answer(item)
        answer = self.parse(written)
        if not answer.parseable or not self._score(str(answer.value), item.gold):
            what = f"{answer.value!r}" if answer.parseable else "no answer"
            raise AuditError(
                f"row {item.key}: {what} is read in the right answer {written!r}; give [answers] a pattern that reads "
                "it, an example that the pattern reads, or another metric."
            )

    def _normalized(self, text: str) -> str:
        """The text as the metric compares it; "" for no answer."""
        return text if self.description.metric in ("accuracy", "ROUGE") else squad_normalized(text)

    def _score(self, text: str, golds: Sequence[str]) -> float:
        metric = self.description.metric
        if metric == "accuracy":
            return float(any(_same(text, gold) for gold in golds))
        if metric == "exact match":
            return exact_match(text, golds)
        if metric == "token F1":
            return token_f1(text, golds)
        return max(self._rouge.mean(gold, text) for gold in golds)

    @cached_property
    def _rouge(self) -> RougeMean:
        return RougeMean()

    def _best_constant(self, items: Sequence[Item]) -> float:
        """The score of the best constant answer among the golds; of the most frequent ones for a graded metric."""
        if not self.graded:  # equal after normalization is equal
            compared = [{_folded(self.description.metric, gold) for gold in item.gold} for item in items]
            return max(Counter(one for some in compared for one in some).values()) / len(items)
        counts = Counter(gold for item in items for gold in dict.fromkeys(item.gold))
        tried = [gold for gold, _ in counts.most_common(CANDIDATES)]
        return max(sum(self._score(text, item.gold) for item in items) for text in tried) / len(items)


def _folded(metric: str, text: str) -> str:
    return _bare(text) if metric == "accuracy" else squad_normalized(text)


def _same(one: str, other: str) -> bool:
    return _bare(one) == _bare(other)


def _bare(text: str) -> str:
    """The text in lower case, without quotation marks, brackets and the like around it, unless it is nothing else."""
    words = " ".join(text.casefold().split())
    return words.lstrip(_AROUND).rstrip(_AROUND + _BEHIND) or words


def _text(fields: Mapping[str, Any], column: str, key: str) -> str:
    """The text, number or boolean of a column as a text."""
    if column not in fields:
        raise AuditError(f"row {key} has no column {column!r} (it has {', '.join(sorted(fields))}); add it.")
    value = fields[column]
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int) or (isinstance(value, float) and math.isfinite(value)):
        return str(value)
    if not isinstance(value, str) or not value.strip():
        raise AuditError(
            f"row {key} has {value!r} in column {column!r}; give a text or a number that is not empty, or drop the row."
        )
    return value.strip()


def _at(options: Sequence[str], value: Any, gold: str) -> str:
    """The option at a place that is a whole number, else the gold itself."""
    place = isinstance(value, int) and not isinstance(value, bool) and 0 <= value < len(options)
    return options[value] if place else gold


def _is_number(text: str) -> bool:
    return text.lstrip("-").replace(".", "", 1).isdecimal()


def _plain(value: Any) -> Any:
    """A value as JSON holds it; dates and the like as texts."""
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return value if value is None or isinstance(value, str | bool | int | float) else str(value)
