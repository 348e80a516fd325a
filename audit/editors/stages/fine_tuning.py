"""Training of weights on the targets, shared by the fine-tuning editors.

    with trainable(lm, ["transformer.h.0.mlp.c_proj.weight"], learning_rate=5e-4) as weights:
        batch = TargetBatch(lm, [target_row(lm, request) for request in requests], start=0, token_budget=16384)
        loss, gradients = batch.loss_and_gradients(weights.parameters)
        weights.step(gradients)
        deltas = weights.deltas()
    # the original model again

The loss is −log p(token | prompt, earlier target tokens), averaged over the target tokens of a request, then over
requests. Target positions are known from lengths, never from token ids, so padding and special tokens are not trained.
Blocks below the trained ones run once, and the head runs only at positions that predict a target token.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn

from audit.editors.stages.editor_settings import (
    EditorSettings,
    require_counts,
    require_not_negative,
    require_positive,
    require_rising,
)
from audit.edits.requests import EditRequest
from audit.engine.batching import require_room
from audit.engine.sequences import EditSequence, align, target_tokens, within_budget
from audit.engine.upper_blocks import UpperBlocks
from audit.errors import AuditError
from audit.models.deltas import DenseDelta
from audit.models.language_model import LanguageModel
from audit.models.originals import Originals, originals_kept
from audit.progress import Tick


@dataclass(frozen=True)
class TuningSettings(EditorSettings):
    """Settings shared by all fine-tuning editors.

    `layers` are the trained blocks, counted from 0. `steps` is the maximum number of Adam updates at `learning_rate`.
    Training stops before an update once the loss (nats per target token) is below `stop_loss`. `token_budget` bounds
    the padded tokens of one micro-batch and does not change the result.
    """

    layers: tuple[int, ...] = (0,)
    steps: int = 25
    learning_rate: float = 5e-4
    stop_loss: float = 1e-2
    token_budget: int = 16384

    def check(self, depth: int) -> None:
        require_counts(self, "steps", "token_budget")
        require_positive(self, "learning_rate")
        require_not_negative(self, "stop_loss")
        require_rising(self.layers, depth)


@dataclass(frozen=True)
class TargetRow:
    """The input ids of one request, and the token `labels[i]` to be predicted at position `places[i]`."""

    ids: tuple[int, ...]
    places: tuple[int, ...]
    labels: tuple[int, ...]


def target_row(lm: LanguageModel, request: EditRequest, closing: tuple[int, ...] = ()) -> TargetRow:
    """The row of a request: prompt, target and the tokens `closing`; every token after the prompt is a label.

    Raises:
        AuditError: the target merges with a one-token prompt, or the row does not fit into the model's context.
    """
    joined = target_tokens(lm, request)
    first, ids = joined.prompt_length, (*joined.ids, *closing)
    require_room(lm, ids, f"Edit {request.case_id!r}", request.filled_prompt)
    return TargetRow(ids[:-1], tuple(range(first - 1, len(ids) - 1)), ids[first:])


@dataclass(frozen=True, eq=False)
class TargetLabels:
    """The labels of several rows, (labels,) each: their rows and columns, token ids, and weights in the loss."""

    rows: Tensor
    columns: Tensor
    ids: Tensor
    weights: Tensor

    @classmethod
    def of(
        cls, rows: Sequence[TargetRow], sequences: Sequence[EditSequence], row_weight: float, device: torch.device
    ) -> "TargetLabels":
        """The labels of `rows`; columns count from the lookups of `sequences`, and a row's labels share its weight."""
        labels = [
            (index, place - sequence.lookup, label, row_weight / len(row.labels))
            for index, (row, sequence) in enumerate(zip(rows, sequences, strict=True))
            for place, label in zip(row.places, row.labels, strict=True)
        ]
        return cls(*(torch.tensor(values, device=device) for values in zip(*labels, strict=True)))

    def losses(self, upper: UpperBlocks) -> Tensor:
        """−log p of each label, (labels,) in float32."""
        logits = upper.logits(upper.entering, self.rows, self.columns)  # (labels, vocabulary)
        return nn.functional.cross_entropy(logits, self.ids, reduction="none")


class LossGradients(NamedTuple):
    """A loss, and its gradient for each of some parameters in float32."""

    loss: float
    gradients: list[Tensor]


class TargetBatch:
    """Rows trained together, in as many micro-batches as the token budget requires.

    Prepared once for any number of updates of weights in block `start` and above: the input of that block is kept.
    """

    def __init__(self, lm: LanguageModel, rows: Sequence[TargetRow], start: int, token_budget: int) -> None:
        sequences = [EditSequence(row.ids, lookup=0) for row in rows]
        self._parts: list[tuple[UpperBlocks, TargetLabels]] = []
        for group in within_budget(sequences, token_budget):
            part = [sequences[index] for index in group]
            upper = UpperBlocks.prepared(lm, align(part, lm.device), start, lower_only=True)
            labels = TargetLabels.of([rows[index] for index in group], part, 1 / len(rows), lm.device)
            self._parts.append((upper, labels))

    def loss_and_gradients(self, parameters: Sequence[Tensor]) -> LossGradients:
        """The loss of the current model and its gradient for each of `parameters`, summed in float32."""
        sums = [torch.zeros_like(parameter, dtype=torch.float32) for parameter in parameters]
        total = 0.0
        for upper, labels in self._parts:
            with torch.enable_grad():
                loss = labels.losses(upper) @ labels.weights
            for gathered, gradient in zip(sums, torch.autograd.grad(loss, parameters), strict=True):
                gathered += gradient
            total += float(loss.detach())
        return LossGradients(total, sums)


class TrainedWeights:
    """Weights trained by Adam in float32; after each step the model's weights are updated, rounded to their dtype."""

    def __init__(self, names: Sequence[str], originals: Originals, learning_rate: float) -> None:
        self.parameters = [originals.keep(name) for name in names]
        self._names, self._originals = names, originals
        # For float32 weights these are the model's own tensors, for half precision a float32 copy.
        self._masters = [parameter.detach().float() for parameter in self.parameters]
        self._adam = torch.optim.Adam(self._masters, lr=learning_rate)

    def step(self, gradients: Sequence[Tensor], radius: float | None = None) -> None:
        """One update; with `radius`, every entry is then clamped to within `radius` of its value before the edit."""
        for master, gradient in zip(self._masters, gradients, strict=True):
            master.grad = gradient
        self._adam.step()
        for parameter, master, original in zip(self.parameters, self._masters, self._at_first(), strict=True):
            master.grad = None
            if radius is not None:
                master.clamp_(original.float() - radius, original.float() + radius)
            with torch.no_grad():
                parameter.copy_(master)

    def deltas(self, radius: float | None = None) -> dict[str, DenseDelta]:
        """The change of the weights; with `radius`, no entry of a patched weight is further away than that.

        If rounding into the dtype of the weight exceeds the radius, the next number inside is used. Float64 keeps the
        sum of weight and change exact.
        """
        changes: list[Tensor] = []
        for master, original in zip(self._masters, self._at_first(), strict=True):
            if radius is None:
                changes.append(master - original.float())
                continue
            exact = original.double()
            rounded = master.double().clamp(exact - radius, exact + radius).to(original.dtype)
            outside = (rounded.double() - exact).abs() > radius
            changes.append(torch.where(outside, torch.nextafter(rounded, original), rounded).double() - exact)
        return {name: DenseDelta(change) for name, change in zip(self._names, changes, strict=True)}

    def _at_first(self) -> Iterator[Tensor]:
        return (one.original for one in self._originals.touched())


@contextmanager
def trainable(lm: LanguageModel, names: Sequence[str], learning_rate: float) -> Iterator[TrainedWeights]:
    """Make the weights `names` trainable inside the context; on exit the model is restored bit for bit."""
    with originals_kept(lm) as originals:
        weights = TrainedWeights(names, originals, learning_rate)
        before = [parameter.requires_grad for parameter in weights.parameters]
        try:
            for parameter in weights.parameters:
                parameter.requires_grad_(True)
            yield weights
        finally:
            for parameter, wanted in zip(weights.parameters, before, strict=True):
                parameter.requires_grad_(wanted)


@dataclass(frozen=True)
class Descent:
    """The last loss that was computed (before the last update, unless training stopped early), and the number of
    updates.
    """

    loss: float
    updates: int


def descend(
    batch: TargetBatch,
    parameters: Sequence[Tensor],
    step: Callable[[Sequence[Tensor]], None],
    settings: TuningSettings,
    tick: Tick,
) -> Descent:
    """Take up to `settings.steps` steps on the whole batch; `tick` receives the share that is done.

    Raises:
        AuditError: the loss is not finite.
    """
    loss, updates = math.inf, 0
    for _ in range(settings.steps):
        loss, gradients = batch.loss_and_gradients(parameters)
        require_finite(loss, updates + 1)
        if loss < settings.stop_loss:
            break
        step(gradients)
        updates += 1
        tick(updates / settings.steps)
    return Descent(loss, updates)


def require_finite(loss: float, step: int) -> None:
    """Raise `AuditError` if training has diverged."""
    if not math.isfinite(loss):
        raise AuditError(
            f"the loss became {loss} at step {step}; lower the editor's learning_rate, "
            "or load the model with dtype float32."
        )


@dataclass(frozen=True, eq=False)
class TunedWeights:
    """The deltas of the trained weights by parameter name, and how training ended."""

    deltas: dict[str, DenseDelta]
    descent: Descent


def tune_down_projections(
    lm: LanguageModel,
    rows: Sequence[TargetRow],
    settings: TuningSettings,
    tick: Tick,
    radius: float | None = None,
) -> TunedWeights:
    """Train the down projections of `settings.layers` on all rows together; `radius` as in `TrainedWeights.step`."""
    names = [lm.anatomy.weight_name(layer) for layer in settings.layers]
    with trainable(lm, names, settings.learning_rate) as weights:
        batch = TargetBatch(lm, rows, settings.layers[0], settings.token_budget)
        descent = descend(batch, weights.parameters, partial(weights.step, radius=radius), settings, tick)
        return TunedWeights(weights.deltas(radius), descent)
