"""Editor settings: published, measured, derived from the depth, overridden; invalid values are refused."""

import errno
import json
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar

import pytest

from audit.editors.methods.alphaedit import AlphaEditSettings
from audit.editors.methods.controls import VandalSettings
from audit.editors.methods.emmet import EmmetSettings
from audit.editors.methods.memit import MemitSettings
from audit.editors.methods.pmet import PmetSettings
from audit.editors.methods.rome import RomeSettings, RRomeSettings
from audit.editors.stages.editor_settings import (
    MEASURED_FILE,
    EditorSettings,
    Layers,
    LocatedLayers,
    Published,
    Shape,
    layers_from,
    parse_overrides,
    resolve,
)
from audit.errors import AuditError
from audit.models.anatomy import Anatomy
from audit.models.language_model import LanguageModel
from audit.store.content import Store


def stand_in(model_type: str, depth: int, hidden: int, inner: int, folder: str = "") -> LanguageModel:
    """A model with a shape and a folder only."""
    paths = tuple(str(index) for index in range(depth))
    anatomy = Anatomy(paths, paths, paths, paths, paths, "norm", "embeddings", False, hidden, inner)
    config = SimpleNamespace(model_type=model_type, name_or_path=folder)
    return LanguageModel("x", None, SimpleNamespace(config=config), None, anatomy)  # type: ignore[arg-type]


GPT2_XL = stand_in("gpt2", 48, 1600, 6400)
LLAMA_2 = stand_in("llama", 32, 4096, 11008)
LLAMA_3 = stand_in("llama", 32, 4096, 14336)


def test_published_rome() -> None:
    xl = resolve(RomeSettings, "rome", GPT2_XL, {})
    assert (xl.layer, xl.steps, xl.learning_rate, xl.weight_decay) == (17, 20, 0.5, 0.5)
    assert (xl.clamp_norm_factor, xl.kl_factor, xl.covariance) == (4.0, 0.0625, "auto")
    assert resolve(RomeSettings, "rome", stand_in("gpt2", 24, 1024, 4096), {}).clamp_norm_factor == 3.0
    llama = resolve(RomeSettings, "r-rome", LLAMA_2, {})
    assert (llama.layer, llama.steps, llama.weight_decay, llama.covariance) == (5, 25, 1e-3, "identity")


def test_published_memit() -> None:
    xl = resolve(MemitSettings, "memit", GPT2_XL, {})
    assert (xl.layers, xl.covariance_weight, xl.clamp_norm_factor) == ((13, 14, 15, 16, 17), 20000.0, 0.75)
    two, three = resolve(MemitSettings, "memit", LLAMA_2, {}), resolve(MemitSettings, "memit", LLAMA_3, {})
    assert (two.learning_rate, two.weight_decay, two.clamp_norm_factor) == (0.5, 1e-3, 4.0)
    assert (three.learning_rate, three.weight_decay, three.clamp_norm_factor) == (0.1, 0.5, 0.75)
    assert two.layers == three.layers == (4, 5, 6, 7, 8)
    assert two.covariance_weight == three.covariance_weight == 15000.0


SMALL_MODELS = {
    "smollm2": (stand_in("llama", 30, 576, 1536), 3, (0, 1, 2, 3)),
    "gemma": (stand_in("gemma3_text", 18, 640, 2048), 3, (2, 3)),
}


@pytest.mark.parametrize("name", SMALL_MODELS)
def test_traced_layers_of_small_models(name: str, tmp_path: Path) -> None:
    lm, layer, layers = SMALL_MODELS[name]
    for kind in (RomeSettings, RRomeSettings, EmmetSettings):
        assert resolve(kind, "x", lm, {}).layer == layer  # type: ignore[attr-defined]
        assert layers_from(kind, "x", lm, {}) == "traced"
    for several in (MemitSettings, PmetSettings, AlphaEditSettings):
        assert resolve(several, "x", lm, {}).layers == layers  # type: ignore[attr-defined]
    assert layers_from(RomeSettings, "rome", lm, {"layer": 1}) == "override"


def test_a_neighbor_of_a_known_shape_takes_the_share_of_its_depth() -> None:
    wider = stand_in("llama", 30, 640, 1536)
    assert resolve(RomeSettings, "rome", wider, {}).layer == 5
    assert resolve(MemitSettings, "memit", wider, {}).layers == (3, 4, 5, 6, 7)
    assert layers_from(MemitSettings, "memit", wider, {}) == "depth"


@pytest.mark.parametrize(("inner", "weight"), [(1536, 1536.0), (2048, 2048.0), (4799, 4799.0), (4800, 15000.0)])
def test_few_key_dimensions_lower_the_covariance_weight(inner: int, weight: float) -> None:
    lm = stand_in("made-up", 20, 512, inner)
    for kind in (MemitSettings, PmetSettings):
        assert resolve(kind, "x", lm, {}).covariance_weight == weight
        assert resolve(kind, "x", lm, {"covariance_weight": 7.0}).covariance_weight == 7.0
    assert resolve(EmmetSettings, "x", lm, {}).covariance_weight == 1.0


def test_what_locate_found_on_these_weights_beats_the_traced_layers(tmp_path: Path, tiny_llama: LanguageModel) -> None:
    anatomy = tiny_llama.anatomy
    shape = Shape("llama", anatomy.depth, anatomy.hidden_size, anatomy.inner_size)

    @dataclass(frozen=True)
    class Traced(RomeSettings):
        traced: ClassVar[Published] = {shape: {"layer": 2}}

    located = LocatedLayers(Store(tmp_path))
    assert resolve(Traced, "rome", tiny_llama, {}, located).layer == 2
    assert layers_from(Traced, "rome", tiny_llama, {}, located) == "traced"
    located.keep(tiny_llama, Layers(rome=1, memit=(0, 1)))
    assert resolve(Traced, "rome", tiny_llama, {}, located).layer == 1
    assert layers_from(Traced, "rome", tiny_llama, {}, located) == "located"


@pytest.mark.parametrize("depth", [1, 2, 3, 6, 12, 80])
@pytest.mark.parametrize("model_type", ["gpt2", "llama", "made-up"])
def test_any_depth_has_settings_in_range(model_type: str, depth: int) -> None:
    lm = stand_in(model_type, depth, 32, 128)
    assert 0 <= resolve(RomeSettings, "rome", lm, {}).layer < depth
    layers = resolve(MemitSettings, "memit", lm, {}).layers
    assert 1 <= len(layers) <= 5 and layers[-1] < depth


def test_measured_settings_beat_published_ones_and_overrides_beat_both(tmp_path: Path) -> None:
    measured = {"memit": {"layers": [2, 3], "covariance_weight": 50}, "rome": {"layer": 4}}
    (tmp_path / MEASURED_FILE).write_text(json.dumps(measured), encoding="utf-8")
    lm = stand_in("gpt2", 48, 1600, 6400, str(tmp_path))
    settings = resolve(MemitSettings, "memit", lm, {})
    assert (settings.layers, settings.covariance_weight) == ((2, 3), 50.0)
    assert resolve(MemitSettings, "memit", lm, {"layers": (5,)}).layers == (5,)
    assert resolve(RomeSettings, "rome", lm, {}).layer == 4
    assert resolve(RomeSettings, "r-rome", lm, {}).layer == 4


@pytest.mark.parametrize("content", ["{", "[]", '{"memit": {"layer": 3}}', '{"memit": 3}'])
def test_an_invalid_file_of_measured_settings_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / MEASURED_FILE).write_text(content, encoding="utf-8")
    with pytest.raises(AuditError):
        resolve(MemitSettings, "memit", stand_in("gpt2", 6, 32, 128, str(tmp_path)), {})


def test_a_file_of_measured_settings_that_may_not_be_read_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    (tmp_path / MEASURED_FILE).write_text("{}", encoding="utf-8")
    monkeypatch.setattr("audit.editors.stages.editor_settings.read_json", refuse)
    with pytest.raises(AuditError, match=r"cannot be read \(Permission denied\); check its permissions"):
        resolve(MemitSettings, "memit", stand_in("gpt2", 6, 32, 128, str(tmp_path)), {})


def test_overrides_are_converted_to_the_types_of_their_fields() -> None:
    config = {"layers": "3-5", "steps": " 7 ", "learning_rate": "1e-1", "covariance": "identity"}
    assert parse_overrides(MemitSettings, "memit", config) == {
        "layers": (3, 4, 5),
        "steps": 7,
        "learning_rate": 0.1,
        "covariance": "identity",
    }
    assert parse_overrides(MemitSettings, "memit", {"layers": "1,4"}) == {"layers": (1, 4)}


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        ({"layerz": "3"}, r"the editor memit has no setting 'layerz': its settings are clamp_norm_factor, .*, steps"),
        ({"steps": "2.5"}, "steps=2.5 does not suit the editor memit: steps takes a whole number"),
        ({"kl_factor": "much"}, "kl_factor takes a number"),
        ({"layers": "three"}, "layers takes whole numbers such as 3,4,5 or 3-5"),
    ],
)
def test_invalid_overrides_are_refused(config: dict[str, str], sentence: str) -> None:
    with pytest.raises(AuditError, match=sentence):
        parse_overrides(MemitSettings, "memit", config)


def test_an_editor_without_settings_says_so() -> None:
    with pytest.raises(AuditError, match="has no setting 'scale': it has no settings"):
        parse_overrides(EditorSettings, "identity", {"scale": "1"})


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (RomeSettings(layer=6), r"layer is 6: give a layer between 0 and 5"),
        (RomeSettings(layer=-1), "layer is -1"),
        (RomeSettings(steps=0), "steps is 0: give at least 1"),
        (RomeSettings(learning_rate=float("nan")), "learning_rate is nan"),
        (RomeSettings(kl_factor=-1.0), "kl_factor is -1.0"),
        (RomeSettings(context_lengths=(0,)), "context_lengths"),
        (RomeSettings(kl_position="first"), "kl_position is 'first': give lookup or last"),
        (RomeSettings(key_mode="bare"), "key_mode is 'bare': give original, consistent or prompt"),
        (MemitSettings(layers=()), "rising layers"),
        (MemitSettings(layers=(3, 2)), "rising layers between 0 and 5"),
        (MemitSettings(layers=(2, 6)), "rising layers"),
        (MemitSettings(covariance_weight=0.0), "covariance_weight is 0.0: give a number above 0"),
        (VandalSettings(layer=6), "layer is 6"),
        (VandalSettings(scale=-1.0), "scale is -1.0"),
    ],
)
def test_values_out_of_range(settings: EditorSettings, sentence: str) -> None:
    with pytest.raises(AuditError, match=sentence):
        settings.check(6)


def test_settings_are_frozen() -> None:
    with pytest.raises(AttributeError):
        RomeSettings().layer = 3  # type: ignore[misc]
    assert replace(RomeSettings(), layer=3).layer == 3
