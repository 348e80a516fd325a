"""FT-L: fine-tuning under a bound on every entry (Zhu et al. 2020, arXiv 2012.00363; as ROME compares with it).

After each update every entry of the matrix is clamped to [W₀ − ε, W₀ + ε], where W₀ is the weight as it is when the
edit starts: in a sequence of edits each step may move it by ε again.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from math import isfinite
from types import MappingProxyType
from typing import Any, ClassVar

from audit.editors.stages.editor_settings import GPT2_LARGE, GPT2_MEDIUM, GPT2_XL, GPT_J, MISTRAL_7B, Shape, require
from audit.editors.stages.fine_tuning import (
    GradientEditor,
    TargetBatch,
    TargetRow,
    TuningSettings,
    descend,
    target_row,
    trained,
)
from audit.edits.requests import EditRequest
from audit.models.language_model import LanguageModel
from audit.models.patches import Patch, WeightPatch

_PUBLISHED: dict[Shape, dict[str, Any]] = {  # kmeng01/rome hparams/FT/*_constr.json; Mistral: EasyEdit hparams/FT
    GPT2_MEDIUM: {"layers": (0,), "epsilon": 2e-3},
    GPT2_LARGE: {"layers": (0,), "epsilon": 1e-3},
    GPT2_XL: {"layers": (0,), "epsilon": 5e-4},
    GPT_J: {"layers": (0,), "epsilon": 5e-5},
    MISTRAL_7B: {"layers": (21,), "epsilon": 5e-5},
}


@dataclass(frozen=True)
class NormConstrainedSettings(TuningSettings):
    """`epsilon` is how far an entry may move (in the weight's own units).

    `objective` says what is learnt: "target" every target token after those before it; "prompt_last" what the
    published code does, which scores all target tokens at the last token of the prompt, as if each came first: for
    targets of several tokens that is another and mistaken aim, kept to reproduce published numbers.
    """

    published: ClassVar[Mapping[Shape, Mapping[str, Any]]] = MappingProxyType(_PUBLISHED)

    epsilon: float = 5e-4
    objective: str = "target"

    def check(self, depth: int) -> None:
        super().check(depth)
        require(isfinite(self.epsilon) and self.epsilon > 0, "epsilon", self.epsilon, "a number above 0")
        require(self.objective in ("target", "prompt_last"), "objective", self.objective, "target or prompt_last")


class NormConstrained(GradientEditor[NormConstrainedSettings]):
    """Many facts at once, with no weight moved by more than ε."""

    name: ClassVar[str] = "ft-l"
    settings_kind = NormConstrainedSettings

    def _edit(
        self,
        lm: LanguageModel,
        requests: Sequence[EditRequest],
        settings: NormConstrainedSettings,
        tick: Callable[[float], None],
    ) -> Patch:
        rows = [target_row(lm, request) for request in requests]
        if settings.objective == "prompt_last":
            rows = [all_at_prompt_last(row) for row in rows]
        names = [lm.anatomy.weight_name(layer) for layer in settings.layers]
        with trained(lm, names, settings.learning_rate) as weights:
            batch = TargetBatch(lm, rows, settings.layers[0], settings.token_budget)
            step = partial(weights.step, radius=settings.epsilon)
            outcome = descend(batch, weights.parameters, step, settings, tick)
            deltas = weights.deltas(radius=settings.epsilon)
        meta = self._meta(settings, requests, loss=f"{outcome.loss:.4g}", updates=str(outcome.updates))
        return WeightPatch(deltas, meta=meta)


def all_at_prompt_last(row: TargetRow) -> TargetRow:
    """The prompt alone, with every label to be predicted at its last token."""
    last = row.places[0]
    return TargetRow(row.ids[: last + 1], (last,) * len(row.labels), row.labels)
