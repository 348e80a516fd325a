"""Values v* (ROME, equation 4) and z (MEMIT, equation 16), which make the model predict the new target.

    values = optimize_values(lm, requests, contexts, layer=17, site="mlp", settings=settings)
    values.targets  # v* = h₀ + δ, (requests, hidden)

For each request, a vector δ is added to a module's output at the last token of the subject in all its sequences. Adam
lowers the loss L(δ) of `value_loss`. As in the authors' code, δ starts at 0, at most `steps` - 1 updates are made, a
request is finished when its loss is below `stop_loss`, and after every update δ is scaled back to at most
clamp_norm_factor · ‖h₀‖, where h₀ is the module's output for the bare prompt before any update. PMET optimizes two
such vectors, one for attention and one for the MLP, each with its own decay and clamp.

All requests are optimized in one batch. Each has its own loss, clamp and stopping, so the results are those of one
request at a time. Each step runs only the blocks above the perturbed module, and finished requests leave the batch.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from audit.editors.stages.keys import Contexts
from audit.editors.stages.value_loss import LossPlaces, ValueSettings, ValueTask, chunks, loss_terms
from audit.edits.requests import EditRequest
from audit.engine.prefix_cache import split
from audit.engine.sequences import EditSequence, align
from audit.engine.taps import hidden_of, in_rows, run_body, tapped, with_hidden
from audit.engine.upper_blocks import UpperBlocks
from audit.errors import AuditError
from audit.models.forward_overrides import activations_fused
from audit.models.language_model import LanguageModel
from audit.progress import Tick

Site = Literal["mlp", "block", "branches"]
_BETAS, _EPSILON = (0.9, 0.999), 1e-8  # of Adam
_RANKED_FIRST_WEIGHT = 0.1  # of a target's loss in PMET, once the target ranks first


@dataclass(frozen=True)
class OptimizedValues:
    """Results of the value optimization, in the order of the requests.

    Attributes:
        initial: h₀, (requests, hidden_size) in float32; at the site "branches" (requests, 2, hidden_size), attention
            first and the MLP second.
        delta: δ, of the same shape.
        losses: the last loss of each request.
        updates: the number of updates of each request.
    """

    initial: Tensor
    delta: Tensor
    losses: tuple[float, ...]
    updates: tuple[int, ...]

    @property
    def targets(self) -> Tensor:
        """h₀ + δ: v* (ROME), z (MEMIT), or the targets of both branches (PMET)."""
        return self.initial + self.delta


def optimize_values(
    lm: LanguageModel,
    requests: Sequence[EditRequest],
    contexts: Contexts,
    *,
    layer: int,
    site: Site,
    settings: ValueSettings,
    settled_kl: float | None = None,
    clamps: Sequence[float] | None = None,
    tick: Tick | None = None,
) -> OptimizedValues:
    """Optimize δ for each request.

    Args:
        layer: the block that is perturbed.
        site: the module whose output is perturbed: "mlp" (ROME), "block" (MEMIT), or "branches" (PMET: the output
            projection of attention and the MLP, with one vector each).
        settled_kl: for PMET. A request whose target ranks first in every context is finished if its weighted KL is at
            most this; otherwise the loss of its target has weight 0.1 in its next step.
        clamps: one factor for each vector of a request, in place of `settings.clamp_norm_factor`.
        tick: receives the share of requests that are finished.

    Requests are batched up to `settings.token_budget` padded tokens; a larger request is a batch of its own. The budget
    does not change the results.

    Raises:
        AuditError: the loss of a request is not finite; the message names the request.
    """
    tasks = [ValueTask.of(lm, request, contexts, settings) for request in requests]
    perturbed = _perturbed_modules(lm, layer, site)
    initial = torch.zeros(len(tasks), len(perturbed), lm.anatomy.hidden_size, device=lm.device)
    delta = torch.zeros_like(initial)
    losses, updates = [0.0] * len(tasks), [0] * len(tasks)
    done = 0
    # Where the MLP's output is added to the stream unchanged, perturbing the block's output is the same and cheaper.
    inside = site == "branches" or (site == "mlp" and not reaches_stream_unchanged(lm, layer))
    for chunk in chunks(tasks, settings.token_budget):

        def tick_chunk(finished: int, before: int = done) -> None:
            if tick is not None:
                tick((before + finished) / len(tasks))

        with activations_fused(lm):
            descent = _Descent(
                lm, [tasks[index] for index in chunk], layer, perturbed, inside, settings, settled_kl, clamps
            )
            descent.run(tick_chunk)
        where = torch.tensor(chunk, device=lm.device)
        initial[where], delta[where] = descent.initial, descent.delta
        for place, index in enumerate(chunk):
            losses[index], updates[index] = descent.losses[place], descent.updates[place]
        done += len(chunk)
    if len(perturbed) == 1:
        initial, delta = initial[:, 0], delta[:, 0]
    return OptimizedValues(initial, delta, tuple(losses), tuple(updates))


def _perturbed_modules(lm: LanguageModel, layer: int, site: Site) -> tuple[str, ...]:
    """Paths of the modules whose outputs are perturbed."""
    anatomy = lm.anatomy
    if site == "branches":
        return anatomy.attention_projections[layer], anatomy.mlps[layer]
    return (anatomy.mlps[layer] if site == "mlp" else anatomy.blocks[layer],)


class _Descent:
    """Adam on the vectors of several requests at once.

    `initial` and `delta` (requests, modules, hidden), `losses` and `updates` hold the results.
    """

    def __init__(
        self,
        lm: LanguageModel,
        tasks: Sequence[ValueTask],
        layer: int,
        perturbed: Sequence[str],
        inside: bool,
        settings: ValueSettings,
        settled_kl: float | None,
        clamps: Sequence[float] | None,
    ) -> None:
        self._tasks, self._settings, self._settled_kl = tasks, settings, settled_kl
        self._clamps = clamps or [settings.clamp_norm_factor] * len(perturbed)
        self._modules = [lm.model.get_submodule(place) for place in perturbed] if inside else []
        rows = split(lm, [row for task in tasks for row in task.rows], stop=lm.anatomy.mlps[-1])
        with tapped(lm, len(rows.rest.ids), outputs=perturbed, column=rows.rest.lookup) as taps:
            self._upper = UpperBlocks.prepared(lm, rows, start=layer if inside else layer + 1)
        sizes = torch.tensor([len(task.rows) for task in tasks], device=lm.device)
        self._owners = torch.arange(len(tasks), device=lm.device).repeat_interleave(sizes)  # (rows,), the row's request
        first = sizes.cumsum(0) - sizes  # (requests,), the row of each bare prompt
        bare = [taps.outputs[place].to(lm.device, torch.float32)[first] for place in perturbed]
        self.initial = torch.stack(bare, dim=1)  # (requests, modules, hidden)
        self.delta = torch.zeros_like(self.initial)
        self.losses, self.updates = [0.0] * len(tasks), [0] * len(tasks)

    def run(self, tick: Callable[[int], None]) -> None:
        settings = self._settings
        radius = self.initial.new_tensor(self._clamps) * self.initial.norm(dim=2)  # (requests, modules)
        square = self.initial.norm(dim=2) ** 2  # (requests, modules)
        active = torch.arange(len(self._tasks), device=self.initial.device)
        upper, owners, places = self._upper, self._owners, LossPlaces.of(self._tasks, active)
        weight = torch.ones(len(active), device=active.device)  # of the target's loss, 1 except in PMET
        mean = torch.zeros_like(self.delta)
        variance = torch.zeros_like(self.delta)
        initial_log_p: Tensor | None = None  # at the KL places before any update, (active, vocabulary)

        for step in range(settings.steps):
            delta = self.delta[active].requires_grad_()  # (active, modules, hidden)
            with torch.enable_grad():
                log_p = self._logits(upper, places, delta.index_select(0, owners)).log_softmax(-1)
                if initial_log_p is None:
                    initial_log_p = log_p[len(places.ids) :].detach()
                terms = loss_terms(log_p, initial_log_p, places, delta, square[active], settings)
                loss = weight * terms.nll + terms.kl + terms.decay  # (active,)
            self._note_losses(active, loss.detach(), step)
            going = loss.detach() >= settings.stop_loss  # (active,)
            if self._settled_kl is not None:
                missed = log_p[: len(places.ids)].argmax(-1) != places.ids  # (labels,)
                first = places.sum_by_request(missed.float(), len(active)) == 0  # (active,)
                going &= ~(first & (terms.kl.detach() <= self._settled_kl))
                weight = torch.where(first, _RANKED_FIRST_WEIGHT, 1.0)
            if step == settings.steps - 1 or not bool(going.any()):
                break
            (gradient,) = torch.autograd.grad(loss.sum(), delta)  # (active, modules, hidden)
            if not bool(going.all()):
                stay = going[owners]  # (rows,)
                upper, owners = upper.select(stay.nonzero()[:, 0]), (going.cumsum(0) - 1)[owners[stay]]
                active, gradient, weight = active[going], gradient[going], weight[going]
                initial_log_p = initial_log_p[going] if settings.kl_factor else initial_log_p
                places = LossPlaces.of(self._tasks, active)
                tick(len(self._tasks) - len(active))
            mean[active] = _BETAS[0] * mean[active] + (1 - _BETAS[0]) * gradient
            variance[active] = _BETAS[1] * variance[active] + (1 - _BETAS[1]) * gradient**2
            # All active requests have made the same number of updates, so one step count is enough.
            step_size = settings.learning_rate / (1 - _BETAS[0] ** (step + 1))
            scale = variance[active].sqrt() / (1 - _BETAS[1] ** (step + 1)) ** 0.5 + _EPSILON
            moved = self.delta[active] - step_size * mean[active] / scale
            shrink = (radius[active] / moved.norm(dim=2)).clamp(max=1.0)  # (active, modules)
            self.delta[active] = moved * shrink[:, :, None]
            for index in active.tolist():
                self.updates[index] += 1
        tick(len(self._tasks))

    def _logits(self, upper: UpperBlocks, places: LossPlaces, spread: Tensor) -> Tensor:
        """Logits (places, vocabulary) with `spread` (rows, modules, hidden) added at the lookups."""
        if not self._modules:
            return upper.logits(_plus_at(upper.entering, 0, spread[:, 0]), places.rows, places.columns, lean=True)
        with ExitStack() as stack:
            for index, module in enumerate(self._modules):
                stack.enter_context(_added_at(module, 0, spread[:, index]))
            return upper.logits(upper.entering, places.rows, places.columns, lean=True)

    def _note_losses(self, active: Tensor, loss: Tensor, step: int) -> None:
        for index, value in zip(active.tolist(), loss.tolist(), strict=True):
            if not math.isfinite(value):
                raise AuditError(
                    f"the loss of edit {self._tasks[index].case_id!r} became {value} at step {step + 1}; "
                    "load the model with dtype float32 or lower the editor's learning_rate."
                )
            self.losses[index] = value


@torch.no_grad()
def reaches_stream_unchanged(lm: LanguageModel, layer: int, module: str | None = None) -> bool:
    """Whether a vector added to a module's output arrives unchanged in the block's output (no norm or scaling between).

    `module` is a path in the block, by default that of the MLP. Measured with one probe on three tokens.
    """
    source, block = module or lm.anatomy.mlps[layer], lm.anatomy.blocks[layer]
    rows = align([EditSequence((1, 2, 3), 2)], lm.device)
    with tapped(lm, 1, outputs=[source, block], stop=block, column=2) as plain:
        run_body(lm, rows.ids, rows.mask, rows.positions)
    # The probe is as large as the block's output, so that half-precision rounding does not hide the difference.
    size = float(plain.outputs[block].float().norm()) / lm.anatomy.hidden_size**0.5
    probe = (
        size * torch.linspace(-1, 1, lm.anatomy.hidden_size, device=plain.outputs[block].device)[None]
    )  # (1, hidden)
    with (
        tapped(lm, 1, outputs=[block], stop=block, column=2) as moved,
        _added_at(lm.model.get_submodule(source), 2, probe),
    ):
        run_body(lm, rows.ids, rows.mask, rows.positions)
    difference = moved.outputs[block].float() - plain.outputs[block].float()  # (1, hidden)
    return bool((difference - probe).norm() < 0.02 * probe.norm())


@contextmanager
def _added_at(module: nn.Module, column: int, vectors: Tensor) -> Iterator[None]:
    """Add vectors (rows, hidden_size) to `module`'s output (rows, columns, hidden_size) at one column."""

    def add(_: nn.Module, __: Any, output: Any) -> Any:
        hidden = hidden_of(output)
        moved = _plus_at(in_rows(hidden, len(vectors)), column, vectors)
        return with_hidden(output, moved.view(hidden.shape))

    hook = module.register_forward_hook(add)
    try:
        yield
    finally:
        hook.remove()


def _plus_at(hidden: Tensor, column: int, vectors: Tensor) -> Tensor:
    moved = hidden[:, column] + vectors.to(hidden)  # (rows, hidden), in the dtype and on the device of the module
    return torch.cat([hidden[:, :column], moved[:, None], hidden[:, column + 1 :]], dim=1)
