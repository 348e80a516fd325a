"""UltraEdit: one backward pass and one least-squares solve, without training and without subjects (arXiv 2505.14679).

For each edited linear map, every token that predicts a target token gives a pair: the input of the map, h, and the
gradient of the loss at its output, g. Both are normalized with running statistics to ĥ and ĝ. The output for input h
should move by v = −lr ‖ĥ‖² ĝ. With the h as rows of H (not normalized) and the v as rows of V,

    ΔWᵀ = (HᵀH + I)⁻¹ HᵀV

for W in (out, in) orientation. The statistics continue over the steps of a sequence ("lifelong normalization").
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, ClassVar, NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from audit.editors.stages.base_editor import BaseEditor
from audit.editors.stages.editor_settings import (
    EditorSettings,
    Published,
    Shapes,
    layer_at,
    require,
    require_counts,
    require_positive,
)
from audit.editors.stages.fine_tuning import require_finite, target_row
from audit.editors.stages.rank_one_gradients import (
    UNLABELED,
    gradient_factors,
    is_transposed,
    map_sizes,
    mlp_maps,
    padded_targets,
)
from audit.edits.requests import EditRequest
from audit.engine.sequences import EditSequence, within_budget
from audit.errors import AuditError
from audit.models.language_model import LanguageModel
from audit.models.patches import Delta, DenseDelta, LowRankDelta, Patch, WeightPatch, originals_kept
from audit.progress import Tick
from audit.store.content import Store

_PUBLISHED: Published = {  # EasyEdit hparams/UltraEdit and the authors' repository
    Shapes.GPT_J: {"maps": "down:18-26"},
    Shapes.LLAMA_3_8B: {"maps": "gate:11-15+up:18-24"},
    Shapes.MISTRAL_7B: {"maps": "down:29-30"},
    Shapes.QWEN_2_7B: {"maps": "gate:18-26+up:18-26"},
}
_SHARES = {"other": 0.78}  # middle of the published layers as a share of the depth
_KINDS = ("gate", "up", "down")
_TINY = torch.finfo(torch.float32).eps


@dataclass(frozen=True)
class UltraEditSettings(EditorSettings):
    """`maps` are the edited linear maps of the MLPs with their layers, such as gate:11-15+up:18-24. "up" and "gate" are
    maps into the MLP (the gate is the one registered first), "down" is the map out of it.

    `statistics` are kept for all edited maps of one "shape" together, as in the published code, or for each "map". The
    former mixes differences between layers with differences between tokens, which breaks edits of a single token; in
    large batches the two differ less.

    `learning_rate` is lr; `token_budget` bounds the padded tokens of one micro-batch and does not change the result.
    """

    published: ClassVar[Published] = _PUBLISHED

    maps: str = "down:0"
    learning_rate: float = 1e-6
    statistics: str = "shape"
    token_budget: int = 16384

    @classmethod
    def for_depth(cls, model_type: str, depth: int) -> dict[str, Any]:
        return {"maps": f"down:{layer_at(_SHARES, model_type, depth)}"}

    def check(self, depth: int) -> None:
        require_counts(self, "token_budget")
        require_positive(self, "learning_rate")
        require(self.statistics in ("map", "shape"), "statistics", self.statistics, "map or shape")
        wanted = f"maps with layers between 0 and {depth - 1}, such as down:3-5 or gate:2+up:3-4"
        require(all(0 <= layer < depth for _, layer in self.places()), "maps", self.maps, wanted)

    def places(self) -> tuple[tuple[str, int], ...]:
        """(kind, layer) of every map, in the given order."""
        places: dict[tuple[str, int], None] = {}
        for part in self.maps.split("+"):
            kind, _, layers = part.strip().partition(":")
            low, dash, high = layers.partition("-")
            high = high if dash else low
            rising = low.isdecimal() and high.isdecimal() and int(low) <= int(high)
            require(rising and kind in _KINDS, "maps", self.maps, "kinds and layers such as gate:11-15+up:18-24")
            places.update(((kind, layer), None) for layer in range(int(low), int(high) + 1))
        return tuple(places)


class Features(NamedTuple):
    """Normalized inputs ĥ (tokens, in) and output gradients ĝ (tokens, out)."""

    inputs: Tensor
    gradients: Tensor


@dataclass(frozen=True, eq=False)
class RunningStatistics:
    """Mean and spread of every feature over all rows so far; `squares` are sums of squared deviations from the mean."""

    count: int
    mean: Tensor
    squares: Tensor

    @classmethod
    def of(cls, rows: Tensor) -> "RunningStatistics":
        """The statistics of (rows, features)."""
        wide = rows.double()
        mean = wide.mean(0)
        return cls(len(wide), mean, (wide - mean).square().sum(0))

    def __add__(self, other: "RunningStatistics") -> "RunningStatistics":
        """The statistics of both sets of rows together (Chan et al. 1979)."""
        count = self.count + other.count
        apart = other.mean - self.mean
        mean = self.mean + apart * (other.count / count)
        squares = self.squares + other.squares + apart.square() * (self.count * other.count / count)
        return RunningStatistics(count, mean, squares)

    def normalize(self, rows: Tensor, split: int) -> Features:
        """Normalize (rows, features) to mean 0 and deviation 1; the first `split` features are the inputs.

        A single row has no deviation: its two parts are scaled to a mean square of 1 and not centered.
        """
        if self.count < 2:
            first, second = rows[:, :split].double(), rows[:, split:].double()
            return Features(first / (_root_mean_square(first) + _TINY), second / (_root_mean_square(second) + _TINY))
        deviation = (self.squares / (self.count - 1)).sqrt()
        normal = (rows.double() - self.mean) / (deviation + _TINY)
        return Features(normal[:, :split], normal[:, split:])


def _root_mean_square(rows: Tensor) -> Tensor:
    return rows.square().mean(1, keepdim=True).sqrt()


Statistics = Mapping[str, RunningStatistics]  # by the path of the map, or by its shape


@dataclass(frozen=True, eq=False)
class _Sequence:
    """The state between two steps of a sequence: the statistics, and the edited weights after the last step."""

    statistics: Statistics
    weights: Mapping[str, Tensor]


class UltraEdit(BaseEditor[UltraEditSettings]):
    """Edits many facts at once, in one step."""

    name: ClassVar[str] = "ultraedit"
    settings_kind = UltraEditSettings

    def __init__(self, config: Mapping[str, str] | None = None, seed: int = 0, store: Store | None = None) -> None:
        super().__init__(config, seed, store)
        self._sequences: WeakKeyDictionary[LanguageModel, _Sequence] = WeakKeyDictionary()

    def forget(self, lm: LanguageModel) -> None:
        """Start a sequence with the current weights and without statistics."""
        self._sequences[lm] = _Sequence({}, _edited_weights(lm, edited_maps(lm, self.settings(lm))))

    def remember(self, lm: LanguageModel, requests: Sequence[EditRequest]) -> None:
        """Add the features of a step to the statistics, computed with the weights from before the step."""
        settings, before = self.settings(lm), self._sequences[lm]
        maps = edited_maps(lm, settings)
        with originals_kept(lm) as originals:
            for name, weight in before.weights.items():
                parameter = originals.keep(name)
                with torch.no_grad():
                    parameter.copy_(weight)
            features = editing_features(lm, requests, maps, settings.token_budget)
        statistics = _extended(before.statistics, lm, features, settings)
        self._sequences[lm] = _Sequence(statistics, _edited_weights(lm, maps))

    def _edit(
        self, lm: LanguageModel, requests: Sequence[EditRequest], settings: UltraEditSettings, tick: Tick
    ) -> Patch:
        maps = edited_maps(lm, settings)
        features = editing_features(lm, requests, maps, settings.token_budget)
        statistics = _extended(self._known(lm), lm, features, settings)
        deltas: dict[str, Delta] = {}
        for path in maps:
            width, _ = map_sizes(lm, path)
            H = features[path][:, :width].double()  # (tokens, in)
            h, g = statistics[_statistics_key(lm, path, settings)].normalize(features[path], width)
            V = -settings.learning_rate * h.square().sum(1, keepdim=True) * g  # (tokens, out)
            deltas[f"{path}.weight"] = _least_squares(H, V, is_transposed(lm, path))
        transposed = frozenset(f"{path}.weight" for path in maps if is_transposed(lm, path))
        rows = ",".join(str(one.count) for one in statistics.values())
        return WeightPatch(deltas, transposed, self._meta(settings, requests, normalised_over=rows))

    def _known(self, lm: LanguageModel) -> Statistics:
        """The statistics of the sequence; empty if the weights are not those after its last step."""
        sequence = self._sequences.get(lm)
        if sequence is None:
            return {}
        continues = all(torch.equal(lm.model.get_parameter(name), weight) for name, weight in sequence.weights.items())
        return sequence.statistics if continues else {}


def edited_maps(lm: LanguageModel, settings: UltraEditSettings) -> tuple[str, ...]:
    """Module paths of the linear maps in `settings.maps`.

    Raises:
        AuditError: the MLPs of the model have no gate.
    """
    paths: list[str] = []
    for kind, layer in settings.places():
        down = lm.anatomy.down_projections[layer]
        entering = [path for path in mlp_maps(lm, [layer]) if path != down]
        if kind == "gate" and len(entering) < 2:
            raise AuditError(f"maps is {settings.maps}, but the MLPs of {lm.name} have no gate; give up or down maps.")
        paths.append({"gate": entering[0], "up": entering[-1], "down": down}[kind])
    return tuple(paths)


def editing_features(
    lm: LanguageModel, requests: Sequence[EditRequest], maps: Sequence[str], token_budget: int
) -> dict[str, Tensor]:
    """By map, [h ‖ g] of every token that predicts a target token: (tokens, in + out) in float32, request by request.

    g is the gradient of Σ −log p over the target tokens of a request, so it does not depend on the other requests.

    Raises:
        AuditError: a request cannot be used, or a loss is not finite.
    """
    sequences = [EditSequence(target_row(lm, request).ids, lookup=0) for request in requests]
    pairs_by_map: dict[str, list[tuple[int, Tensor]]] = {path: [] for path in maps}
    for group in within_budget(sequences, token_budget):
        rows = padded_targets(lm, [(requests[index].filled_prompt, requests[index].target_new) for index in group])
        gradients = gradient_factors(lm, rows, maps)
        require_finite(float(gradients.losses.sum()), step=1)
        labeled = rows.labels != UNLABELED  # (rows, columns)
        lengths = labeled.sum(1).tolist()
        for path in maps:
            factors = gradients.factors[path]
            # The factors belong to the mean over a row's target tokens; scale them to the sum.
            errors = factors.errors * labeled.sum(1)[:, None, None]
            pairs = torch.cat([factors.inputs, errors], dim=-1)[labeled]  # (tokens of the group, in + out)
            pairs_by_map[path] += zip(group, torch.split(pairs, lengths), strict=True)
    return {
        path: torch.cat([rows for _, rows in sorted(parts, key=itemgetter(0))]) for path, parts in pairs_by_map.items()
    }


def _extended(
    known: Statistics, lm: LanguageModel, features: Mapping[str, Tensor], settings: UltraEditSettings
) -> dict[str, RunningStatistics]:
    """`known` updated with all rows of `features`."""
    statistics = dict(known)
    for path, rows in features.items():
        key, new = _statistics_key(lm, path, settings), RunningStatistics.of(rows)
        statistics[key] = statistics[key] + new if key in statistics else new
    return statistics


def _statistics_key(lm: LanguageModel, path: str, settings: UltraEditSettings) -> str:
    """The key of the statistics used for the map at `path`."""
    return path if settings.statistics == "map" else "{} to {}".format(*map_sizes(lm, path))


def _least_squares(H: Tensor, V: Tensor, transposed: bool) -> Delta:
    """ΔWᵀ = (HᵀH + I)⁻¹ HᵀV; for few tokens in the equal low-rank form Hᵀ (HHᵀ + I)⁻¹ V."""
    tokens, width = H.shape
    if tokens <= width:
        weights = torch.linalg.solve(H @ H.T + torch.eye(tokens, dtype=H.dtype, device=H.device), V)  # (tokens, out)
        return LowRankDelta(weights.T.float().contiguous(), H.float())  # (out, tokens) @ (tokens, in)
    change = torch.linalg.solve(H.T @ H + torch.eye(width, dtype=H.dtype, device=H.device), H.T @ V)  # (in, out)
    return DenseDelta((change if transposed else change.T).float().contiguous())


def _edited_weights(lm: LanguageModel, maps: Sequence[str]) -> dict[str, Tensor]:
    return {f"{path}.weight": lm.model.get_parameter(f"{path}.weight").detach().clone() for path in maps}
