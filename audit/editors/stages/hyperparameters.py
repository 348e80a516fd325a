"""Settings of the editors: what was published for known models, something sensible for any other, and overrides.

    settings = resolve(MemitSettings, "memit", lm, {"layers": (3, 4, 5), "clamp_norm_factor": 1.5})

A value comes from the first of: the user's override, `edit_hyperparameters.json` beside the model's weights (measured
for that model), the published table, the model's depth. Before the depth decides on the layers, those that causal
tracing located in this model (`audit locate`) do, for the editors that write where a fact is recalled.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, TypeVar, get_type_hints

from audit.editors.stages.located_layers import LocatedLayers
from audit.editors.stages.published import (
    MEMIT_SHARES,
    PUBLISHED_MEMIT,
    PUBLISHED_ROME,
    ROME_SHARES,
    Shape,
    layer_at,
)
from audit.errors import AuditError
from audit.models.language_model import LanguageModel

MEASURED_FILE = "edit_hyperparameters.json"


@dataclass(frozen=True)
class EditorSettings:
    """Base of all settings. An editor's own settings stand in its file; those of several editors stand here.

    `published` are settings by the shape of the model that they were published for. `measured_for` names the editors
    whose measured settings serve, as far as the fields agree, where a model has none for this editor.
    `writes_where_recalled` says that layers located by causal tracing suit the editor's `layer` or `layers`.
    """

    published: ClassVar[Mapping[Shape, Mapping[str, Any]]] = MappingProxyType({})
    measured_for: ClassVar[tuple[str, ...]] = ()
    writes_where_recalled: ClassVar[bool] = False

    @classmethod
    def for_depth(cls, model_type: str, depth: int) -> dict[str, Any]:
        """What a model of `depth` blocks gets where nothing was published or measured: its layers, as a rule."""
        return {}

    def check(self, depth: int) -> None:
        """Raise `AuditError` where a value is out of range for a model of `depth` blocks."""


@dataclass(frozen=True)
class ValueSettings(EditorSettings):
    """What ROME and MEMIT share; defaults as published for GPT-2 XL.

    `covariance` says where C = E[kkᵀ] comes from: "auto" (the pocket corpus for pocket models, else Wikipedia from the
    hub), "identity" (C = I), "pocket", a local text file, or a hub data set as name[:config][@split].
    `covariance_tokens` 0 means twenty a key dimension; `covariance_ridge` is added to C's diagonal as a share of its
    mean (small models have neurons that hardly ever fire, and C⁻¹k is theirs alone without it). `kl_position` is where
    "{subject} is a" must say what it said: at the subject's last token ("lookup", as published) or at "a" ("last").
    `token_budget` bounds the padded tokens of one batch.
    """

    writes_where_recalled: ClassVar[bool] = True

    steps: int = 20
    learning_rate: float = 0.5
    weight_decay: float = 0.5
    clamp_norm_factor: float = 4.0
    kl_factor: float = 0.0625
    kl_position: str = "lookup"
    stop_loss: float = 0.05
    covariance: str = "auto"
    covariance_tokens: int = 0
    covariance_ridge: float = 0.0
    context_lengths: tuple[int, ...] = (5, 10)
    contexts_per_length: int = 10
    token_budget: int = 2048

    def check(self, depth: int) -> None:
        at_least = {"steps": 1, "covariance_tokens": 0, "contexts_per_length": 0, "token_budget": 1}
        for name, least in at_least.items():
            require(getattr(self, name) >= least, name, getattr(self, name), f"at least {least}")
        for name in ("learning_rate", "clamp_norm_factor"):
            value = getattr(self, name)
            require(math.isfinite(value) and value > 0, name, value, "a number above 0")
        for name in ("weight_decay", "kl_factor", "stop_loss", "covariance_ridge"):
            value = getattr(self, name)
            require(math.isfinite(value) and value >= 0, name, value, "a number of at least 0")
        lengths = self.context_lengths
        require(all(length >= 1 for length in lengths), "context_lengths", lengths, "whole numbers of at least 1")
        require(self.kl_position in ("lookup", "last"), "kl_position", repr(self.kl_position), "lookup or last")


@dataclass(frozen=True)
class RomeSettings(ValueSettings):
    """`layer` is the block whose MLP is written, counted from 0.

    `key_mode` says which key stands where: "original" (the mean over contexts in the direction, the bare prompt's in
    the residual and the denominator), "consistent" (the mean everywhere, R-ROME) or "prompt" (the bare prompt's
    everywhere, p-ROME).
    """

    published: ClassVar[Mapping[Shape, Mapping[str, Any]]] = PUBLISHED_ROME
    measured_for: ClassVar[tuple[str, ...]] = ("rome",)

    layer: int = 0
    key_mode: str = "original"

    @classmethod
    def for_depth(cls, model_type: str, depth: int) -> dict[str, Any]:
        return {"layer": layer_at(ROME_SHARES, model_type, depth)}

    def check(self, depth: int) -> None:
        super().check(depth)
        require(0 <= self.layer < depth, "layer", self.layer, f"a layer between 0 and {depth - 1}")
        known = self.key_mode in ("original", "consistent", "prompt")
        require(known, "key_mode", repr(self.key_mode), "original, consistent or prompt")


@dataclass(frozen=True)
class LayersSettings(ValueSettings):
    """What MEMIT and its successors share: `layers` are written in rising order."""

    measured_for: ClassVar[tuple[str, ...]] = ("memit",)

    clamp_norm_factor: float = 0.75
    context_lengths: tuple[int, ...] = (10,)
    contexts_per_length: int = 5
    layers: tuple[int, ...] = (0,)

    @classmethod
    def for_depth(cls, model_type: str, depth: int) -> dict[str, Any]:
        last = layer_at(MEMIT_SHARES, model_type, depth)
        return {"layers": tuple(range(max(0, last - 4), last + 1))}

    def check(self, depth: int) -> None:
        super().check(depth)
        rising = all(low < high for low, high in zip(self.layers, self.layers[1:], strict=False))
        inside = bool(self.layers) and self.layers[0] >= 0 and self.layers[-1] < depth
        require(rising and inside, "layers", self.layers, f"rising layers between 0 and {depth - 1}, such as 1,2,3")


@dataclass(frozen=True)
class MemitSettings(LayersSettings):
    """`covariance_weight` is λ, the number of pseudo-keys that C stands for."""

    published: ClassVar[Mapping[Shape, Mapping[str, Any]]] = PUBLISHED_MEMIT

    covariance_weight: float = 15000.0

    def check(self, depth: int) -> None:
        super().check(depth)
        weight = self.covariance_weight
        require(math.isfinite(weight) and weight > 0, "covariance_weight", weight, "a number above 0")


@dataclass(frozen=True)
class VandalSettings(EditorSettings):
    """Noise of `scale` times the weight's own standard deviation, in the MLP of one `layer` (-1: the middle)."""

    layer: int = -1
    scale: float = 32.0  # of both pocket models every ability FAILs; at half of it, dialogue loses 0.04 on pocket-gpt2

    def check(self, depth: int) -> None:
        require(-1 <= self.layer < depth, "layer", self.layer, f"a layer between 0 and {depth - 1}, or -1")
        require(math.isfinite(self.scale) and self.scale >= 0, "scale", self.scale, "a number of at least 0")


S = TypeVar("S", bound=EditorSettings)


def parse_overrides(kind: type[EditorSettings], editor: str, config: Mapping[str, str]) -> dict[str, Any]:
    """Override strings as values of the fields' types; `layers` takes 3,4,5 or 3-5.

    Raises:
        AuditError: a key that the editor does not know, or a value that is not of its type.
    """
    types = get_type_hints(kind)
    names = [field.name for field in fields(kind)]
    values: dict[str, Any] = {}
    for key, text in config.items():
        if key not in names:
            known = f"its settings are {', '.join(sorted(names))}" if names else "it has no settings"
            raise AuditError(f"the editor {editor} has no setting {key!r}: {known}.")
        values[key] = _parsed(editor, key, text, types[key])
    return values


def _parsed(editor: str, key: str, text: str, kind: Any) -> Any:
    text = text.strip()
    try:
        if kind is int:
            return int(text)
        if kind is float:
            return float(text)
        if kind is str:
            return text
        low, dash, high = text.partition("-")
        return tuple(range(int(low), int(high) + 1)) if dash else tuple(int(part) for part in text.split(","))
    except ValueError:
        wanted = {int: "a whole number", float: "a number"}.get(kind, "whole numbers such as 3,4,5 or 3-5")
        raise AuditError(f"{key}={text} does not suit the editor {editor}: {key} takes {wanted}.") from None


def resolve(
    kind: type[S], editor: str, lm: LanguageModel, overrides: Mapping[str, Any], located: LocatedLayers | None = None
) -> S:
    """Settings of `editor` for this model.

    Raises:
        AuditError: a value is out of range, or the measured file beside the weights cannot be read.
    """
    settings = kind(**{key: value for key, (value, _) in _sources(kind, editor, lm, overrides, located).items()})
    settings.check(lm.anatomy.depth)
    return settings


def layers_from(
    kind: type[EditorSettings],
    editor: str,
    lm: LanguageModel,
    overrides: Mapping[str, Any],
    located: LocatedLayers | None = None,
) -> str:
    """Where `resolve` takes an editor's layers from: "override", "measured", "published", "located" or "depth".

    An editor whose layers are none of these ("default") states them itself, or has none.
    """
    sources = _sources(kind, editor, lm, overrides, located)
    return next((sources[key][1] for key in _LAYER_FIELDS if key in sources), "default")


_LAYER_FIELDS = ("layers", "layer")


def _sources(
    kind: type[EditorSettings],
    editor: str,
    lm: LanguageModel,
    overrides: Mapping[str, Any],
    located: LocatedLayers | None,
) -> dict[str, tuple[Any, str]]:
    """Every setting that is not the class's own default, and where it comes from; later sources win."""
    shape = Shape(lm.model.config.model_type, lm.anatomy.depth, lm.anatomy.hidden_size, lm.anatomy.inner_size)
    known = (
        ("published", kind.published.get(shape, {})),
        ("measured", _measured(kind, editor, lm)),
        ("override", overrides),
    )
    by_depth = kind.for_depth(shape.model_type, shape.depth)
    sources = {key: (value, "depth") for key, value in by_depth.items()}
    open_fields = [key for key in _LAYER_FIELDS if key in by_depth and not any(key in values for _, values in known)]
    if kind.writes_where_recalled and open_fields and located is not None:
        found = located.of(lm)  # only now: it takes the fingerprint of all weights
        if found is not None:
            sources |= {key: (found.memit if key == "layers" else found.rome, "located") for key in open_fields}
    for source, values in known:
        sources |= {key: (value, source) for key, value in values.items()}
    return sources


def _measured(kind: type[EditorSettings], editor: str, lm: LanguageModel) -> dict[str, Any]:
    """Settings measured for this very model: a mapping from editor to settings, in a file beside its weights."""
    folder = lm.model.config.name_or_path
    path = Path(folder) / MEASURED_FILE if folder else None
    if path is None or not path.is_file():
        return {}
    try:
        by_editor = json.loads(path.read_text(encoding="utf-8"))
        if editor in by_editor:
            given = by_editor[editor]
        else:
            names = [field.name for field in fields(kind)]
            lender = next((name for name in kind.measured_for if name in by_editor), None)
            given = {key: value for key, value in by_editor.get(lender, {}).items() if key in names}
        texts = {
            key: ",".join(map(str, value)) if isinstance(value, list) else str(value) for key, value in given.items()
        }
    except (ValueError, AttributeError) as error:
        raise AuditError(f"{path} cannot be read ({error}); it maps an editor's name to its settings.") from None
    return parse_overrides(kind, editor, texts)


def require(holds: bool, name: str, value: object, wanted: str) -> None:
    """Raise `AuditError` unless the setting `name` holds what is wanted."""
    if not holds:
        raise AuditError(f"{name} is {value}: give {wanted}.")
