"""LoRA: low-rank adapters trained on the target tokens, then merged (Hu et al. 2022, arXiv 2106.09685).

The peft library replaces every chosen linear map by W + (α/r)·B·A; Adam trains A and B in float32. The patch contains
the weight change (α/r)·B·A as its factors: the adapters are removed, and the model gets its own modules back. This is
plain LoRA. The rank schedule of AdaLoRA needs more training steps than an edit has.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from audit.editors.stages.base_editor import BaseEditor
from audit.editors.stages.editor_settings import Published, Shapes, require, require_counts
from audit.editors.stages.fine_tuning import TargetBatch, TuningSettings, descend, target_row
from audit.editors.stages.rank_one_gradients import linear_maps
from audit.edits.requests import EditRequest
from audit.errors import AuditError
from audit.models.language_model import LanguageModel
from audit.models.patches import LowRankDelta, Patch, WeightPatch
from audit.progress import Tick

_ADAPTER = "edit"  # peft's name of the adapters
_PUBLISHED: Published = {  # EasyEdit hparams/LoRA; trained in all layers
    Shapes.GPT2_XL: {"layers": tuple(range(48)), "steps": 30, "projections": "c_attn"},
    Shapes.GPT_J: {"layers": tuple(range(28)), "steps": 50, "projections": "fc_in,fc_out"},
    Shapes.LLAMA_7B: {"layers": tuple(range(32)), "steps": 70, "projections": "q_proj,v_proj"},
    Shapes.LLAMA_3_8B: {"layers": tuple(range(32)), "steps": 70, "projections": "q_proj,v_proj"},
    Shapes.QWEN_2_7B: {"layers": tuple(range(28)), "steps": 60, "projections": "q_proj,v_proj"},
}


@dataclass(frozen=True)
class LoraSettings(TuningSettings):
    """`projections` are the linear maps with adapters in the blocks `layers`: those of the "attention", of the "mlp",
    or those with the given names, such as "q_proj,v_proj".

    `rank` is r and `alpha` is α; `dropout` is the share of an adapter's inputs dropped in training.
    """

    published: ClassVar[Published] = _PUBLISHED

    steps: int = 70
    learning_rate: float = 5e-3
    projections: str = "attention"
    rank: int = 8
    alpha: int = 32
    dropout: float = 0.1

    @classmethod
    def for_depth(cls, model_type: str, depth: int) -> dict[str, Any]:
        return {"layers": tuple(range(depth))}

    def check(self, depth: int) -> None:
        super().check(depth)
        require_counts(self, "rank", "alpha")
        require(0 <= self.dropout < 1, "dropout", self.dropout, "a number from 0 to below 1")


class Lora(BaseEditor[LoraSettings]):
    """Edits many facts at once by low-rank changes of many matrices."""

    name: ClassVar[str] = "lora"
    settings_kind = LoraSettings

    def _edit(self, lm: LanguageModel, requests: Sequence[EditRequest], settings: LoraSettings, tick: Tick) -> Patch:
        rows = [target_row(lm, request) for request in requests]
        maps = projections(lm, settings)
        with _local_seed(self._seed, lm), adapters_on(lm, maps, settings) as adapters:
            factors = [factor for adapter in adapters.values() for factor in (adapter.A, adapter.B)]
            adam = torch.optim.Adam(factors, lr=settings.learning_rate)

            def step(gradients: Sequence[Tensor]) -> None:
                for factor, gradient in zip(factors, gradients, strict=True):
                    factor.grad = gradient
                adam.step()

            batch = TargetBatch(lm, rows, settings.layers[0], settings.token_budget)
            outcome = descend(batch, factors, step, settings, tick)
            deltas = {f"{path}.weight": adapter.delta() for path, adapter in adapters.items()}
        transposed = frozenset(f"{path}.weight" for path, module in maps.items() if isinstance(module, Conv1D))
        meta = self._meta(settings, requests, loss=f"{outcome.loss:.4g}", updates=str(outcome.updates))
        return WeightPatch(deltas, transposed, meta)


def projections(lm: LanguageModel, settings: LoraSettings) -> dict[str, nn.Module]:
    """The linear maps that get adapters, by path.

    Raises:
        AuditError: no map of the layers has a given name.
    """
    parts: dict[str, Sequence[str]] = {
        "attention": linear_maps(lm, settings.layers, "attention"),
        "mlp": linear_maps(lm, settings.layers, "mlp"),
    }
    names = [name.strip() for name in settings.projections.split(",")]
    everything = [path for paths in parts.values() for path in paths]
    chosen = parts.get(settings.projections) or [path for path in everything if path.rpartition(".")[2] in names]
    if not chosen:
        there = ", ".join(sorted({path.rpartition(".")[2] for path in everything}))
        raise AuditError(
            f"lora's projections are {settings.projections!r}, but this model's linear maps are called {there}; give "
            "attention, mlp, or some of these names."
        )
    return {path: lm.model.get_submodule(path) for path in chosen}


@dataclass(frozen=True, eq=False)
class Adapter:
    """A (rank, in) and B (out, rank) in float32, on the devices of the model; the weight changes by scaling · B·A."""

    A: nn.Parameter
    B: nn.Parameter
    scaling: float

    def delta(self) -> LowRankDelta:
        return LowRankDelta(self.scaling * self.B.detach(), self.A.detach().clone())


@contextmanager
def adapters_on(
    lm: LanguageModel, maps: Mapping[str, nn.Module], settings: LoraSettings
) -> Iterator[dict[str, Adapter]]:
    """Put adapters on the linear maps `maps` inside the context, yielded by path; on exit the modules are restored.

    Raises:
        AuditError: peft is not installed.
    """
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError as error:
        raise AuditError(f"the editor lora needs the library peft ({error}); run pip install peft.") from None

    # peft replaces modules in their parents, sets attributes of the model, and freezes all other parameters.
    attributes = set(vars(lm.model))
    wanted = [(parameter, parameter.requires_grad) for parameter in lm.model.parameters()]
    config = LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules=list(maps),
        fan_in_fan_out=any(isinstance(module, Conv1D) for module in maps.values()),
    )
    try:
        inject_adapter_in_model(config, lm.model, adapter_name=_ADAPTER)
        adapters: dict[str, Adapter] = {}
        for path in maps:
            wrapper: Any = lm.model.get_submodule(path)
            A, B = wrapper.lora_A[_ADAPTER].float().weight, wrapper.lora_B[_ADAPTER].float().weight
            adapters[path] = Adapter(A, B, float(wrapper.scaling[_ADAPTER]))
        yield adapters
    finally:
        for path, module in maps.items():
            parent, _, name = path.rpartition(".")
            setattr(lm.model.get_submodule(parent), name, module)
        for name in set(vars(lm.model)) - attributes:
            delattr(lm.model, name)
        for parameter, before in wanted:
            parameter.requires_grad_(before)


@contextmanager
def _local_seed(seed: int, lm: LanguageModel) -> Iterator[None]:
    """Seed the global generators, which draw A and the dropout masks, and restore their state on exit."""
    devices = {parameter.device for parameter in lm.model.parameters() if parameter.device.type == "cuda"}
    with torch.random.fork_rng(devices=list(devices)):
        torch.manual_seed(seed)
        yield
