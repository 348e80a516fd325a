"""FT-L: fine-tuning with a bound on the change of every entry (Zhu et al. 2020, arXiv 2012.00363; a baseline of ROME).

After each update every entry of the matrix is clamped to [W₀ − ε, W₀ + ε]. W₀ is the weight at the start of the edit,
so each step of a sequence of edits may move it by ε again.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from audit.editors.stages.base_editor import BaseEditor
from audit.editors.stages.editor_settings import Published, Shapes, require, require_positive
from audit.editors.stages.fine_tuning import TargetRow, TuningSettings, target_row, tune_down_projections
from audit.edits.requests import EditRequest
from audit.models.language_model import LanguageModel
from audit.models.patches import Patch, WeightPatch
from audit.progress import Tick

_PUBLISHED: Published = {  # kmeng01/rome hparams/FT/*_constr.json; Mistral: EasyEdit hparams/FT
    Shapes.GPT2_MEDIUM: {"layers": (0,), "epsilon": 2e-3},
    Shapes.GPT2_LARGE: {"layers": (0,), "epsilon": 1e-3},
    Shapes.GPT2_XL: {"layers": (0,), "epsilon": 5e-4},
    Shapes.GPT_J: {"layers": (0,), "epsilon": 5e-5},
    Shapes.MISTRAL_7B: {"layers": (21,), "epsilon": 5e-5},
}


@dataclass(frozen=True)
class NormConstrainedSettings(TuningSettings):
    """`epsilon` is the largest change of an entry, in the units of the weight.

    `objective` "prompt_last" is that of the published code: all target tokens are scored at the last token of the
    prompt, which is wrong for targets of several tokens. "target" trains every target token after the earlier ones.
    """

    published: ClassVar[Published] = _PUBLISHED

    epsilon: float = 5e-4
    objective: str = "prompt_last"

    def check(self, depth: int) -> None:
        super().check(depth)
        require_positive(self, "epsilon")
        require(self.objective in ("target", "prompt_last"), "objective", self.objective, "target or prompt_last")


class NormConstrained(BaseEditor[NormConstrainedSettings]):
    """Edits many facts at once; no weight moves by more than ε."""

    name: ClassVar[str] = "ft-l"
    settings_kind = NormConstrainedSettings

    def _edit(
        self, lm: LanguageModel, requests: Sequence[EditRequest], settings: NormConstrainedSettings, tick: Tick
    ) -> Patch:
        rows = [target_row(lm, request) for request in requests]
        if settings.objective == "prompt_last":
            rows = [all_at_prompt_last(row) for row in rows]
        tuned = tune_down_projections(lm, rows, settings, tick, radius=settings.epsilon)
        end = tuned.descent
        meta = self._meta(settings, requests, loss=f"{end.loss:.4g}", updates=str(end.updates))
        return WeightPatch(tuned.deltas, meta=meta)


def all_at_prompt_last(row: TargetRow) -> TargetRow:
    """The prompt alone, with all labels at its last token."""
    last = row.places[0]
    return TargetRow(row.ids[: last + 1], (last,) * len(row.labels), row.labels)
