"""A task of lm-evaluation-harness as an ability: the harness's prompts, filters and metric, asked by this engine.

ability = harness_ability("arc_easy")                            # its first metric with a value for each document
ability = harness_ability("gsm8k:exact_match,flexible-extract")  # another metric and filter
ability = harness_ability("tasks/mine.yaml")

Requests for log-likelihoods become pairs of context and continuation, joined exactly as the harness joins them, and the
task's own function makes the document's metric of them. Written answers are decoded greedily with the task's stop
strings, then filtered and scored by the task.
"""

import json
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from audit.abilities.contract import Answer, Item, Row, Score, ScoredText, Scorer
from audit.abilities.data import Origin
from audit.abilities.lm_eval.metrics import DocumentMetric, chosen_metric, score_of
from audit.abilities.lm_eval.tasks import ENDINGS, HarnessTask, LoadedTasks, harness_version, load_tasks
from audit.engine import Decoding
from audit.errors import AuditError
from audit.store.content import content_fingerprint

RIGHT_OR_WRONG = ("acc", "acc_norm", "acc_bytes", "acc_mutual_info", "exact_match", "em")
CANDIDATES = 16  # right answers that are tried as a constant answer
FAVORED, OTHERS = 0.0, -1e4  # log-likelihoods of a model that always prefers one choice
GREEDY_KEYS = {"until", "max_gen_toks", "do_sample", "temperature", "top_p", "top_k"}
_ADDRESS = re.compile(r" at 0x[0-9a-f]+")


def harness_ability(text: str) -> "HarnessAbility":
    """The ability of "TASK", "TASK:METRIC" or "TASK:METRIC,FILTER"; TASK is a name, a group or a YAML file.

    Raises:
        AuditError: the harness or the task is not there, or the task or metric cannot be judged document by document.
    """
    name, metric = text.strip(), ""
    if not name.endswith(ENDINGS):
        name, _, metric = name.rpartition(":") if ":" in name else (name, "", "")
    if not name or (":" in text and not metric and not text.endswith(ENDINGS)):
        raise AuditError(
            f"lm-eval:{text} names no task or no metric; write lm-eval:TASK, lm-eval:FILE.yaml or lm-eval:TASK:METRIC."
        )
    loaded = load_tasks(name)
    return HarnessAbility(f"lm-eval:{text}", loaded, chosen_metric(f"lm-eval:{text}", loaded, metric), bool(metric))


@dataclass(frozen=True, eq=False)
class HarnessSource:
    """The documents of the tasks as rows, in the harness's order: its test documents, or else the validation ones."""

    loaded: LoadedTasks
    version: str

    @property
    def name(self) -> str:
        return f"lm-evaluation-harness's {self.loaded.name}"

    def rows(self, ability_name: str) -> Sequence[Row]:
        return self._rows

    def training_rows(self, ability_name: str) -> Sequence[Row]:
        raise AuditError(f"{ability_name} is a task of lm-evaluation-harness with worked examples of its own.")

    def origin(self, ability_name: str) -> Origin:
        return Origin(f"{self.name} ({self.version})", "sha256:" + content_fingerprint(self._rows))

    def check(self) -> None:
        """Always passes: the documents are loaded with the task."""

    @cached_property
    def _rows(self) -> list[dict[str, Any]]:
        return [
            {"task": task.name, "doc_id": number, "doc": _plain(requests[0].doc)}
            for task in self.loaded.tasks
            for number, requests in enumerate(task.documents)
        ]


class HarnessAbility:
    """The tasks of a name of the harness, which are one task or those of a group, with one metric.

    Every document is an item and a cluster of its own, of a group too: the harness takes the mean over all documents
    and treats them as independent. Worked examples are the task's own.
    """

    protocol = "standard"
    own_prompts = True

    def __init__(self, text: str, loaded: LoadedTasks, metric: DocumentMetric, named: bool) -> None:
        self._text, self._metric = text, metric
        self._tasks = {task.name: task for task in loaded.tasks}
        kinds = {task.kind for task in loaded.tasks}
        if len(kinds) > 1:
            raise self._uneven("are of several kinds", kinds)
        self.kind = kinds.pop()
        written = self.kind == "generate_until"
        self.name = self.data_name = f"{loaded.name}:{metric}" if named else loaded.name
        self.title = f"{loaded.name} (lm-eval)"
        self.metric = str(metric)
        self.reading = "answers" if written else "choices"
        self.decoding: Decoding | None = self._common_decoding() if written else None
        self.scorer: Scorer | None = None if written else HarnessScorer(self)
        self.graded = written and metric.metric not in RIGHT_OR_WRONG
        self.source = HarnessSource(loaded, harness_version(text))
        requests = [[_plain(one.args) for one in some] for task in loaded.tasks for some in task.documents]
        definitions = [_definition(task) for task in loaded.tasks]
        self.fingerprint = content_fingerprint([self.name, self.source.version, self.metric, definitions, requests])

    def item(self, row: Row, key: str) -> Item:
        fields = dict(row)
        return Item(key, self.name, fields, self._of(fields)[0].golds(row["doc_id"]), cluster=key)

    def prompt(self, item: Item) -> str:
        """The context of the document's first request; "" where a whole text is scored."""
        return self.pairs(item)[0][0] if self.decoding is None else str(self._requests(item)[0].args[0])

    def pairs(self, item: Item) -> tuple[tuple[str, str], ...]:
        """Context and continuation of each request; a text that is scored as a whole has no context."""
        return tuple(("", one.args[0]) if len(one.args) == 1 else one.args[:2] for one in self._requests(item))

    def parse(self, text: str) -> Answer:
        """The text before the first stop string. Answers that begin with one, or are empty, are unparseable."""
        from lm_eval.models.utils import postprocess_generated_text

        stop = [] if self.decoding is None else list(self.decoding.stop)
        answer = postprocess_generated_text(text, stop, None)
        return Answer(text, answer, True) if answer.strip() else Answer(text, None, False)

    def score(self, item: Item, answer: Answer) -> Score:
        return Score(self.score_results(item, [answer.value]) if answer.parseable else 0.0)

    def score_results(self, item: Item, results: Sequence[Any]) -> float:
        """The metric of the document from the results of its requests, as the harness's models return them.

        Raises:
            AuditError: it is no number between 0 and 1.
        """
        task, number = self._of(item.fields)
        values = task.metrics(number, self._metric.filter, results)
        what = f"{self._text}: {self._metric.metric} of document {number} of {task.name}"
        return score_of(values.get(self._metric.metric), what)

    def gold_answer(self, item: Item) -> str:
        return item.gold[0].strip()

    def floor(self, items: Sequence[Item]) -> float:
        """The best constant answer, or 1/k where the choices are not the same labels in all documents; else 0."""
        if not items or self.kind.startswith("loglikelihood"):
            return 0.0
        if self.decoding is not None:
            counts = Counter(gold for item in items for gold in dict.fromkeys(item.gold))
            tried = [self.parse(gold) for gold, _ in counts.most_common(CANDIDATES)]
            return max(sum(self.score(item, text).value for item in items) for text in tried) / len(items)
        by_choice = [self._scores_by_choice(item) for item in items]
        labels = {tuple(continuation for _, continuation in self.pairs(item)) for item in items}
        contexts = {len({context for context, _ in self.pairs(item)}) for item in items}
        if len(labels) == 1 and contexts == {1}:
            return max(map(sum, zip(*by_choice, strict=True))) / len(items)
        return sum(sum(scores) / len(scores) for scores in by_choice) / len(items)

    def _scores_by_choice(self, item: Item) -> list[float]:
        """The scores of models that always prefer the first choice, the second, and so on."""
        pairs = self.pairs(item)
        without = sum(context == "" for context, _ in pairs)  # choices alone, for the mutual information
        count = len(pairs) - without if len(pairs) == 2 * without else len(pairs)
        results = [
            [(FAVORED if place == chosen else OTHERS, False) for place in range(count)] for chosen in range(count)
        ]
        return [self.score_results(item, [*some, *[(FAVORED, False)] * (len(pairs) - count)]) for some in results]

    def _of(self, fields: Mapping[str, Any]) -> tuple[HarnessTask, int]:
        return self._tasks[fields["task"]], int(fields["doc_id"])

    def _requests(self, item: Item) -> Sequence[Any]:
        task, number = self._of(item.fields)
        return task.documents[number]

    def _common_decoding(self) -> Decoding:
        found = {_decoding(self._text, task) for task in self._tasks.values()}
        if len(found) > 1:
            raise self._uneven("decode differently", [f"{one.max_new_tokens} tokens, {one.stop}" for one in found])
        return found.pop()

    def _uneven(self, what: str, found: Any) -> AuditError:
        tasks = ", ".join(f"lm-eval:{one}" for one in self._tasks)
        return AuditError(
            f"{self._text}: its tasks {what} ({'; '.join(sorted(found))}); give them one by one: {tasks}."
        )


@dataclass(frozen=True, eq=False)
class HarnessScorer:
    """Scores the continuations of a document's requests, and gives (log-likelihood, greedy) to the task."""

    ability: HarnessAbility
    measured_floor: bool = False
    verbatim: bool = True

    def continuations(self, item: Item, prompt: str) -> tuple[tuple[str, str], ...]:
        """The pairs of the harness; they hold the prompt."""
        return self.ability.pairs(item)

    def read(self, item: Item, scored: Sequence[ScoredText]) -> tuple[Answer, Score]:
        """The likeliest continuation, and the task's metric. A value that is not finite is unparseable and wrong."""
        totals = [one.total for one in scored]
        if not all(map(math.isfinite, totals)):
            return Answer("", None, False), Score(0.0)
        rolling = self.ability.kind == "loglikelihood_rolling"
        results = totals if rolling else [(one.total, bool(one.greedy)) for one in scored]
        best = max(range(len(totals)), key=totals.__getitem__)
        if len(scored) == 1:
            answer = Answer(f"{totals[0]:.4f} nats" + (", greedy" if scored[0].greedy else ""), totals[0], True)
        else:
            answer = Answer(self.ability.pairs(item)[best][1].strip(), str(best), True)
        return answer, Score(self.ability.score_results(item, results))


def _decoding(text: str, task: HarnessTask) -> Decoding:
    """Greedy decoding with the task's stop strings and length.

    Raises:
        AuditError: the task samples, or sets something else than these.
    """
    from lm_eval.models.utils import normalize_gen_kwargs

    given = dict(task.documents[0][0].args[1])
    found = normalize_gen_kwargs(given)
    other = sorted(found.keys() - GREEDY_KEYS)
    if found["do_sample"] or other:
        what = "samples its answers" if found["do_sample"] else f"decodes with {', '.join(other)}"
        raise AuditError(f"{text}: {task.name} {what}, and answers here are greedy; choose another task.")
    until = found.get("until") or []
    return Decoding(int(found["max_gen_toks"]), tuple(dict.fromkeys(one for one in until if one)))


def _definition(task: HarnessTask) -> str:
    """The task's configuration with the code of its functions, without where its file and its data lie."""
    places = ("dataset_path", "dataset_kwargs", "metadata")
    config = {key: one for key, one in task.task.dump_config().items() if key not in places}
    return _ADDRESS.sub("", json.dumps(_plain(config), sort_keys=True))


def _plain(value: Any) -> Any:
    """A value as JSON holds it; what JSON has no form for as a text."""
    return json.loads(json.dumps(value, default=str))
