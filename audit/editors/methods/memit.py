"""MEMIT: mass-editing memory in a transformer (Meng et al. 2022, arXiv 2210.07229), and MEMIT-seq for sequences.

Algorithm 1, for a batch of requests and layers l₁ < … < L:

1. value (equation 16): for each request a target z for the residual stream at the last token of the subject, after
   layer L, that makes the model predict the new answer;
2. for each layer l, from the lowest up, on the model whose lower layers are already written:
   - key (equation 19): K, the mean keys of the requests;
   - residual (equation 20): R = (z − h_L) / (layers left), an equal share of the remaining distance;
   - solve (equation 14): ΔW = R Kᵀ (λC + K Kᵀ)⁻¹, a least squares between the new keys and the old ones in C.

Where a norm lies between the MLP and the stream (Gemma 2 and 3), the value is optimized at the last MLP's output, z is
what the block makes of it, and R is turned into a change of the MLP's output before the solve; see `output_norm`. No
published code is known for such models.

MEMIT-seq protects the keys K_p of all earlier steps of a sequence too: ΔW = R Kᵀ (λC + K_p K_pᵀ + K Kᵀ)⁻¹. They are
read on the model after each step is written. Without earlier steps it equals MEMIT.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from audit.editors.stages.editor_settings import Published, Shape, Shapes, layer_at, require_positive, require_rising
from audit.editors.stages.key_value_editor import KeyValueEditor, KeyValueSettings
from audit.editors.stages.keys import BARE, OPENINGS, Contexts, lookup_states, mean_keys
from audit.editors.stages.output_norm import OutputNorm, output_norm
from audit.editors.stages.solve import PastKeys, least_squares_directions
from audit.editors.stages.values import OptimizedValues, Site, optimize_values, reaches_stream_unchanged
from audit.edits.requests import EditRequest
from audit.engine.sequences import prompt_sequence
from audit.errors import AuditError
from audit.models.language_model import LanguageModel
from audit.models.patches import LowRankDelta, Patch, WeightPatch, originals_kept
from audit.progress import Tick

_LLAMA = {"layers": (4, 5, 6, 7, 8), "steps": 25, "weight_decay": 1e-3, "clamp_norm_factor": 4.0}
# kmeng01/memit `hparams/MEMIT` (GPT-2 XL, GPT-J, NeoX), AlphaEdit `hparams/MEMIT` (Llama 3 8B), EasyEdit
# `hparams/MEMIT` (the others).
_PUBLISHED: Published = {
    Shapes.GPT2_XL: {"layers": (13, 14, 15, 16, 17), "covariance_weight": 20000.0},
    Shapes.GPT_J: {"layers": (3, 4, 5, 6, 7, 8), "steps": 25},
    Shapes.GPT_NEOX: {"layers": (6, 7, 8, 9, 10), "clamp_norm_factor": 0.3, "covariance_weight": 20000.0},
    Shapes.LLAMA_7B: _LLAMA,
    Shapes.LLAMA_3_8B: {"layers": (4, 5, 6, 7, 8), "steps": 25, "learning_rate": 0.1},
    Shapes.LLAMA_3_3B: _LLAMA,
    Shapes.MISTRAL_7B: _LLAMA,
    Shapes.QWEN_2_7B: _LLAMA,
}
# The layers up to the peak of `audit locate` over CounterFact facts; benchmarks/results/locate-*.md.
_TRACED: Published = {Shapes.SMOLLM2_135M: {"layers": (0, 1, 2, 3)}, Shapes.GEMMA_3_270M: {"layers": (2, 3)}}
# The published λ is 0.8 to 1.8 times the key dimensions, and 3.1 times those of GPT-2 XL. With fewer dimensions than
# this, the default λ would be more than 3.1 times as many. benchmarks/results/real-settings.md has the figures.
_FEW_KEY_DIMENSIONS = 4800
_LAST_LAYER_SHARES = {"gpt2": 0.36, "other": 0.26}  # the published last layers as a share of the depth


@dataclass(frozen=True)
class BatchSettings(KeyValueSettings):
    """Settings of the editors that write a batch of requests, with the defaults published for MEMIT on GPT-2 XL."""

    clamp_norm_factor: float = 0.75
    context_lengths: tuple[int, ...] = (10,)
    contexts_per_length: int = 5


@dataclass(frozen=True)
class LayersSettings(BatchSettings):
    """Settings of the editors that write several `layers`, which must rise."""

    traced: ClassVar[Published] = _TRACED
    measured_for: ClassVar[tuple[str, ...]] = ("memit",)

    layers: tuple[int, ...] = (0,)

    @classmethod
    def for_depth(cls, model_type: str, depth: int) -> dict[str, Any]:
        last = layer_at(_LAST_LAYER_SHARES, model_type, depth)
        return {"layers": tuple(range(max(0, last - 4), last + 1))}

    def check(self, depth: int) -> None:
        super().check(depth)
        require_rising(self.layers, depth)


@dataclass(frozen=True)
class MemitSettings(LayersSettings):
    """Settings of MEMIT.

    Attributes:
        covariance_weight: λ, the number of old keys that C counts as. An ordinary key has kᵀC⁻¹k = d_k on average, so
            a layer writes about d_k / (λ + d_k) of its part. Without a published value, a model with few key
            dimensions d_k takes λ = d_k: 15,000 would lose most of the edit there.
    """

    published: ClassVar[Published] = _PUBLISHED

    covariance_weight: float = 15000.0

    @classmethod
    def for_shape(cls, shape: Shape) -> dict[str, Any]:
        weight = {"covariance_weight": float(shape.inner_size)} if shape.inner_size < _FEW_KEY_DIMENSIONS else {}
        return super().for_shape(shape) | weight

    def check(self, depth: int) -> None:
        super().check(depth)
        require_positive(self, "covariance_weight")


B = TypeVar("B", bound=BatchSettings)


class BatchEditor(KeyValueEditor[B]):
    """Base of MEMIT and its successors: Algorithm 1, with ΔW = R Dᵀ for residuals R and directions D.

    A method may change the target and its current value (`_targets`, `_current`), the divisor of the residual
    (`_parts`), and must give the directions (`_directions`). Where `protects_earlier_steps` is set, `remember` reads
    the keys of a step on the model that holds it, for the directions of later steps; `forget` drops them.
    """

    openings: ClassVar[tuple[str, ...]] = OPENINGS
    protects_earlier_steps: ClassVar[bool] = False
    residual_of_stream: ClassVar[bool] = True  # whether targets are outputs of blocks, not of MLPs

    def _begin(self) -> None:
        super()._begin()
        self._past: WeakKeyDictionary[LanguageModel, dict[int, PastKeys]] = WeakKeyDictionary()

    def forget(self, lm: LanguageModel) -> None:
        super().forget(lm)
        self._past.pop(lm, None)

    def remember(self, lm: LanguageModel, requests: Sequence[EditRequest]) -> None:
        if not self.protects_earlier_steps:
            return
        settings = self.settings(lm)
        self._prepare(lm, settings)
        past = self._past.setdefault(lm, {})
        for layer in self._layers(settings):
            keys = mean_keys(lm, requests, self.contexts(lm), layer, settings.token_budget).T  # (inner, requests)
            columns = self._keys_of_solve(lm, layer, keys)
            past[layer] = past.get(layer, PastKeys.none(len(columns))).joined(columns)

    def _edit(self, lm: LanguageModel, requests: Sequence[EditRequest], settings: B, tick: Tick) -> Patch:
        self._prepare(lm, settings)
        contexts, layers = self.contexts(lm), self._layers(settings)
        norms = self._norms(lm, layers)
        values, targets = self._targets(lm, requests, contexts, settings, tick)  # z (requests, hidden), equation 16
        names = [lm.anatomy.weight_name(layer) for layer in layers]
        transposed = frozenset(names) if lm.anatomy.transposed else frozenset[str]()
        deltas: dict[str, LowRankDelta] = {}
        with originals_kept(lm) as originals:
            for written, (layer, name) in enumerate(zip(layers, names, strict=True)):
                keys = mean_keys(lm, requests, contexts, layer, settings.token_budget).T  # K (inner, requests), eq. 19
                remaining = targets - self._current(lm, requests, settings).double()  # z − h_L, (requests, hidden)
                residual = remaining.T / self._parts(len(layers) - written)  # R (hidden, requests), equation 20
                if norm := norms.get(layer):
                    outputs = self._output(lm, requests, lm.anatomy.mlps[layer], settings)  # u, (requests, hidden)
                    residual = norm.change(outputs, residual.T).T  # (hidden, requests)
                directions = self._directions(lm, layer, keys, settings)  # D (inner, requests), equation 14
                delta = LowRankDelta(residual.to(directions.device).contiguous(), directions.T.contiguous())
                if not bool(torch.isfinite(delta.left).all() and torch.isfinite(delta.right).all()):
                    raise AuditError(
                        f"the update of layer {layer} is not finite; load the model with dtype float32 "
                        "or give a larger covariance_weight."
                    )
                WeightPatch({name: delta}, transposed).write(lm, originals)
                deltas[name] = delta
        meta = self._edit_meta(lm, settings, requests, values) | self._more_meta(lm)
        if self.residual_of_stream and layers[-1] not in norms and not reaches_stream_unchanged(lm, layers[-1]):
            meta["solve.caveat"] = (
                f"The model {lm.name} scales or otherwise changes the output of an MLP before it is added, which "
                f"{self.name} does not take into account: its edits may fail and harm the whole model; use rome or "
                "r-rome."
            )
        return WeightPatch(deltas, transposed, meta)

    def _targets(
        self, lm: LanguageModel, requests: Sequence[EditRequest], contexts: Contexts, settings: B, tick: Tick
    ) -> tuple[OptimizedValues, Tensor]:
        """The optimized values, and the target of `_current`, (requests, hidden) in float64.

        Behind a norm, the values are outputs of the MLP, and the target is the block's output that they give.
        """
        last = self._layers(settings)[-1]
        norm = output_norm(lm, last)
        site: Site = "mlp" if norm else "block"
        values = optimize_values(lm, requests, contexts, layer=last, site=site, settings=settings, tick=tick)
        if norm is None:
            return values, values.targets.double()
        added = norm.added(values.targets) - norm.added(values.initial)  # N(u + δ) − N(u), (requests, hidden)
        return values, self._current(lm, requests, settings).double() + added

    def _current(self, lm: LanguageModel, requests: Sequence[EditRequest], settings: B) -> Tensor:
        """h_L, the output of the last edited block at the lookup of each bare prompt, (requests, hidden)."""
        return self._output(lm, requests, lm.anatomy.blocks[self._layers(settings)[-1]], settings)

    def _output(self, lm: LanguageModel, requests: Sequence[EditRequest], module: str, settings: B) -> Tensor:
        """The output of a module at the lookup of each bare prompt, (requests, hidden)."""
        bare = [prompt_sequence(lm, request) for request in requests]
        states = lookup_states(lm, bare, outputs=[module], stop=module, token_budget=settings.token_budget)
        return states.outputs[module]

    def _norms(self, lm: LanguageModel, layers: Sequence[int]) -> dict[int, OutputNorm]:
        """The norms between the residual and the maps that are written, by layer."""
        found = {layer: output_norm(lm, layer) for layer in layers} if self.residual_of_stream else {}
        return {layer: norm for layer, norm in found.items() if norm is not None}

    def _parts(self, layers_left: int) -> float:
        """The divisor of the residual with this many layers left to write; equation 20."""
        return layers_left

    def _directions(self, lm: LanguageModel, layer: int, keys: Tensor, settings: B) -> Tensor:
        """D for keys K (inner, requests); (inner, requests) in float64."""
        raise NotImplementedError

    def _keys_of_solve(self, lm: LanguageModel, layer: int, keys: Tensor) -> Tensor:
        """Keys (inner, n) in the coordinates of the least squares."""
        return keys

    def _past_of(self, lm: LanguageModel, layer: int) -> PastKeys | None:
        """The keys of earlier steps, in these coordinates; None if there are none."""
        return self._past.get(lm, {}).get(layer)

    def _more_meta(self, lm: LanguageModel) -> dict[str, str]:
        """Additional meta data of the patch."""
        return {}

    def _grouped(self, sampled: tuple[str, ...]) -> Contexts:
        return Contexts((("",), sampled)) if sampled else BARE  # the bare prompt has half of the weight


class Memit(BatchEditor[MemitSettings]):
    """Many facts in one batch, spread over several layers."""

    name: ClassVar[str] = "memit"
    settings_kind = MemitSettings

    def _layers(self, settings: MemitSettings) -> tuple[int, ...]:
        return settings.layers

    def _directions(self, lm: LanguageModel, layer: int, keys: Tensor, settings: MemitSettings) -> Tensor:
        factor = self._covariance.factors(lm, settings.layers, settings)[layer]
        return least_squares_directions(factor, keys, settings.covariance_weight, self._past_of(lm, layer))


class MemitSeq(Memit):
    """MEMIT with the keys of earlier steps in its least squares, and the settings of MEMIT."""

    name: ClassVar[str] = "memit-seq"
    protects_earlier_steps: ClassVar[bool] = True
