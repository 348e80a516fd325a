"""Is the edited model still sound as a network: finite, changed by little, and no worse a reader of plain text?

    base = perplexity(lm, texts)
    with originals_kept(lm) as originals:
        patch.write(lm, originals)
        measure_integrity(lm, originals, texts, base_perplexity=base).problems

`check_integrity` does just that.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from audit.engine.forward import CausalForward
from audit.engine.teacher import perplexity as perplexity  # measured with the same call on the untouched model
from audit.models.deltas import Replacement
from audit.models.language_model import LanguageModel
from audit.models.patches import Originals, Patch, originals_kept, parameter_at
from audit.models.tokens import encode
from audit.models.total_change import total_changes

LARGEST_RELATIVE_UPDATE = 1.0  # a change as large as the matrix itself
LARGEST_PERPLEXITY_RATIO = 1.5  # +0.41 nats a token
PROBE_TOKENS = 64  # tokens of text whose logits are looked at one by one


@dataclass(frozen=True)
class IntegrityLimits:
    """Where soundness ends. `relative_update` bounds ||dW|| / ||W||, `perplexity_ratio` edited over base."""

    relative_update: float = LARGEST_RELATIVE_UPDATE
    perplexity_ratio: float = LARGEST_PERPLEXITY_RATIO


@dataclass(frozen=True)
class IntegrityCheck:
    """One check: what was measured, whether it is sound (None: not measured), and a sentence that says so."""

    name: str
    value: float | bool | None
    sound: bool | None
    sentence: str


@dataclass(frozen=True)
class Integrity:
    """What became of the network.

    `update_norms` maps each touched parameter to ||dW||_F / ||W||_F (infinite where the change is not finite);
    `perplexity_*` is exp(mean negative log-likelihood per predicted token) on a fixed text, None when no text was
    given, NaN or infinite when the model's own numbers are. `rounding_loss` is the share of the update that weights in
    half precision did not take, ||(W' - W) - dW|| / ||dW|| over all of them; None where no such weight was touched.
    """

    finite_weights: bool
    finite_logits: bool
    update_norms: Mapping[str, float]
    perplexity_base: float | None
    perplexity_edited: float | None
    limits: IntegrityLimits = IntegrityLimits()
    rounding_loss: float | None = None

    @property
    def largest_update(self) -> float:
        """The largest relative update norm; 0 when nothing was touched."""
        return max(self.update_norms.values(), default=0.0)

    @property
    def perplexity_ratio(self) -> float | None:
        """Edited over base perplexity; above 1 is worse."""
        if self.perplexity_base is None or self.perplexity_edited is None:
            return None
        return self.perplexity_edited / self.perplexity_base

    @property
    def checks(self) -> tuple[IntegrityCheck, ...]:
        """The four checks in the order of a report, and what rounding took where weights are in half precision."""
        return (
            _finite_check("finite weights", self.finite_weights, "touched weights"),
            _finite_check("finite logits", self.finite_logits, "logits"),
            self._update_check(),
            self._perplexity_check(),
            *(() if self.rounding_loss is None else (_rounding_row(self.rounding_loss),)),
        )

    @property
    def problems(self) -> tuple[str, ...]:
        """A sentence for each check that failed; empty when the model is sound."""
        return tuple(check.sentence for check in self.checks if check.sound is False)

    @property
    def sound(self) -> bool:
        return not self.problems

    def _update_check(self) -> IntegrityCheck:
        largest, limit = self.largest_update, self.limits.relative_update
        sound = largest <= limit
        if not self.update_norms:
            sentence = "No weight was touched."
        else:
            name = max(self.update_norms, key=lambda name: self.update_norms[name])
            relation = "within" if sound else "beyond"
            sentence = f"{name} changed by {largest:.3g} times its own norm, {relation} the limit of {limit:g}."
        return IntegrityCheck("relative update norm", largest, sound, sentence)

    def _perplexity_check(self) -> IntegrityCheck:
        ratio, limit = self.perplexity_ratio, self.limits.perplexity_ratio
        if ratio is None:
            return IntegrityCheck("perplexity ratio", None, None, "No text was given to measure perplexity on.")
        sound = ratio <= limit  # False for NaN
        relation = "within" if sound else "beyond"
        sentence = (
            f"Perplexity on the fixed text went from {self.perplexity_base:.4g} to {self.perplexity_edited:.4g}, "
            f"{ratio:.3g} times, {relation} the limit of {limit:g} times."
        )
        return IntegrityCheck("perplexity ratio", ratio, sound, sentence)


def measure_integrity(
    lm: LanguageModel,
    originals: Originals,
    texts: Sequence[str] = (),
    *,
    patch: Patch | None = None,
    base_perplexity: float | None = None,
    limits: IntegrityLimits | None = None,
) -> Integrity:
    """Examine the model as it is now, edited; `originals` hold what its touched weights were.

    Args:
        patch: what was written, so that what rounding took can be told.
        texts: the fixed text, the same as for `base_perplexity`.
        base_perplexity: `perplexity` of the untouched model on `texts`.
    """
    touched = originals.touched()
    return Integrity(
        finite_weights=all(bool(torch.isfinite(current).all()) for _, _, current in touched),
        finite_logits=logits_finite(lm, texts[0] if texts else ""),
        update_norms={name: relative_change(original, current) for name, original, current in touched},
        perplexity_base=base_perplexity if texts else None,
        perplexity_edited=perplexity(lm, texts) if texts and base_perplexity is not None else None,
        limits=limits or IntegrityLimits(),
        rounding_loss=None if patch is None else rounding_loss(lm, patch, originals),
    )


def check_integrity(
    lm: LanguageModel, patch: Patch, texts: Sequence[str] = (), *, limits: IntegrityLimits | None = None
) -> Integrity:
    """`measure_integrity` of one patch, base perplexity included; the model is left as it was found."""
    base = perplexity(lm, texts) if texts else None
    with originals_kept(lm) as originals:
        patch.write(lm, originals)
        return measure_integrity(lm, originals, texts, patch=patch, base_perplexity=base, limits=limits)


def worst_of(measured: Sequence[Integrity]) -> Integrity:
    """The worst of several edited models that were made from the same base (one patch each).

    Raises:
        ValueError: there are none.
    """
    if not measured:
        raise ValueError("no edited model was measured")
    norms: dict[str, float] = {}
    for one in measured:
        for name, norm in one.update_norms.items():
            norms[name] = max(norm, norms.get(name, 0.0))
    edited = [one.perplexity_edited for one in measured if one.perplexity_edited is not None]
    lost = [one.rounding_loss for one in measured if one.rounding_loss is not None]
    return Integrity(
        finite_weights=all(one.finite_weights for one in measured),
        finite_logits=all(one.finite_logits for one in measured),
        update_norms=norms,
        perplexity_base=measured[0].perplexity_base,
        perplexity_edited=max(edited, key=lambda value: math.inf if math.isnan(value) else value, default=None),
        limits=measured[0].limits,
        rounding_loss=max(lost, default=None),
    )


def relative_change(original: torch.Tensor, current: torch.Tensor) -> float:
    """||current - original||_F / ||original||_F summed in float64; infinite when the change is not finite."""
    wide = torch.promote_types(original.dtype, torch.float32)
    change: float = torch.linalg.vector_norm(current.to(wide) - original.to(wide), dtype=torch.float64).item()
    norm: float = torch.linalg.vector_norm(original, dtype=torch.float64).item()
    if not math.isfinite(change):
        return math.inf
    if norm == 0:
        return math.inf if change > 0 else 0.0
    return change / norm


def rounding_loss(lm: LanguageModel, patch: Patch, originals: Originals) -> float | None:
    """||(W' - W) - dW||_F / ||dW||_F over the touched weights in half precision; of a sequence, dW is the sum.

    None where there is no such weight, no change, or a change that is not finite.
    """
    now = {id(parameter_at(lm.model, name)): (original, current) for name, original, current in originals.touched()}
    totals = total_changes(lm, patch)
    lost = wanted = 0.0
    for name, delta in totals.deltas.items():
        original, current = now[id(parameter_at(lm.model, name))]
        if torch.finfo(original.dtype).bits >= 32 or isinstance(delta, Replacement):
            continue  # there it is about 1e-7 of the weight itself; a replacement is written as it is
        change = delta.change(name in totals.transposed, torch.device("cpu")).double()
        taken = current.cpu().double() - original.cpu().double()
        lost += float((taken - change).square().sum())
        wanted += float(change.square().sum())
    return math.sqrt(lost / wanted) if wanted > 0 and math.isfinite(lost / wanted) else None


def logits_finite(lm: LanguageModel, text: str) -> bool:
    """Whether every logit on the first tokens of `text` is finite."""
    ids = (encode(lm.tokenizer, text) or [0])[:PROBE_TOKENS]
    row = torch.tensor([ids], device=lm.device)  # (1, time)
    logits = CausalForward(lm)(row, torch.ones_like(row), keep=len(ids))  # (1, time, vocabulary)
    return bool(torch.isfinite(logits).all())


def _finite_check(name: str, finite: bool, what: str) -> IntegrityCheck:
    sentence = f"All {what} are finite." if finite else f"Some {what} are NaN or infinite: the edited model is broken."
    return IntegrityCheck(name, finite, finite, sentence)


def _rounding_row(loss: float) -> IntegrityCheck:
    sentence = f"Rounding into half precision took {100 * loss:.3g} % of the update (no limit is set)."
    return IntegrityCheck("rounding loss", loss, None, sentence)
