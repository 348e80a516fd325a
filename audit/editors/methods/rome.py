"""ROME: rank-one model editing (Meng et al. 2022, arXiv 2202.05262), and R-ROME (Gupta et al. 2024, arXiv 2403.07175).

Section 3.1 reads one MLP's down projection W as a key-value store: W k = v. A new fact k* ↦ v* is inserted, and the
values of other keys change as little as possible:

1. key (equation 3): k̄, the mean of the MLP's keys at the subject's last token over prefix contexts;
2. value (equation 4): v*, the MLP output that makes the model predict the target, by gradient descent;
3. solve (equation 2): ΔW = Λ (C⁻¹k*)ᵀ with Λ = (v* − W k*) / ((C⁻¹k*)ᵀ k*).

The derivation has one key k*. The published code uses k̄ in the direction C⁻¹k̄, and the key k₀ of the bare prompt in Λ.
Where the two hardly overlap, the update explodes. The setting `key_mode` chooses: "original" as in the code,
"consistent" with k̄ in both places (R-ROME), "prompt" with k₀ in both places (p-ROME). With one key the denominator
kᵀC⁻¹k is positive, and (W + ΔW) k = v* exactly.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from audit.editors.stages.editor_settings import Published, Shapes, layer_at, require, require_layer
from audit.editors.stages.key_value_editor import KeyValueEditor, KeyValueSettings
from audit.editors.stages.keys import BARE, Contexts, context_keys
from audit.editors.stages.solve import rank_one_update
from audit.editors.stages.values import optimize_values
from audit.edits.requests import EditRequest
from audit.errors import AuditError
from audit.models.language_model import LanguageModel
from audit.models.patches import Patch, WeightPatch
from audit.progress import Tick

_LLAMA = {"layer": 5, "steps": 25, "weight_decay": 1e-3, "covariance": "identity"}
# kmeng01/rome `hparams/ROME` (GPT-2, GPT-J, NeoX), EasyEdit `hparams/ROME` (the others). Their loss layer is the last
# one everywhere; here the loss uses the model's own logits.
_PUBLISHED: Published = {
    Shapes.GPT2_MEDIUM: {"layer": 8, "clamp_norm_factor": 3.0},
    Shapes.GPT2_LARGE: {"layer": 12},
    Shapes.GPT2_XL: {"layer": 17},
    Shapes.GPT_J: {"layer": 5},
    Shapes.GPT_NEOX: {"layer": 15},
    Shapes.LLAMA_7B: _LLAMA,
    Shapes.LLAMA_3_8B: _LLAMA,
    Shapes.LLAMA_3_3B: _LLAMA,
    Shapes.MISTRAL_7B: _LLAMA,
    Shapes.QWEN_2_7B: _LLAMA,
}
# The peak of `audit locate` over CounterFact facts; benchmarks/results/locate-*.md.
TRACED: Published = {Shapes.SMOLLM2_135M: {"layer": 3}, Shapes.GEMMA_3_270M: {"layer": 3}}
LAYER_SHARES = {"gpt2": 0.36, "other": 0.17}  # the published layers as a share of the depth


@dataclass(frozen=True)
class RomeSettings(KeyValueSettings):
    """Settings of ROME, with the defaults published for GPT-2 XL.

    Attributes:
        layer: the block whose MLP is written, counted from 0.
        key_mode: "original", "consistent" (R-ROME) or "prompt" (p-ROME); see the module's docstring.
    """

    published: ClassVar[Published] = _PUBLISHED
    traced: ClassVar[Published] = TRACED
    measured_for: ClassVar[tuple[str, ...]] = ("rome",)

    layer: int = 0
    key_mode: str = "original"

    @classmethod
    def for_depth(cls, model_type: str, depth: int) -> dict[str, Any]:
        return {"layer": layer_at(LAYER_SHARES, model_type, depth)}

    def check(self, depth: int) -> None:
        super().check(depth)
        require_layer(self.layer, depth)
        known = self.key_mode in ("original", "consistent", "prompt")
        require(known, "key_mode", repr(self.key_mode), "original, consistent or prompt")


class RomeKeys(NamedTuple):
    """The keys of one update, in float32."""

    direction: Tensor  # k in the direction C⁻¹k, (inner,)
    stored: Tensor  # k in Λ, which the update maps to v*, (inner,)
    output: Tensor  # W k of the stored key before the update, (hidden,)


class Rome(KeyValueEditor[RomeSettings]):
    """One fact, one layer, one rank-one update."""

    name: ClassVar[str] = "rome"
    batches: ClassVar[bool] = False
    settings_kind = RomeSettings
    openings: ClassVar[tuple[str, ...]] = ("",)  # continuations of "<|endoftext|>"

    def _edit(self, lm: LanguageModel, requests: Sequence[EditRequest], settings: RomeSettings, tick: Tick) -> Patch:
        self._prepare(lm, settings)
        contexts, layer = self.contexts(lm), settings.layer
        keys = self._keys(lm, requests[0], contexts, settings)  # equation 3
        values = optimize_values(lm, requests, contexts, layer=layer, site="mlp", settings=settings, tick=tick)
        value = values.targets[0]  # v*, equation 4, (hidden,)
        factor = self._covariance.factors(lm, [layer], settings)[layer]  # of C
        delta = rank_one_update(factor, keys.direction, keys.stored, keys.output, value)  # equation 2
        if not bool(delta.left.isfinite().all()):
            overlap = float(delta.right[0] @ keys.stored.to(delta.right))  # uᵀk
            raise AuditError(
                f"the update of edit {requests[0].case_id!r} is not finite (the inner product of its key and the "
                f"update direction is {overlap:g}); use the editor r-rome, or covariance=identity."
            )
        name = lm.anatomy.weight_name(layer)
        transposed = frozenset({name}) if lm.anatomy.transposed else frozenset[str]()
        return WeightPatch({name: delta}, transposed, self._edit_meta(lm, settings, requests, values))

    @torch.no_grad()
    def _keys(self, lm: LanguageModel, request: EditRequest, contexts: Contexts, settings: RomeSettings) -> RomeKeys:
        mode = settings.key_mode
        contexts = BARE if mode == "prompt" else contexts
        keys = context_keys(lm, [request], contexts, settings.layer, settings.token_budget)
        mean, bare, bare_output = keys.mean[0], keys.bare[0], keys.bare_output[0]  # k̄, k₀ (inner,), W k₀ (hidden,)
        if mode != "consistent":
            return RomeKeys(mean, bare, bare_output)
        path = lm.anatomy.down_projections[settings.layer]
        down, weight = lm.model.get_submodule(path), lm.model.get_parameter(f"{path}.weight")
        return RomeKeys(mean, mean, down(mean.to(weight)[None, :])[0].float())  # W k̄, (hidden,)

    def _grouped(self, sampled: tuple[str, ...]) -> Contexts:
        return Contexts((("", *sampled),))  # one group: a flat mean

    def _layers(self, settings: RomeSettings) -> tuple[int, ...]:
        return (settings.layer,)


@dataclass(frozen=True)
class RRomeSettings(RomeSettings):
    """Settings of ROME, with the mean key in both places."""

    key_mode: str = "consistent"


class RRome(Rome):
    """ROME with `key_mode` "consistent": ΔW = (v* − W k̄)(C⁻¹k̄)ᵀ / (k̄ᵀC⁻¹k̄)."""

    name: ClassVar[str] = "r-rome"
    settings_kind = RRomeSettings
