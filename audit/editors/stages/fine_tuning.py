"""Training weights to say the targets: what the fine-tuning editors share.

    with trained(lm, ["transformer.h.0.mlp.c_proj.weight"], learning_rate=5e-4) as weights:
        batch = TargetBatch(lm, [target_row(lm, request) for request in requests], start=0, token_budget=16384)
        loss, gradients = batch.loss_and_gradients(weights.parameters)
        weights.step(gradients)
        deltas = weights.deltas()
    # the model as it was

The loss is the mean over requests of the mean over their target tokens of −log p(token | prompt, earlier target
tokens). Which tokens count is known from lengths and never from token ids, so padding and special tokens cannot be
trained by mistake. Blocks below the trained ones run once, and the head sees only the places that predict a target.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import ClassVar, Generic, TypeVar

import torch
from torch import Tensor, nn

from audit.editors.stages.editor_settings import EditorSettings, parse_overrides, require, resolve
from audit.edits.requests import EditRequest
from audit.engine.batching import require_room
from audit.engine.sequences import EditSequence, align, within_budget
from audit.engine.upper_blocks import UpperBlocks
from audit.errors import AuditError
from audit.models.language_model import LanguageModel
from audit.models.patches import DenseDelta, Originals, Patch, originals_kept
from audit.models.tokens import join
from audit.progress import Progress
from audit.store.content import Store


@dataclass(frozen=True)
class TuningSettings(EditorSettings):
    """What all fine-tuning editors share.

    `layers` are the blocks that are trained, counted from 0. `steps` is the largest number of Adam updates at
    `learning_rate`; training stops before an update once the loss (nats a target token) is below `stop_loss`.
    `token_budget` bounds the padded tokens of one micro-batch and does not change the outcome.
    """

    layers: tuple[int, ...] = (0,)
    steps: int = 25
    learning_rate: float = 5e-4
    stop_loss: float = 1e-2
    token_budget: int = 16384

    def check(self, depth: int) -> None:
        for name in ("steps", "token_budget"):
            require(getattr(self, name) >= 1, name, getattr(self, name), "at least 1")
        rate, stop = self.learning_rate, self.stop_loss
        require(math.isfinite(rate) and rate > 0, "learning_rate", rate, "a number above 0")
        require(math.isfinite(stop) and stop >= 0, "stop_loss", stop, "a number of at least 0")
        rising = all(low < high for low, high in zip(self.layers, self.layers[1:], strict=False))
        inside = bool(self.layers) and self.layers[0] >= 0 and self.layers[-1] < depth
        require(rising and inside, "layers", self.layers, f"rising layers between 0 and {depth - 1}, such as 1,2,3")


@dataclass(frozen=True)
class TargetRow:
    """What the model reads, and the token `labels[i]` that it is to predict at position `places[i]` of it."""

    ids: tuple[int, ...]
    places: tuple[int, ...]
    labels: tuple[int, ...]


def target_row(lm: LanguageModel, request: EditRequest, closing: tuple[int, ...] = ()) -> TargetRow:
    """Prompt, target and the tokens `closing`; every token after the prompt is predicted from those before it.

    Raises:
        AuditError: the target melts into a prompt of one token, or both do not fit into the model's context.
    """
    joined = join(lm.tokenizer, request.question, request.target_new)
    first, ids = joined.prompt_length, (*joined.ids, *closing)
    if first == 0:
        raise AuditError(
            f"the target {request.target_new!r} melts into the whole prompt {request.question!r} when both are "
            "tokenized together, so nothing stands before it; write a longer prompt."
        )
    require_room(lm, ids, f"Edit {request.case_id!r}", request.question)
    return TargetRow(ids[:-1], tuple(range(first - 1, len(ids) - 1)), ids[first:])


class TargetBatch:
    """Rows that are learnt together, in as many micro-batches as the token budget asks for.

    Prepared once for any number of updates of weights in block `start` and above: what enters that block is kept.
    """

    def __init__(self, lm: LanguageModel, rows: Sequence[TargetRow], start: int, token_budget: int) -> None:
        sequences = [EditSequence(row.ids, lookup=0) for row in rows]
        self._parts = [
            _MicroBatch.prepared(lm, [rows[index] for index in group], start, share=1 / len(rows))
            for group in within_budget(sequences, token_budget)
        ]

    def loss_and_gradients(self, parameters: Sequence[Tensor]) -> tuple[float, list[Tensor]]:
        """The loss as the model is now, and its gradient for each of `parameters`, summed in float32."""
        sums = [torch.zeros_like(parameter, dtype=torch.float32) for parameter in parameters]
        total = 0.0
        for part in self._parts:
            with torch.enable_grad():
                loss = part.loss()
            for gathered, gradient in zip(sums, torch.autograd.grad(loss, parameters), strict=True):
                gathered += gradient
            total += float(loss.detach())
        return total, sums


@dataclass(frozen=True, eq=False)
class _MicroBatch:
    """`at_rows`, `at_columns`, `labels` and `weights` are (labels,): where the loss looks, for what, and how much."""

    upper: UpperBlocks
    at_rows: Tensor
    at_columns: Tensor
    labels: Tensor
    weights: Tensor

    @classmethod
    def prepared(cls, lm: LanguageModel, rows: Sequence[TargetRow], start: int, share: float) -> "_MicroBatch":
        aligned = align([EditSequence(row.ids, lookup=0) for row in rows], lm.device)
        found = [
            (index, place, label, share / len(row.labels))
            for index, row in enumerate(rows)
            for place, label in zip(row.places, row.labels, strict=True)
        ]
        at_rows, at_columns, labels, weights = (
            torch.tensor(column, device=lm.device) for column in zip(*found, strict=True)
        )
        return cls(UpperBlocks.prepared(lm, aligned, start, lower_only=True), at_rows, at_columns, labels, weights)

    def loss(self) -> Tensor:
        logits = self.upper.logits(self.upper.entering, self.at_rows, self.at_columns)  # (labels, vocabulary)
        return nn.functional.cross_entropy(logits, self.labels, reduction="none") @ self.weights


class TrainedWeights:
    """Weights that Adam moves in float32; the model's own follow after each step, rounded once into their dtype."""

    def __init__(self, names: Sequence[str], originals: Originals, learning_rate: float) -> None:
        self.parameters = [originals.keep(name) for name in names]
        self._names, self._originals = names, originals
        # For float32 weights these are the model's own tensors, for half precision a master copy.
        self._masters = [parameter.detach().float() for parameter in self.parameters]
        self._adam = torch.optim.Adam(self._masters, lr=learning_rate)

    def step(self, gradients: Sequence[Tensor], radius: float | None = None) -> None:
        """One update; with `radius`, every entry is then pulled back to within it of where the edit began."""
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
        """How far the weights have moved; with `radius`, such that no entry of a patched weight is further off.

        Rounding into the weight's dtype may carry an entry past the radius: it is then the next number inside. Float64
        keeps the sum of weight and change exact.
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
        return (original for _, original, _ in self._originals.touched())


@contextmanager
def trained(lm: LanguageModel, names: Sequence[str], learning_rate: float) -> Iterator[TrainedWeights]:
    """Let the weights `names` be trained while inside; on the way out the model is as it was, bit for bit."""
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
    """The last loss that was seen (before the last update, unless training stopped early) and how many updates."""

    loss: float
    updates: int


def descend(
    batch: TargetBatch,
    parameters: Sequence[Tensor],
    step: Callable[[Sequence[Tensor]], None],
    settings: TuningSettings,
    tick: Callable[[float], None],
) -> Descent:
    """Take up to `settings.steps` steps down the gradient of the whole batch; `tick` is told the share done.

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
    """Raise `AuditError` when training has run away."""
    if not math.isfinite(loss):
        raise AuditError(
            f"the loss became {loss} at step {step}; lower the editor's learning_rate, "
            "or load the model with dtype float32."
        )


S = TypeVar("S", bound=EditorSettings)


class GradientEditor(Generic[S]):
    """Base of the editors that follow the gradient of the targets: settings and checks, and what a patch tells."""

    name: ClassVar[str]
    batches: ClassVar[bool] = True
    settings_kind: type[S]

    def __init__(self, config: Mapping[str, str] | None = None, seed: int = 0, store: Store | None = None) -> None:
        """`config` holds overrides as typed; `seed` decides whatever is drawn; `store` is not needed."""
        self._overrides = parse_overrides(self.settings_kind, self.name, config or {})
        self._seed = seed

    def settings(self, lm: LanguageModel) -> S:
        """The settings that this editor uses on this model."""
        return resolve(self.settings_kind, self.name, lm, self._overrides)

    def edit(self, lm: LanguageModel, requests: Sequence[EditRequest], progress: Progress | None = None) -> Patch:
        """A patch that makes the model say the new targets; the model itself stays as it is.

        Raises:
            AuditError: a request cannot be used, a setting is out of range, or the loss is not finite.
        """
        if not requests:
            raise AuditError(f"the editor {self.name} was given no edit request; give at least one.")

        def tick(share: float) -> None:
            if progress is not None:
                progress(int(share * len(requests)), len(requests))

        patch = self._edit(lm, requests, self.settings(lm), tick)
        tick(1.0)
        return patch

    def _edit(
        self, lm: LanguageModel, requests: Sequence[EditRequest], settings: S, tick: Callable[[float], None]
    ) -> Patch:
        raise NotImplementedError

    def _meta(self, settings: S, requests: Sequence[EditRequest], **told: str) -> dict[str, str]:
        """What the patch tells about how it was made."""
        return {
            "editor": self.name,
            "requests": ",".join(request.case_id for request in requests),
            **told,
            "seed": str(self._seed),
            **{f"settings.{name}": str(value) for name, value in asdict(settings).items()},
        }
