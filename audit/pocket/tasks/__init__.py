"""The eight tasks of the pocket world, one file each, in the columns of the real data sets."""

from collections.abc import Callable
from random import Random
from typing import Any

from audit.errors import AuditError
from audit.pocket.tasks import closed_qa, dialogue, ner, nli, open_qa, reasoning, sentiment, summarization
from audit.pocket.world import Example

TEST_ROWS = 480
TEST_SEED = 20_000
TRAINING_ROWS = 64  # more than the worked examples that fit into the context
TRAINING_SEED = 30_000
TASKS: dict[str, Callable[[Random, bool], Example]] = {
    task.DATA_NAME: task.example
    for task in (reasoning, nli, open_qa, closed_qa, dialogue, summarization, ner, sentiment)
}


def held_out_examples(data_name: str) -> tuple[Example, ...]:
    """`TEST_ROWS` distinct held-out examples of one data set; fewer only if the world has no more."""
    return _distinct(data_name, True, TEST_SEED, TEST_ROWS)


def held_out_rows(data_name: str) -> tuple[dict[str, Any], ...]:
    """Held-out rows of one data set (`gsm8k`, `rte`, `nq_open`, `boolq`, `mutual`, `samsum`, `conll2003`, `sst2`)."""
    return tuple(example.row for example in held_out_examples(data_name))


def training_rows(data_name: str) -> tuple[dict[str, Any], ...]:
    """Up to `TRAINING_ROWS` rows of one data set from the training split; none is a held-out row."""
    return tuple(example.row for example in _distinct(data_name, False, TRAINING_SEED, TRAINING_ROWS))


def _distinct(data_name: str, test: bool, seed: int, count: int) -> tuple[Example, ...]:
    """Up to `count` distinct examples; fewer if the world has no more."""
    if data_name not in TASKS:
        raise AuditError(f"the pocket world has no data set {data_name!r}; it has {', '.join(TASKS)}.")
    rng = Random(f"{seed} {data_name}")
    chosen: dict[str, Example] = {}
    attempts = 0
    while len(chosen) < count and attempts < 40 * count:
        example = TASKS[data_name](rng, test)
        chosen.setdefault(repr(example.row), example)
        attempts += 1
    return tuple(chosen.values())
