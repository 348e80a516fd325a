"""The eight abilities of the pocket world, one file each, in the columns of the real data sets."""

from collections.abc import Callable
from random import Random
from typing import Any

from audit.errors import AuditError
from audit.pocket.tasks import closed_qa, dialogue, ner, nli, open_qa, reasoning, sentiment, summarization
from audit.pocket.tasks.example import Example

TEST_ROWS = 480
TEST_SEED = 20_000
TASKS: dict[str, Callable[[Random, bool], Example]] = {
    task.DATA_NAME: task.example
    for task in (reasoning, nli, open_qa, closed_qa, dialogue, summarization, ner, sentiment)
}


def held_out_examples(data_name: str) -> tuple[Example, ...]:
    """The held-out examples of one data set: all that exist of `nq_open` up to `TEST_ROWS`, else `TEST_ROWS`."""
    if data_name not in TASKS:
        raise AuditError(f"The pocket world has no data set {data_name!r}; it has {', '.join(TASKS)}.")
    rng = Random(f"{TEST_SEED} {data_name}")
    chosen: dict[str, Example] = {}
    attempts = 0
    while len(chosen) < TEST_ROWS and attempts < 40 * TEST_ROWS:
        made = TASKS[data_name](rng, True)
        chosen.setdefault(repr(made.row), made)
        attempts += 1
    return tuple(chosen.values())


def held_out_rows(data_name: str) -> tuple[dict[str, Any], ...]:
    """Rows of one data set (`gsm8k`, `rte`, `nq_open`, `boolq`, `mutual`, `samsum`, `conll2003`, `sst2`)."""
    return tuple(example.row for example in held_out_examples(data_name))
