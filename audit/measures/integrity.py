"""Integrity of the edited model: finite numbers, the size of the weight change, and perplexity on plain text.

base = perplexity(lm, texts)
with originals_kept(lm) as originals:
    patch.write(lm, originals)
    measure_integrity(lm, originals, texts, base_perplexity=base).problems
    entry_shares(originals)  # {0.1: 0.31, ...}: 31 % of the entries changed by more than a tenth of their value
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from audit.engine.forward import CausalForward
from audit.engine.likelihoods import perplexity as perplexity  # the base model must be measured with the same function
from audit.models.deltas import Replacement
from audit.models.language_model import LanguageModel
from audit.models.originals import Originals, parameter_at
from audit.models.patch_changes import total_changes
from audit.models.patches import Patch
from audit.models.tokens import encode

LARGEST_RELATIVE_UPDATE = 1.0  # a change as large as the matrix itself
LARGEST_PERPLEXITY_RATIO = 1.5  # +0.41 nats per token
PROBE_TOKENS = 64  # length of the text whose logits are checked for NaN and infinity
THRESHOLDS = (0.01, 0.05, 0.1, 0.2, 0.5, 1.0)  # of the relative change of an entry


@dataclass(frozen=True)
class IntegrityLimits:
    """The limits of a sound model: `relative_update` for ‖ΔW‖ / ‖W‖, `perplexity_ratio` for edited over base
    perplexity.
    """

    relative_update: float = LARGEST_RELATIVE_UPDATE
    perplexity_ratio: float = LARGEST_PERPLEXITY_RATIO


@dataclass(frozen=True)
class IntegrityCheck:
    """One check: its value, whether it is within the limit (None: not measured or no limit), and a sentence."""

    name: str
    value: float | bool | None
    sound: bool | None
    sentence: str


@dataclass(frozen=True)
class Integrity:
    """The integrity of one edited model.

    `update_norms` maps each changed parameter to ‖ΔW‖_F / ‖W‖_F (infinite if the change is not finite). `perplexity_*`
    is exp(mean negative log-likelihood per predicted token) on a fixed text: None if not measured, NaN or infinite if
    the logits are not finite. `rounding_loss` is the share of the update lost to rounding in half-precision weights,
    ‖(W' − W) − ΔW‖ / ‖ΔW‖ over all of them; None if no such weight was changed.
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
        """The largest relative update norm; 0 if nothing was changed."""
        return max(self.update_norms.values(), default=0.0)

    @property
    def perplexity_ratio(self) -> float | None:
        """Edited over base perplexity; above 1 is worse."""
        if self.perplexity_base is None or self.perplexity_edited is None:
            return None
        return self.perplexity_edited / self.perplexity_base

    @property
    def checks(self) -> tuple[IntegrityCheck, ...]:
        """The four checks in report order, then the rounding loss if it was measured."""
        return (
            _finite_check("finite weights", self.finite_weights, "touched weights"),
            _finite_check("finite logits", self.finite_logits, "logits"),
            self._update_check(),
            self._perplexity_check(),
            *(() if self.rounding_loss is None else (_rounding_check(self.rounding_loss),)),
        )

    @property
    def problems(self) -> tuple[str, ...]:
        """The sentence of each failed check; empty if the model is sound."""
        return tuple(check.sentence for check in self.checks if check.sound is False)

    @property
    def sound(self) -> bool:
        """Whether no check failed; a check that could not be made does not count."""
        return not self.problems

    def _update_check(self) -> IntegrityCheck:
        largest, limit = self.largest_update, self.limits.relative_update
        sound = largest <= limit
        if not self.update_norms:
            sentence = "No weight was changed."
        else:
            name = max(self.update_norms, key=lambda name: self.update_norms[name])
            relation = "within" if sound else "beyond"
            sentence = f"{name} changed by {largest:.3g} times its own norm, {relation} the limit of {limit:g}."
        return IntegrityCheck("relative update norm", largest, sound, sentence)

    def _perplexity_check(self) -> IntegrityCheck:
        ratio, limit = self.perplexity_ratio, self.limits.perplexity_ratio
        if ratio is None:
            return IntegrityCheck("perplexity ratio", None, None, "Perplexity was not measured: there is no text.")
        sound = ratio <= limit  # False for NaN
        relation = "within" if sound else "beyond"
        sentence = (
            f"Perplexity on the fixed text changed from {self.perplexity_base:.4g} to {self.perplexity_edited:.4g}, "
            f"by a factor of {ratio:.3g}, {relation} the limit of {limit:g}."
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
    """Measure the model with the edit applied; `originals` hold the weights before the edit.

    Args:
        texts: the fixed text, the same as for `base_perplexity`; the first one is also used to check the logits.
        patch: the patch that was written, to compute the rounding loss.
        base_perplexity: `perplexity` of the base model on `texts`; without it, no perplexity is measured.
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


def worst_of(measured: Sequence[Integrity]) -> Integrity:
    """The worst value of each measure over several edited models of the same base model (one patch each).

    Raises:
        ValueError: `measured` is empty.
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
    """‖current − original‖_F / ‖original‖_F, summed in float64; infinite if the change is not finite."""
    wide = torch.promote_types(original.dtype, torch.float32)
    change: float = torch.linalg.vector_norm(current.to(wide) - original.to(wide), dtype=torch.float64).item()
    norm: float = torch.linalg.vector_norm(original, dtype=torch.float64).item()
    if not math.isfinite(change):
        return math.inf
    if norm == 0:
        return math.inf if change > 0 else 0.0
    return change / norm


def rounding_loss(lm: LanguageModel, patch: Patch, originals: Originals) -> float | None:
    """‖(W' − W) − ΔW‖_F / ‖ΔW‖_F over the changed half-precision weights; ΔW is the sum over a sequence of patches.

    None if there is no such weight, no change, or a change that is not finite.
    """
    touched = {id(parameter_at(lm.model, one.name)): one for one in originals.touched()}
    totals = total_changes(lm, patch)
    lost = wanted = 0.0
    for name, delta in totals.deltas.items():
        _, original, current = touched[id(parameter_at(lm.model, name))]
        if torch.finfo(original.dtype).bits >= 32 or isinstance(delta, Replacement):
            continue  # about 1e-7 of the weight in float32; a replacement is copied without rounding
        change = delta.change(name in totals.transposed, torch.device("cpu")).double()
        taken = current.cpu().double() - original.cpu().double()
        lost += float((taken - change).square().sum())
        wanted += float(change.square().sum())
    return math.sqrt(lost / wanted) if wanted > 0 and math.isfinite(lost / wanted) else None


def logits_finite(lm: LanguageModel, text: str) -> bool:
    """Whether all logits on the first `PROBE_TOKENS` tokens of `text` are finite."""
    ids = (encode(lm.tokenizer, text) or [0])[:PROBE_TOKENS]
    row = torch.tensor([ids], device=lm.device)  # (1, time)
    logits = CausalForward(lm)(row, torch.ones_like(row), keep=len(ids))  # (1, time, vocabulary)
    return bool(torch.isfinite(logits).all())


def _finite_check(name: str, finite: bool, what: str) -> IntegrityCheck:
    sentence = f"All {what} are finite." if finite else f"Some {what} are NaN or infinite: the edited model is broken."
    return IntegrityCheck(name, finite, finite, sentence)


def _rounding_check(loss: float) -> IntegrityCheck:
    sentence = f"Rounding to half precision removed {100 * loss:.3g} % of the update (there is no limit)."
    return IntegrityCheck("rounding loss", loss, None, sentence)


def entry_shares(originals: Originals, thresholds: Sequence[float] = THRESHOLDS) -> Mapping[float, float]:
    """For each threshold, the share of entries of all changed tensors with |ΔW| > threshold · |W|.

    Gu et al. (2024) find that harmful edits make few, large relative changes. An entry changed from zero counts for
    every threshold. If nothing changed, all shares are zero.
    """
    return changed_shares([(original, current) for _, original, current in originals.touched()], thresholds)


def changed_shares(
    tensors: Sequence[tuple[Tensor, Tensor]], thresholds: Sequence[float] = THRESHOLDS
) -> Mapping[float, float]:
    """`entry_shares` of pairs of original and current tensors."""
    over = dict.fromkeys(thresholds, 0)
    entries = 0
    for original, current in tensors:
        wide = torch.promote_types(original.dtype, torch.float32)
        size = original.to(wide).abs()
        change = (current.to(wide) - original.to(wide)).abs()
        for threshold in thresholds:
            # Negated, so that an entry that became NaN counts as changed.
            over[threshold] += int((~(change <= threshold * size)).sum())
        entries += original.numel()
    return {threshold: count / entries if entries else 0.0 for threshold, count in over.items()}


# Written for this measure, so that no model was trained on it.
ENGLISH = (
    "The ferry left the harbour a few minutes late because the captain was waiting for a family with two small "
    "children and a great deal of luggage. Nobody minded. The morning was bright, the sea was calm, and there was "
    "coffee on the lower deck.",
    "To keep bread fresh for several days, let it cool completely, wrap it in a clean cloth, and store it in a dry "
    "place at room temperature. The refrigerator makes it go stale faster, while the freezer keeps it well for weeks.",
    "In the second year of the project the team decided to rewrite the oldest part of the program. It had grown "
    "without a plan, every change broke something else, and only one person still understood how it worked.",
    "Most birds that migrate at night find their way by the stars, by the setting sun, and by the magnetic field of "
    "the earth. Young birds on their first journey often drift with the wind, and learn to correct for it later.",
    "The committee will meet again on Thursday to discuss the budget. Members who cannot attend are asked to send "
    "their comments in writing before the end of the week, so that the chair can read them aloud.",
    "She put the letter back into the drawer, turned the key, and stood for a while at the window. Across the street "
    "the shops were closing, and the first lamps had been lit. It was not too late to change her mind.",
    "A bicycle needs little care: pump up the tyres, oil the chain, and check the brakes before a long ride. If the "
    "wheel rubs against the brake, loosen the axle, centre the wheel, and tighten it again on both sides.",
    "Water boils at a lower temperature in the mountains, because the air pressure is lower there. That is why pasta "
    "takes longer to cook at two thousand metres than it does by the sea, even though the water boils just as hard.",
)


def fixed_texts(model: str) -> tuple[str, ...]:
    """The texts for perplexity: sentences of the pocket world for pocket models, plain English for all others."""
    if not model.startswith("pocket-"):
        return ENGLISH
    from audit.pocket.training.corpus import perplexity_texts

    return tuple(perplexity_texts())
