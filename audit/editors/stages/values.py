"""The value optimisation of ROME (equation 4) and MEMIT (equation 16): what must be said at the subject's last token.

For each request a vector δ is added at the lookup of all its sequences, and

    L(δ) = mean over contexts of [ −(1/|target|) Σ_t log p(target_t) ]
         + kl_factor · KL( p_current ‖ p_initial )  at the lookup of "{subject} is a"
         + weight_decay · ‖δ‖ / ‖h₀‖²

is lowered by Adam, where h₀ is the unperturbed state at the lookup of the bare prompt. As in the reference, ‖δ‖ is not
squared while ‖h₀‖ is, at most `steps` − 1 updates are made, a request stops once its loss is below `stop_loss`, and
after every update δ is pulled back onto the ball of radius clamp_norm_factor · ‖h₀‖. PMET has two such vectors, one for
what attention says and one for what the MLP says, each with its own decay and ball.

All requests are optimised side by side; every row has its own loss, clamp and stopping, so the outcome is that of one
by one. Only what lies above the perturbed place runs in each step, requests that are done leave the batch, and no row
says what another says already (see `value_rows`).
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from audit.editors.stages.contexts import Contexts
from audit.editors.stages.hyperparameters import ValueSettings
from audit.editors.stages.value_rows import Places, ValueTask, chunks
from audit.edits.requests import EditRequest
from audit.engine.sequences import EditSequence, align
from audit.engine.shared_beginnings import begin
from audit.engine.taps import hidden_of, in_rows, run_body, tapped, with_hidden
from audit.engine.upper_blocks import UpperBlocks
from audit.errors import AuditError
from audit.models.language_model import LanguageModel
from audit.models.lean_modules import activations_fused
from audit.progress import Progress

Site = Literal["mlp", "block", "branches"]
_BETAS, _EPSILON = (0.9, 0.999), 1e-8  # Adam as published
_SETTLED_WEIGHT = 0.1  # of the target's loss where it ranks first already (PMET)


@dataclass(frozen=True)
class OptimizedValues:
    """`initial` h₀ and `delta` δ, both (requests, hidden_size) in float32; `losses` and `updates` one a request.

    At the site "branches" both are (requests, 2, hidden_size): attention's first, the MLP's second.
    """

    initial: Tensor
    delta: Tensor
    losses: tuple[float, ...]
    updates: tuple[int, ...]

    @property
    def targets(self) -> Tensor:
        """v* (ROME), z (MEMIT) or both branches' targets (PMET)."""
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
    progress: Progress | None = None,
) -> OptimizedValues:
    """Optimise one δ a request, added to the MLP's output ("mlp", ROME) or the block's output ("block", MEMIT), or one
    for the output projection of attention and one for the MLP ("branches", PMET).

    `clamps`, one a vector of a request, take the place of `settings.clamp_norm_factor`. With `settled_kl` (PMET) a
    request whose target ranks first in every context stops once its weighted KL is at most that, and until then the
    target's loss counts a tenth in its next step.

    Requests are taken together as long as their padded sequences stay within `settings.token_budget` tokens; a single
    request that is larger runs alone. The budget does not change the outcome.

    Raises:
        AuditError: a loss is not finite; the sentence names the request.
    """
    tasks = [ValueTask.of(lm, request, contexts, settings) for request in requests]
    perturbed = _perturbed_modules(lm, layer, site)
    initial = torch.zeros(len(tasks), len(perturbed), lm.anatomy.hidden_size, device=lm.device)
    delta = torch.zeros_like(initial)
    losses, updates = [0.0] * len(tasks), [0] * len(tasks)
    done = 0
    # An MLP whose output is plainly added to the stream is perturbed by perturbing the block's output.
    inside = site == "branches" or (site == "mlp" and not _mlp_reaches_stream_unchanged(lm, layer))
    for chunk in chunks(tasks, settings.token_budget):

        def tick(finished: int, before: int = done) -> None:
            if progress is not None:
                progress(before + finished, len(tasks))

        with activations_fused(lm):
            descent = _Descent(
                lm, [tasks[index] for index in chunk], layer, perturbed, inside, settings, settled_kl, clamps
            )
            descent.run(tick)
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
    """Adam on the δ of several requests at once; `initial`, `delta` (requests, modules, hidden), `losses` and `updates`
    hold the outcome."""

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
        begun = begin(lm, [row for task in tasks for row in task.rows], stop=lm.anatomy.mlps[-1])
        with tapped(lm, len(begun.rows.ids), outputs=perturbed, column=begun.rows.lookup) as taps:
            self._upper = UpperBlocks.prepared(lm, begun, start=layer if inside else layer + 1)
        sizes = torch.tensor([len(task.rows) for task in tasks], device=lm.device)
        self._owners = torch.arange(len(tasks), device=lm.device).repeat_interleave(sizes)  # (rows,): whose row it is
        first = sizes.cumsum(0) - sizes  # the bare prompt is each request's first row
        bare = [taps.outputs[place].to(lm.device, torch.float32)[first] for place in perturbed]
        self.initial = torch.stack(bare, dim=1)
        self.delta = torch.zeros_like(self.initial)
        self.losses, self.updates = [0.0] * len(tasks), [0] * len(tasks)

    def run(self, tick: Callable[[int], None]) -> None:
        settings = self._settings
        radius = self.initial.new_tensor(self._clamps) * self.initial.norm(dim=2)  # (requests, modules)
        square = self.initial.norm(dim=2) ** 2
        active = torch.arange(len(self._tasks), device=self.initial.device)
        upper, owners, places = self._upper, self._owners, Places.of(self._tasks, active)
        weight = torch.ones(len(active), device=active.device)  # of the target's loss
        mean = torch.zeros_like(self.delta)
        variance = torch.zeros_like(self.delta)
        at_first: Tensor | None = None  # log p at the KL sequence's place before any update, (active, vocabulary)

        for step in range(settings.steps):
            delta = self.delta[active].requires_grad_()
            with torch.enable_grad():
                log_p = self._logits(upper, places, delta.index_select(0, owners)).log_softmax(-1)
                label_log_p, now = log_p[: len(places.ids)], log_p[len(places.ids) :]  # (labels or active, vocabulary)
                if at_first is None:
                    at_first = now.detach()
                # (labels,) -> (active,): the mean over contexts of the mean over target tokens
                nll = -label_log_p.gather(1, places.ids[:, None])[:, 0] * places.weights
                loss = weight * torch.zeros(len(active), device=nll.device).index_add(0, places.owners, nll)
                kl = torch.zeros_like(loss)
                if settings.kl_factor:
                    kl = settings.kl_factor * (now.exp() * (now - at_first)).sum(-1)
                loss = loss + kl + settings.weight_decay * (delta.norm(dim=2) / square[active]).sum(1)
            self._note_losses(active, loss.detach(), step)
            going = loss.detach() >= settings.stop_loss
            if self._settled_kl is not None:
                missed = label_log_p.argmax(-1) != places.ids
                first = torch.zeros(len(active), device=missed.device).index_add(0, places.owners, missed.float()) == 0
                going &= ~(first & (kl.detach() <= self._settled_kl))
                weight = torch.where(first, _SETTLED_WEIGHT, 1.0)
            if step == settings.steps - 1 or not bool(going.any()):
                break
            (gradient,) = torch.autograd.grad(loss.sum(), delta)
            if not bool(going.all()):
                stay = going[owners]  # (rows,)
                upper, owners = upper.select(stay.nonzero()[:, 0]), (going.cumsum(0) - 1)[owners[stay]]
                active, gradient, weight = active[going], gradient[going], weight[going]
                at_first = at_first[going] if settings.kl_factor else at_first
                places = Places.of(self._tasks, active)
                tick(len(self._tasks) - len(active))
            mean[active] = _BETAS[0] * mean[active] + (1 - _BETAS[0]) * gradient
            variance[active] = _BETAS[1] * variance[active] + (1 - _BETAS[1]) * gradient**2
            # Rows differ in when they stop, never in when they start: one step count serves all.
            step_size = settings.learning_rate / (1 - _BETAS[0] ** (step + 1))
            scale = variance[active].sqrt() / (1 - _BETAS[1] ** (step + 1)) ** 0.5 + _EPSILON
            moved = self.delta[active] - step_size * mean[active] / scale
            shrink = (radius[active] / moved.norm(dim=2)).clamp(max=1.0)
            self.delta[active] = moved * shrink[:, :, None]
            for index in active.tolist():
                self.updates[index] += 1
        tick(len(self._tasks))

    def _logits(self, upper: UpperBlocks, places: Places, spread: Tensor) -> Tensor:
        """Logits at every label's place, then at every KL sequence's, with `spread` (rows, modules, hidden) added."""
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
                    f"The loss of edit {self._tasks[index].case_id!r} became {value} at step {step + 1}; "
                    "load the model with dtype float32 or lower the editor's learning_rate."
                )
            self.losses[index] = value


@torch.no_grad()
def _mlp_reaches_stream_unchanged(lm: LanguageModel, layer: int) -> bool:
    """Whether a vector added to the MLP's output comes out of its block as it is (no norm, no scaling in between)."""
    mlp, block = lm.anatomy.mlps[layer], lm.anatomy.blocks[layer]
    rows = align([EditSequence((1, 2, 3), 2)], lm.device)
    with tapped(lm, 1, outputs=[mlp, block], stop=block, column=2) as plain:
        run_body(lm, rows.ids, rows.mask, rows.positions)
    # As large as what is there, so that rounding in half precision does not hide the answer.
    size = float(plain.outputs[block].float().norm()) / lm.anatomy.hidden_size**0.5
    probe = size * torch.linspace(-1, 1, lm.anatomy.hidden_size, device=plain.outputs[block].device)[None]
    with (
        tapped(lm, 1, outputs=[block], stop=block, column=2) as moved,
        _added_at(lm.model.get_submodule(mlp), 2, probe),
    ):
        run_body(lm, rows.ids, rows.mask, rows.positions)
    difference = moved.outputs[block].float() - plain.outputs[block].float()
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
    moved = hidden[:, column] + vectors.to(hidden)  # dtype and device of the module, wherever it is
    return torch.cat([hidden[:, :column], moved[:, None], hidden[:, column + 1 :]], dim=1)
