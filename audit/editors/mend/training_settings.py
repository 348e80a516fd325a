"""Settings of the training of MEND's editing network."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from audit.editors.stages.editor_settings import (
    EditorSettings,
    Published,
    Shape,
    Shapes,
    require,
    require_not_negative,
    require_positive,
)

SETTINGS_NAME = "train-mend"

_LAST_THREE: Published = {
    Shapes.GPT2_XL: {"layers": (45, 46, 47)},
    Shapes.GPT_J: {"layers": (25, 26, 27)},
    Shapes.LLAMA_7B: {"layers": (29, 30, 31)},
    Shapes.LLAMA_3_8B: {"layers": (29, 30, 31)},
    Shapes.MISTRAL_7B: {"layers": (29, 30, 31)},
    Shapes.QWEN_2_7B: {"layers": (25, 26, 27)},
}

# Models up to this width train on a CPU within an hour with the settings below, which were found by measurement on
# SmolLM2-135M (docs/editors.md): Adam steps of 1e-3 and more are unstable there, and those of the paper, made for 1e5
# steps and more, hardly move the network in a thousand.
SMALL_WIDTH = 1024
_SMALL: Mapping[str, Any] = {
    "rank": 128,
    "first_rate": 5e-4,
    "edit_weight": 1.0,
    "neighbor_weight": 0.1,
    "network_step": 3e-4,
    "rate_step": 2e-5,
    "clip": 1.0,
    "batch_sizes": (1, 1, 1, 1, 10, 10, 10, 10, 30),
    "edits_a_pass": 10,
    "texts_a_pass": 4,
    "accumulate": 1,
    "text_tokens": 32,
    "text_places": 4,
    "validate_every": 100,
    "patience": 20,
}
# Gemma normalizes the output of an MLP, which is small before: a rate of 1e-4 makes as many single edits likely there
# (0.72) as 1e-3 on SmolLM2.
_SMALL_RATES: Published = {Shapes.GEMMA_3_270M: {"first_rate": 5e-5, "rate_step": 2e-6}}


@dataclass(frozen=True)
class MendTrainingSettings(EditorSettings):
    """Settings of the training; defaults as published for GPT-2 XL (appendix of the paper, and the authors' code), and
    as measured by this project for small models.

    `layers`: the blocks whose MLP maps are all edited. `rank`: of the residual layers. `first_rate`: initial value of
    the learned rates. `edit_weight` and `locality_weight`: c_edit and c_loc. `network_step` and `rate_step`: Adam's
    step sizes for the network and for the learned rates; both fall to zero over the last half of the steps (constant in
    the paper). `clip`: bound of the gradient norm. `batch_sizes`: numbers of edits in one update, one drawn per pass; a
    number that occurs twice is drawn twice as often. `edits_a_pass` and `texts_a_pass`: approximate numbers of edits
    and texts in a pass, in up to eight separate models. `accumulate`: passes per step. `text_tokens`: maximum length of
    a text. `text_places`: random tokens of a text at which the predictions are compared (0: all). `validate_every`:
    steps between validations. `patience`: number of validations without improvement after which training stops.

    `neighbor_weight` (0 in the paper): weight of the divergence at the answers of the edits' own neighborhood probes,
    as many of them in a pass as texts.
    """

    published: ClassVar[Published] = _LAST_THREE

    layers: tuple[int, ...] = (0,)
    rank: int = 1920
    first_rate: float = 1e-4
    edit_weight: float = 0.1
    locality_weight: float = 1.0
    neighbor_weight: float = 0.0
    network_step: float = 1e-6
    rate_step: float = 1e-4
    clip: float = 100.0
    batch_sizes: tuple[int, ...] = (1,)
    edits_a_pass: int = 1
    texts_a_pass: int = 1
    accumulate: int = 10
    text_tokens: int = 64
    text_places: int = 0
    validate_every: int = 500
    patience: int = 40

    @classmethod
    def for_depth(cls, model_type: str, depth: int) -> dict[str, Any]:
        return {"layers": tuple(range(max(0, depth - 3), depth))}

    @classmethod
    def for_shape(cls, shape: Shape) -> dict[str, Any]:
        small = _SMALL if shape.hidden_size <= SMALL_WIDTH else {}
        return {**super().for_shape(shape), **small, **_SMALL_RATES.get(shape, {})}

    def check(self, depth: int) -> None:
        inside = bool(self.layers) and all(0 <= layer < depth for layer in self.layers)
        require(inside and len(set(self.layers)) == len(self.layers), "layers", self.layers, "different layers that "
                f"exist, between 0 and {depth - 1}")  # fmt: skip
        counts = ("rank", "edits_a_pass", "texts_a_pass", "accumulate", "text_tokens", "validate_every", "patience")
        require(self.text_places >= 0, "text_places", self.text_places, "a whole number of at least 0")
        for name in counts:
            require(getattr(self, name) >= 1, name, getattr(self, name), "a whole number of at least 1")
        require_positive(self, "first_rate", "edit_weight", "network_step", "rate_step", "clip")
        require_not_negative(self, "locality_weight", "neighbor_weight")
        sizes = self.batch_sizes
        require(bool(sizes) and all(size >= 1 for size in sizes), "batch_sizes", sizes, "whole numbers of at least 1")
