"""What the value optimisation lays side by side: each request's rows, and where the loss looks at them.

Nothing is computed twice: contexts that give the same tokens are one row with a double weight, the KL sequence
"{subject} is a" ends at the place that is looked at, is the bare prompt's own row where that begins with the same
tokens, and is left out where the KL divergence does not count.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from audit.editors.stages.contexts import Contexts
from audit.editors.stages.hyperparameters import ValueSettings
from audit.edits.requests import EditRequest
from audit.engine.sequences import EditSequence, essence_sequence, rewriting_sequence
from audit.models.language_model import LanguageModel


@dataclass(frozen=True)
class ValueTask:
    """One request's rows, the bare prompt's first.

    `weights` are the rows' shares in the mean over contexts. `essence` is the (row, column from the lookup on) at which
    the KL divergence is taken, None where it does not count; a row that serves the KL divergence alone has no labels.
    """

    case_id: str
    rows: tuple[EditSequence, ...]
    weights: tuple[float, ...]
    essence: tuple[int, int] | None

    @classmethod
    def of(cls, lm: LanguageModel, request: EditRequest, contexts: Contexts, settings: ValueSettings) -> "ValueTask":
        """Raises `AuditError` where the subject's last token cannot be found, or a target melts into the subject."""
        count = len(contexts.prefixes)
        shares = Counter(rewriting_sequence(lm, request, prefix) for prefix in contexts.prefixes)
        rows, weights = tuple(shares), tuple(times / count for times in shares.values())  # in order of appearance
        if settings.kl_factor == 0:
            return cls(request.case_id, rows, weights, None)
        essence = essence_sequence(lm, request)
        if settings.kl_position == "last":
            return cls(
                request.case_id, (*rows, essence), (*weights, 0.0), (len(rows), len(essence.ids) - 1 - essence.lookup)
            )
        essence = essence.until_lookup()  # what follows cannot matter
        if rows[0].until_lookup() == essence:
            return cls(request.case_id, rows, weights, (0, 0))
        return cls(request.case_id, (*rows, essence), (*weights, 0.0), (len(rows), 0))

    @property
    def before(self) -> int:
        """Columns before the lookup."""
        return max(row.lookup for row in self.rows)

    @property
    def after(self) -> int:
        """Columns from the lookup on."""
        return max(len(row.ids) - row.lookup for row in self.rows)


def chunks(tasks: Sequence[ValueTask], token_budget: int) -> Iterator[list[int]]:
    """Indices of tasks of similar shape whose aligned rows fit the budget; at least one a chunk.

    The columns from the lookup on run in every step, so tasks must be alike there first of all.
    """
    order = sorted(range(len(tasks)), key=lambda index: (tasks[index].after, tasks[index].before))
    chunk: list[int] = []
    rows = before = after = 0
    for index in order:
        task = tasks[index]
        size = (rows + len(task.rows)) * (max(before, task.before) + max(after, task.after))
        if chunk and size > token_budget:
            yield chunk
            chunk, rows, before, after = [], 0, 0, 0
        chunk.append(index)
        rows, before, after = rows + len(task.rows), max(before, task.before), max(after, task.after)
    if chunk:
        yield chunk


@dataclass(frozen=True)
class Places:
    """Where the loss looks: first every label's place, then every KL divergence's; columns count from the lookup.

    `ids`, `weights` and `owners` (the request, counted among the active ones) are the labels' only.
    """

    rows: Tensor
    columns: Tensor
    ids: Tensor
    weights: Tensor
    owners: Tensor

    @classmethod
    def of(cls, tasks: Sequence[ValueTask], active: Tensor) -> "Places":
        """The places of the tasks at the indices `active`, whose rows stand one after another."""
        labels: list[tuple[int, int, int, float, int]] = []
        essences: list[tuple[int, int]] = []
        start = 0
        for owner, index in enumerate(active.tolist()):
            task = tasks[index]
            for row, (sequence, share) in enumerate(zip(task.rows, task.weights, strict=True), start):
                first, weight = sequence.first_label - sequence.lookup, share / max(1, len(sequence.labels))
                labels += [(row, first + t, token, weight, owner) for t, token in enumerate(sequence.labels)]
            if task.essence is not None:
                essences.append((start + task.essence[0], task.essence[1]))
            start += len(task.rows)
        rows, columns, ids, weights, owners = zip(*labels, strict=True)

        def on_device(values: Sequence[float]) -> Tensor:
            return torch.tensor(values, device=active.device)

        return cls(
            on_device((*rows, *(row for row, _ in essences))),
            on_device((*columns, *(column for _, column in essences))),
            on_device(ids),
            on_device(weights),
            on_device(owners),
        )
