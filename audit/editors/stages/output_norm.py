"""Norms between an MLP's output and the residual stream (Gemma 2 and 3, OLMo 2), and the outputs that they require.

    norm = output_norm(lm, layer=3)  # None where the output is added as it is
    change = norm.change(outputs, residuals)  # of the MLP's outputs, (rows, hidden)

Such a block computes h = a + N(u) with the MLP's output u, a stream a that u does not change, and an RMSNorm

    N(u) = g * u / rms(u),  rms(u) = ‖u‖ / √d

with gain g (d = hidden width; the norm's small ε is neglected). To move h by a residual r, u must become a u' with
N(u') = y', where y' = N(u) + r. N knows no length: it maps onto the ellipsoid {g * v : rms(v) = 1}, and y' can be
reached only if it lies there. The nearest point to y' is taken, and u' keeps the length of u:

    u' = rms(u) v,  v = argmin ‖g * v − y'‖² + κ ‖v − v₀‖²  subject to rms(v) = 1,  v₀ = u / rms(u)

With a multiplier μ for the constraint, vᵢ = (gᵢ y'ᵢ + κ v₀ᵢ) / (gᵢ² + μ), and ‖v‖² = d determines μ: ‖v‖² falls in
μ > −min gᵢ², so bisection finds it. κ is small. It holds the entries that hardly reach the stream (gᵢ ≈ 0) at their
values; without a residual, μ = κ and u' = u. If y' can be reached, u' reaches it up to κ.

A residual that is optimized at the block's output lies far from the ellipsoid in general: the stream is much longer
than what one block adds. So editors of the stream optimize u at the last layer, as ROME does, and ask the stream for
N(u + δ) − N(u), which that layer can reach.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from audit.editors.stages.values import reaches_stream_unchanged
from audit.engine.sequences import EditSequence, align
from audit.engine.taps import run_body, tapped
from audit.models.language_model import LanguageModel

_HELD = 1e-3  # κ as a share of the median gᵢ²
_BISECTIONS = 100
_TOLERANCE = 0.02  # relative, of the test that a module is an RMSNorm; wide enough for half precision


@dataclass(frozen=True, eq=False)
class OutputNorm:
    """An RMSNorm on the output of an MLP.

    Attributes:
        gain: g, (hidden,) in float64.
    """

    gain: Tensor

    def added(self, outputs: Tensor) -> Tensor:
        """N(u), what is added to the stream for outputs (rows, hidden) of the MLP; in float64."""
        return self.gain * _unit(outputs)

    def change(self, outputs: Tensor, residuals: Tensor) -> Tensor:
        """How outputs u (rows, hidden) must change to move the stream by residuals (rows, hidden): u' − u, in float64.

        Where a residual cannot be reached, the stream moves to the nearest point that can.
        """
        held = _HELD * float((self.gain**2).median())  # κ
        before = _unit(outputs)  # v₀, (rows, hidden)
        wanted = self.gain * before + residuals.double()  # y', (rows, hidden)
        found = _on_sphere(self.gain * wanted + held * before, self.gain**2)  # v, (rows, hidden)
        return _rms(outputs) * (found - before)


@torch.no_grad()
def output_norm(lm: LanguageModel, layer: int) -> OutputNorm | None:
    """The norm on the MLP's output of a block; None if the output is added unchanged or in another way.

    The norm is found by what it does: a child of the block whose input is the MLP's output, which is an RMSNorm, and
    whose output reaches the stream unchanged. Measured on three tokens.
    """
    if reaches_stream_unchanged(lm, layer):
        return None
    anatomy = lm.anatomy
    block, mlp = anatomy.blocks[layer], anatomy.mlps[layer]
    vectors = [
        f"{block}.{name}"
        for name, child in lm.model.get_submodule(block).named_children()
        if [tuple(parameter.shape) for parameter in child.parameters()] == [(anatomy.hidden_size,)]
    ]
    rows = align([EditSequence((1, 2, 3), 2)], lm.device)
    with tapped(lm, 1, inputs=vectors, outputs=[mlp, block], stop=block, column=2) as taps:
        run_body(lm, rows.ids, rows.mask, rows.positions)
    for path in vectors:
        if path not in taps.inputs or not torch.equal(taps.inputs[path], taps.outputs[mlp]):
            continue
        norm, probe = lm.model.get_submodule(path), taps.outputs[mlp]  # probe (1, hidden)
        found = OutputNorm(norm(torch.ones_like(probe))[0].to(lm.device, torch.float64))
        exact = norm(probe).to(found.gain)
        is_rms = bool((found.added(probe.to(lm.device)) - exact).norm() < _TOLERANCE * exact.norm())
        return found if is_rms and reaches_stream_unchanged(lm, layer, path) else None
    return None


def _rms(rows: Tensor) -> Tensor:
    """(rows, 1) in float64."""
    return rows.double().pow(2).mean(dim=1, keepdim=True).sqrt().clamp(min=torch.finfo(torch.float32).tiny)


def _unit(rows: Tensor) -> Tensor:
    """Rows with an rms of 1, in float64."""
    return rows.double() / _rms(rows)


def _on_sphere(numerator: Tensor, squares: Tensor) -> Tensor:
    """vᵢ = nᵢ / (gᵢ² + μ) for numerators (rows, hidden) and gᵢ² (hidden,), with the μ of each row that gives rms 1."""
    lowest = squares.min()
    above = squares - lowest  # gᵢ² + μ = above + shift, with shift > 0
    low = torch.full_like(numerator[:, :1], torch.finfo(torch.float64).tiny)  # (rows, 1)
    high = lowest + numerator.norm(dim=1, keepdim=True) + 1.0  # the rms is below 1 here
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        long = _rms(numerator / (above + middle)) > 1
        low, high = torch.where(long, middle, low), torch.where(long, high, middle)
    return _unit(numerator / (above + high))
