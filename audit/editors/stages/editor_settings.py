"""Editor settings: typed, with published values for known models, defaults for any other, and user overrides.

    settings = resolve(MemitSettings, "memit", lm, {"layers": (3, 4, 5), "clamp_norm_factor": 1.5})

The sources of a value, in order of precedence:
1. the user's override (`--editor-config`);
2. `edit_hyperparameters.json` beside the model's weights: settings measured for that model;
3. the published settings for a model of that shape;
4. for the layers of editors that write where facts are recalled: what `audit locate` recommended for these weights;
5. what this project measured on a model of that shape (`traced`);
6. the model's depth, for layers; the default of the settings class, for everything else.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from itertools import pairwise
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, NamedTuple, TypeVar, get_type_hints
from weakref import WeakKeyDictionary

from audit.errors import AuditError
from audit.models.fingerprints import weights_fingerprint
from audit.models.language_model import LanguageModel
from audit.store.content import Store
from audit.store.files import read_json

MEASURED_FILE = "edit_hyperparameters.json"
_LAYER_FIELDS = ("layers", "layer")


class Shape(NamedTuple):
    """Identifies a published model, whatever folder it is loaded from."""

    model_type: str
    depth: int
    hidden_size: int
    inner_size: int


class Shapes:
    """The shapes of models with published settings."""

    GPT2_MEDIUM = Shape("gpt2", 24, 1024, 4096)
    GPT2_LARGE = Shape("gpt2", 36, 1280, 5120)
    GPT2_XL = Shape("gpt2", 48, 1600, 6400)
    GPT_J = Shape("gptj", 28, 4096, 16384)
    GPT_NEOX = Shape("gpt_neox", 44, 6144, 24576)
    LLAMA_7B = Shape("llama", 32, 4096, 11008)  # Llama 1 and 2
    LLAMA_3_8B = Shape("llama", 32, 4096, 14336)
    LLAMA_3_3B = Shape("llama", 28, 3072, 8192)
    MISTRAL_7B = Shape("mistral", 32, 4096, 14336)
    QWEN_2_7B = Shape("qwen2", 28, 3584, 18944)  # Qwen 2 and 2.5
    SMOLLM2_135M = Shape("llama", 30, 576, 1536)
    GEMMA_3_270M = Shape("gemma3_text", 18, 640, 2048)


Published = Mapping[Shape, Mapping[str, Any]]  # settings by the shape of the model that they were published for


def layer_at(shares: Mapping[str, float], model_type: str, depth: int) -> int:
    """The layer at a share of the depth; `shares` is by model type, with one for "other"."""
    return min(depth - 1, int(shares.get(model_type, shares["other"]) * depth))


@dataclass(frozen=True)
class EditorSettings:
    """Base of all settings. The settings of an editor are in its file, those of a stage in the stage's file.

    Attributes:
        published: settings by the shape of the model that they were published for.
        traced: settings, usually layers, that this project measured on a model of a shape without published ones;
            docs/editors.md has the figures. Only fields that `for_depth` gives, too.
        measured_for: editors whose measured settings are used, for the fields that both have, where a model has no
            measured settings for this editor.
        writes_where_recalled: whether `layer` or `layers` may come from causal tracing (`audit locate`).
    """

    published: ClassVar[Published] = MappingProxyType({})
    traced: ClassVar[Published] = MappingProxyType({})
    measured_for: ClassVar[tuple[str, ...]] = ()
    writes_where_recalled: ClassVar[bool] = False

    @classmethod
    def for_depth(cls, model_type: str, depth: int) -> dict[str, Any]:
        """Values, usually the layers, for a model of `depth` blocks without published or measured settings."""
        return {}

    @classmethod
    def for_shape(cls, shape: Shape) -> dict[str, Any]:
        """Values for a model of `shape` without published or measured settings; those of `for_depth`, and more."""
        return cls.for_depth(shape.model_type, shape.depth)

    def check(self, depth: int) -> None:
        """Raise `AuditError` if a value is out of range for a model of `depth` blocks."""


S = TypeVar("S", bound=EditorSettings)


def require(holds: bool, name: str, value: object, wanted: str) -> None:
    """Raise `AuditError` unless the value of the setting `name` is valid."""
    if not holds:
        raise AuditError(f"{name} is {value}: give {wanted}.")


def require_counts(settings: EditorSettings, *names: str) -> None:
    """Raise `AuditError` unless the settings `names` are at least 1."""
    for name in names:
        require(getattr(settings, name) >= 1, name, getattr(settings, name), "at least 1")


def require_positive(settings: EditorSettings, *names: str) -> None:
    """Raise `AuditError` unless the settings `names` are finite and above 0."""
    for name in names:
        value = getattr(settings, name)
        require(math.isfinite(value) and value > 0, name, value, "a number above 0")


def require_not_negative(settings: EditorSettings, *names: str) -> None:
    """Raise `AuditError` unless the settings `names` are finite and at least 0."""
    for name in names:
        value = getattr(settings, name)
        require(math.isfinite(value) and value >= 0, name, value, "a number of at least 0")


def require_layer(layer: int, depth: int) -> None:
    """Raise `AuditError` unless `layer` exists in a model of `depth` blocks."""
    require(0 <= layer < depth, "layer", layer, f"a layer between 0 and {depth - 1}")


def require_rising(layers: tuple[int, ...], depth: int) -> None:
    """Raise `AuditError` unless `layers` rise and exist in a model of `depth` blocks."""
    rising = all(low < high for low, high in pairwise(layers))
    inside = bool(layers) and layers[0] >= 0 and layers[-1] < depth
    require(rising and inside, "layers", layers, f"rising layers between 0 and {depth - 1}, such as 1,2,3")


def parse_overrides(kind: type[EditorSettings], editor: str, config: Mapping[str, str]) -> dict[str, Any]:
    """Convert override strings to the types of their fields; `layers` takes 3,4,5 or 3-5.

    Raises:
        AuditError: the editor has no such setting, or a value is not of the setting's type.
    """
    types = get_type_hints(kind)
    names = [field.name for field in fields(kind)]
    values: dict[str, Any] = {}
    for key, text in config.items():
        if key not in names:
            known = f"its settings are {', '.join(sorted(names))}" if names else "it has no settings"
            raise AuditError(f"the editor {editor} has no setting {key!r}: {known}.")
        values[key] = _parse(editor, key, text, types[key])
    return values


def _parse(editor: str, key: str, text: str, kind: Any) -> Any:
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


@dataclass(frozen=True)
class Layers:
    """Layers to write: one for ROME and editors like it, several (rising) for MEMIT and editors like it."""

    rome: int
    memit: tuple[int, ...]


class LocatedLayers:
    """Layers that causal tracing recommended, kept in the store by the fingerprint of the weights.

        located = LocatedLayers(store)
        located.keep(lm, Layers(rome=5, memit=(3, 4, 5)))  # done by `audit locate`
        located.of(lm)                                     # done by `resolve`

    Each model is looked up once, so that a sequence of edits, which changes the weights, keeps its first layers.
    """

    def __init__(self, store: Store | None) -> None:
        self._store = store
        self._by_model: WeakKeyDictionary[LanguageModel, tuple[Layers | None]] = WeakKeyDictionary()

    def of(self, lm: LanguageModel) -> Layers | None:
        """The layers recommended for this model; None if there are none."""
        if self._store is None:
            return None
        if lm not in self._by_model:
            entry = self._store.get(_located_key(lm))
            self._by_model[lm] = (Layers(entry["rome"], tuple(entry["memit"])) if entry else None,)
        return self._by_model[lm][0]

    def keep(self, lm: LanguageModel, layers: Layers) -> None:
        """Store `layers` for all later runs on the same weights in the same dtype."""
        if self._store is not None:
            self._store.put(_located_key(lm), {"rome": layers.rome, "memit": list(layers.memit)})
            self._by_model[lm] = (layers,)


def _located_key(lm: LanguageModel) -> str:
    return f"located layers {weights_fingerprint(lm)}"


def resolve(
    kind: type[S], editor: str, lm: LanguageModel, overrides: Mapping[str, Any], located: LocatedLayers | None = None
) -> S:
    """The settings of `editor` for this model.

    Raises:
        AuditError: a value is out of range, or the file of measured settings is not valid.
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
    """The source of an editor's layers: "override", "measured", "published", "located", "traced", "depth" or "default".

    "default" means that the settings class has its own default layers, or no layers.
    """
    sources = _sources(kind, editor, lm, overrides, located)
    return next((sources[key][1] for key in _LAYER_FIELDS if key in sources), "default")


def _sources(
    kind: type[EditorSettings],
    editor: str,
    lm: LanguageModel,
    overrides: Mapping[str, Any],
    located: LocatedLayers | None,
) -> dict[str, tuple[Any, str]]:
    """Value and source of every setting that is not the class's default."""
    shape = Shape(lm.model.config.model_type, lm.anatomy.depth, lm.anatomy.hidden_size, lm.anatomy.inner_size)
    given = (  # in rising precedence
        ("published", kind.published.get(shape, {})),
        ("measured", _measured(kind, editor, lm)),
        ("override", overrides),
    )
    by_depth = kind.for_shape(shape)
    sources = {key: (value, "depth") for key, value in by_depth.items()}
    sources |= {key: (value, "traced") for key, value in kind.traced.get(shape, {}).items()}
    open_fields = [key for key in _LAYER_FIELDS if key in by_depth and not any(key in values for _, values in given)]
    if kind.writes_where_recalled and open_fields and located is not None:
        layers = located.of(lm)  # only here, because it hashes all weights
        if layers is not None:
            sources |= {key: (layers.memit if key == "layers" else layers.rome, "located") for key in open_fields}
    for source, values in given:
        sources |= {key: (value, source) for key, value in values.items()}
    return sources


def _measured(kind: type[EditorSettings], editor: str, lm: LanguageModel) -> dict[str, Any]:
    """Settings measured for this model, from a JSON file beside its weights that maps editors to their settings."""
    folder = lm.model.config.name_or_path
    path = Path(folder) / MEASURED_FILE if folder else None
    if path is None or not path.is_file():
        return {}
    try:
        by_editor = read_json(path)
        if editor in by_editor:
            values = by_editor[editor]
        else:
            names = [field.name for field in fields(kind)]
            lender = next((name for name in kind.measured_for if name in by_editor), None)
            values = {key: value for key, value in by_editor.get(lender, {}).items() if key in names}
        texts = {
            key: ",".join(map(str, value)) if isinstance(value, list) else str(value) for key, value in values.items()
        }
    except OSError as error:
        raise AuditError(f"{path} cannot be read ({error.strerror or error}); check its permissions.") from None
    except (ValueError, AttributeError) as error:
        raise AuditError(
            f"{path} is not valid ({error}); it must map the name of an editor to its settings, as JSON."
        ) from None
    return parse_overrides(kind, editor, texts)
