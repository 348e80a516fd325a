"""Where results come from: one file or one folder, of any of the formats that this room reads.

read_results(Path("out/my-model"), Choices(), edited=True).tasks
"""

import os
import stat
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from audit.errors import AuditError
from audit.workflows.results.choices import Choices
from audit.workflows.results.columns import READERS, first_row, folder_files, unreadable
from audit.workflows.results.harness import is_samples, latest_only, read_aggregates, samples_task
from audit.workflows.results.inspect_logs import inspect_task
from audit.workflows.results.run_folder import run_scores
from audit.workflows.results.tables import table_tasks
from audit.workflows.results.task_scores import ModelScores, TaskScores, listed

ONE_TASK = "scores"  # the name of the only task of a table that does not name it
FORMATS = (
    "samples_*.jsonl of lm-evaluation-harness (--log_samples), .eval or .json logs of inspect_ai, tables with 'id' and "
    "'score' (.jsonl, .csv, .parquet), or the folder of a run"
)


def read_results(path: Path, choices: Choices, *, edited: bool) -> ModelScores:
    """The scores in a file or a folder; of a run of this project those of its `edited` models or of its base model.

    Raises:
        AuditError: there is no such file, it is of no known format, or something in it cannot be used.
    """
    try:
        mode = os.stat(path).st_mode
    except OSError as problem:
        raise unreadable(path, problem) from None
    if stat.S_ISDIR(mode):
        return _folder(path, choices, edited=edited)
    if path.name == "verdict.json" or (path.name == "items.jsonl" and path.with_name("verdict.json").exists()):
        return run_scores(path.parent, edited=edited)
    return _model(str(path), [path], choices)


def _folder(folder: Path, choices: Choices, *, edited: bool) -> ModelScores:
    try:
        if (folder / "verdict.json").exists():
            return run_scores(folder, edited=edited)
        files = folder_files(folder)
    except OSError as problem:
        raise unreadable(folder, problem) from None
    samples = [path for path in files if path.name.startswith("samples_") and path.suffix == ".jsonl"]
    if len({path.parent for path in samples}) > 1:
        named = listed(dict.fromkeys(str(path.parent.relative_to(folder)) for path in samples))
        raise AuditError(f"{folder}: there are samples of several models ({named}); give the folder of one of them.")
    logs = [path for path in files if path.suffix in (".eval", ".json") and not path.name.startswith("results_")]
    tables = [path for path in files if path.suffix in READERS and path.parent == folder]
    for found in (latest_only(samples, folder), logs, tables):
        if found:
            return _model(str(folder), found, choices)
    raise AuditError(f"{folder}: there are no results in this folder; give {FORMATS}.")


def _model(origin: str, files: Sequence[Path], choices: Choices) -> ModelScores:
    tasks: list[TaskScores] = []
    groups: dict[str, str] = {}
    notes: list[str] = []
    for path in files:
        if path.name.startswith("results_") and path.suffix == ".json":
            raise AuditError(f"{path}: holds averages and no scores of single items; give the samples (--log_samples).")
        if path.suffix in (".eval", ".json"):
            task, more = inspect_task(path, choices)
            tasks.append(task)
            notes += more
        elif path.suffix == ".jsonl" and is_samples(first_row(path) if path.stat().st_size else {}):
            aggregates = read_aggregates(path)
            tasks.append(samples_task(path, choices, aggregates))
            groups |= {} if choices.by_task else aggregates.groups
        else:
            tasks += table_tasks(path, ONE_TASK if str(path) == origin else path.stem, choices)
    twice = [name for name, number in Counter(one.task for one in tasks).items() if number > 1]
    if twice:
        raise AuditError(f"{origin}: several files have results of {listed(twice)}; leave one for each task.")
    return ModelScores(origin, tuple(tasks), groups, tuple(notes))
