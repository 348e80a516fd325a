"""Loading tasks of lm-evaluation-harness, and what the harness computes for one document.

    loaded = load_tasks("arc_easy")                    # or a .yaml file, or a group with a score of its own
    loaded.tasks[0].documents[3][0].args               # (context, continuation) of the first request of document 3
    loaded.tasks[0].metrics(3, "none", [(-2.0, False), (-1.0, True)])   # {"acc": 1.0, "acc_norm": 0.0}

The harness is an extra and is imported only here. https://github.com/EleutherAI/lm-evaluation-harness
"""

import io
from collections.abc import Mapping, Sequence
from contextlib import redirect_stderr
from copy import copy
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from audit.errors import AuditError, first_line

ENDINGS = (".yaml", ".yml")

Instance = Any  # lm_eval.api.instance.Instance: one request, with its document
Task = Any  # lm_eval.api.task.Task


@dataclass(frozen=True, eq=False)
class HarnessTask:
    """A task with the requests of all its documents, in the order of the documents.

    `kind` is "multiple_choice", "loglikelihood", "loglikelihood_rolling" or "generate_until".
    """

    name: str
    kind: str
    task: Task
    documents: tuple[tuple[Instance, ...], ...]

    @property
    def filters(self) -> tuple[str, ...]:
        """The names of the task's filters, in its order."""
        return tuple(one.name for one in self.task._filters)

    def metrics(self, number: int, filter_name: str, results: Sequence[Any]) -> Mapping[str, Any]:
        """The metrics of a document from the results of its requests: filters first, then the task's own function."""
        instances = [copy(one) for one in self.documents[number]]
        for instance, result in zip(instances, results, strict=True):
            instance.resps, instance.filtered_resps = [result] * (instance.repeats or 1), {}
        next(one for one in self.task._filters if one.name == filter_name).apply(instances)
        doc = instances[0].doc
        found: Mapping[str, Any] = self.task.process_results(
            doc, [one.filtered_resps[filter_name] for one in instances]
        )
        return found

    def golds(self, number: int) -> tuple[str, ...]:
        """The right answers of a document as texts: its target, and for a place among the choices the choice."""
        requests = self.documents[number]
        target = self.task.doc_to_target(requests[0].doc)
        several = target if isinstance(target, list | tuple) else [target]
        choices = [one.args[1].strip() for one in requests] if self.kind == "multiple_choice" else []
        texts = [choices[one] if isinstance(one, int) and 0 <= one < len(choices) else str(one) for one in several]
        return tuple(texts) or ("",)


@dataclass(frozen=True, eq=False)
class LoadedTasks:
    """The task of a name, or all tasks of a group; `group` is the harness's group, None for a task."""

    name: str
    tasks: tuple[HarnessTask, ...]
    group: Any = None


def harness_version(text: str) -> str:
    """The version of the installed harness.

    Raises:
        AuditError: it is not installed; `text` is what needs it.
    """
    try:
        return metadata.version("lm-eval")
    except metadata.PackageNotFoundError:
        raise AuditError(
            f"{text} is a task of lm-evaluation-harness, which is not installed; "
            "pip install 'model-edit-audit[lm-eval]'."
        ) from None


def load_tasks(name: str) -> LoadedTasks:
    """The task or group of a name of the harness or a YAML file, with all requests, as the harness builds them.

    Worked examples are those that the harness draws with its default seed over all documents in order.

    Raises:
        AuditError: there is no such task, its file or data cannot be read, or it needs what is not offered here.
    """
    text = f"lm-eval:{name}"
    harness_version(text)
    try:
        with redirect_stderr(io.StringIO()):  # progress bars and warnings of the harness
            found = _found(name)
            members = found["tasks"]
            group = next(iter(found.get("groups", {}).values()), None)
            for task in members.values():
                _require_supported(text, task)
            tasks = tuple(_with_requests(key, task) for key, task in members.items())
    except AuditError:
        raise
    except Exception as error:  # of the files, functions and data of strangers
        raise AuditError(
            f"{text} cannot be loaded ({type(error).__name__}: {first_line(error)}); check the task with lm-eval."
        ) from error
    if group is None and len(tasks) != 1:
        raise _no_score_of_its_own(text, list(members))
    return LoadedTasks(tasks[0].name if group is None else group.name, tasks, group)


def _found(name: str) -> dict[str, Any]:
    """What the harness loads for a name or a file.

    Its index of all tasks takes long to build, so a task whose file has its name is loaded from the file.
    """
    from lm_eval import tasks
    from lm_eval.tasks import TaskManager

    if name.endswith(ENDINGS):
        path = Path(name).expanduser()
        if not path.is_file():
            raise AuditError(f"lm-eval:{name}: there is no file {path}; give a task of the harness or its YAML file.")
    else:
        folder = Path(tasks.__file__).parent
        path = next((one for one in folder.rglob(f"{name}.yaml") if _task_of(one).get("task") == name), Path())
    config = _task_of(path) if path.is_file() else {}
    if isinstance(config.get("task"), str):
        found: dict[str, Any] = TaskManager(include_defaults=False).load(str(path))
        return found
    if config:  # a group, or a task without a name
        if "group" not in config:
            raise AuditError(f"lm-eval:{name}: {path} names no task; give it a line with task: NAME.")
        beside = str(path.resolve().parent)
        manager = TaskManager(include_path=beside, include_defaults=False)
        if not all(one in manager.task_index for one in _members(config)):
            manager = TaskManager(include_path=beside)
        return dict(manager.load(config["group"]))
    manager = TaskManager()
    if name not in manager.task_index:
        import difflib

        close = difflib.get_close_matches(name, manager.all_tasks, n=1)
        guess = f"did you mean {close[0]!r}?" if close else "lm-eval ls tasks lists them."
        raise AuditError(f"lm-eval:{name}: the harness has no task {name!r}; {guess}")
    return dict(manager.load(name))


def _task_of(path: Path) -> dict[str, Any]:
    """The content of a YAML file, without importing the functions that it names."""
    from lm_eval.tasks._yaml_loader import load_yaml

    found: dict[str, Any] = load_yaml(path, resolve_func=False)
    return found


def _members(config: Mapping[str, Any]) -> list[str]:
    members = config.get("task") or []
    return [one if isinstance(one, str) else str(one.get("task") or one.get("group")) for one in members]


def _require_supported(text: str, task: Task) -> None:
    """Raise `AuditError` if a task runs code that a model writes, or needs more than text."""
    for flag, what in (("UNSAFE_CODE", "runs code that the model writes"), ("MULTIMODAL", "needs images or sound")):
        if getattr(task, flag, False):
            raise AuditError(f"{text}: {task.task_name} {what}, which is not offered here; choose another task.")


def _no_score_of_its_own(text: str, members: Sequence[str]) -> AuditError:
    return AuditError(
        f"{text} has no score of its own in the harness; give its tasks, each with --ability: "
        f"{', '.join(f'lm-eval:{one}' for one in members)}."
    )


def _with_requests(name: str, task: Task) -> HarnessTask:
    from lm_eval.defaults import DEFAULT_OTHER_SEED

    task.set_fewshot_seed(seed=DEFAULT_OTHER_SEED)
    task.build_all_requests()
    by_document: dict[int, list[Instance]] = {}
    for instance in task.instances:
        by_document.setdefault(instance.doc_id, []).append(instance)
    documents = tuple(tuple(sorted(some, key=lambda one: int(one.idx))) for some in by_document.values())
    return HarnessTask(name, str(task.OUTPUT_TYPE), task, documents)
