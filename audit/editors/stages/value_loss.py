"""The loss of a value: which rows of tokens it reads, at which places, and its three terms.

    L(δ) = mean over contexts of [ −(1/|target|) Σ_t log p(target_t) ]
         + kl_factor · KL( p_current ‖ p_initial )  after "{subject} is a"
         + weight_decay · ‖δ‖ / ‖h₀‖²

This is equation 4 of ROME (arXiv 2202.05262) and equation 16 of MEMIT (arXiv 2210.07229), as their authors' code
computes it: ‖δ‖ is not squared, ‖h₀‖ is, and the divergence is taken at the last token of the subject.

No row is computed twice. Contexts with the same tokens are one row with a larger weight. The KL sequence is cut after
the place that is read. Where it then equals the beginning of the bare prompt, it shares that row; where kl_factor is 0,
it is left out.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from audit.editors.stages.editor_settings import (
    EditorSettings,
    require,
    require_counts,
    require_not_negative,
    require_positive,
)
from audit.editors.stages.keys import Contexts
from audit.edits.requests import EditRequest
from audit.engine.sequences import EditSequence, essence_sequence, rewriting_sequence
from audit.models.language_model import LanguageModel


@dataclass(frozen=True)
class ValueSettings(EditorSettings):
    """Settings of the value optimization; the defaults are published for ROME on GPT-2 XL.

    Attributes:
        steps: largest number of losses computed; at most `steps` - 1 updates are made.
        clamp_norm_factor: ‖δ‖ is at most this times ‖h₀‖.
        kl_position: where the KL divergence is taken: "lookup" (the last token of the subject, as published) or "last"
            (the last token of "{subject} is a").
        stop_loss: a request with a loss below this is finished.
        token_budget: largest number of padded tokens in one batch; it does not change the result.
    """

    writes_where_recalled: ClassVar[bool] = True

    steps: int = 20
    learning_rate: float = 0.5
    weight_decay: float = 0.5
    clamp_norm_factor: float = 4.0
    kl_factor: float = 0.0625
    kl_position: str = "lookup"
    stop_loss: float = 0.05
    token_budget: int = 2048

    def check(self, depth: int) -> None:
        super().check(depth)
        require_counts(self, "steps", "token_budget")
        require_positive(self, "learning_rate", "clamp_norm_factor")
        require_not_negative(self, "weight_decay", "kl_factor", "stop_loss")
        require(self.kl_position in ("lookup", "last"), "kl_position", repr(self.kl_position), "lookup or last")


@dataclass(frozen=True)
class ValueTask:
    """The rows of one request; the first is the bare prompt with its target.

    Attributes:
        weights: weight of each row in the mean over contexts.
        essence: (row, column counted from the lookup) where the KL divergence is taken, None if it does not count. A
            row that only serves the KL divergence has no labels and weight 0.
    """

    case_id: str
    rows: tuple[EditSequence, ...]
    weights: tuple[float, ...]
    essence: tuple[int, int] | None

    @classmethod
    def of(cls, lm: LanguageModel, request: EditRequest, contexts: Contexts, settings: ValueSettings) -> "ValueTask":
        """The rows of `request` for all contexts.

        Raises:
            AuditError: the last token of the subject cannot be found, or one token spans subject and target.
        """
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
        essence = essence.until_lookup()  # later tokens cannot change what is read here
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
    """Group tasks of similar shape, as indices, so that their aligned rows fit the budget; at least one task a group.

    Columns from the lookup on are computed in every step, so tasks are sorted by their number first.
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
class LossPlaces:
    """Where the loss reads log p: the labels' places first, then the KL places. Columns count from the lookup.

    `rows` and `columns` are (places,). `ids`, `weights` and `owners` (index among the active requests) are (labels,).
    """

    rows: Tensor
    columns: Tensor
    ids: Tensor
    weights: Tensor
    owners: Tensor

    @classmethod
    def of(cls, tasks: Sequence[ValueTask], active: Tensor) -> "LossPlaces":
        """The places of the tasks with indices `active`, whose rows follow one another in the batch."""
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

    def sum_by_request(self, values: Tensor, requests: int) -> Tensor:
        """Sum values (labels,) over each request's labels, (requests,)."""
        return torch.zeros(requests, device=values.device).index_add(0, self.owners, values)


class LossTerms(NamedTuple):
    """The terms of L(δ) with their factors, (requests,) each; the loss is their sum."""

    nll: Tensor
    kl: Tensor
    decay: Tensor


def loss_terms(
    log_p: Tensor,
    initial_log_p: Tensor,
    places: LossPlaces,
    delta: Tensor,
    initial_square: Tensor,
    settings: ValueSettings,
) -> LossTerms:
    """The terms of the loss of the active requests.

    Args:
        log_p: log-probabilities at `places`, (places, vocabulary).
        initial_log_p: those at the KL places before any update, (requests, vocabulary).
        delta: δ, (requests, modules, hidden).
        initial_square: ‖h₀‖², (requests, modules).
    """
    requests = len(delta)
    label_log_p, now = log_p[: len(places.ids)], log_p[len(places.ids) :]  # (labels or requests, vocabulary)
    nll = -label_log_p.gather(1, places.ids[:, None])[:, 0] * places.weights  # (labels,)
    kl = torch.zeros(requests, device=log_p.device)
    if settings.kl_factor:
        kl = settings.kl_factor * (now.exp() * (now - initial_log_p)).sum(-1)
    decay = settings.weight_decay * (delta.norm(dim=2) / initial_square).sum(1)
    return LossTerms(places.sum_by_request(nll, requests), kl, decay)
