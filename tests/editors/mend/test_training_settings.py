"""Defaults of the training: published ones for large models, measured ones for small models."""

from audit.editors.mend.training_settings import SETTINGS_NAME, MendTrainingSettings
from audit.editors.stages.editor_settings import Shape, Shapes, resolve
from audit.models.language_model import LanguageModel


def test_large_models_take_the_published_settings() -> None:
    large = MendTrainingSettings(**MendTrainingSettings.for_shape(Shapes.LLAMA_3_8B))
    assert (large.layers, large.rank, large.network_step, large.accumulate) == ((29, 30, 31), 1920, 1e-6, 10)
    assert large.neighbor_weight == 0.0 and large.batch_sizes == (1,)


def test_small_models_take_the_measured_settings(tiny_llama: LanguageModel) -> None:
    for shape in (Shapes.SMOLLM2_135M, Shapes.GEMMA_3_270M):
        small = MendTrainingSettings(**MendTrainingSettings.for_shape(shape))
        small.check(shape.depth)
        assert small.layers == tuple(range(shape.depth - 3, shape.depth))
        assert small.accumulate == 1 and small.neighbor_weight > 0 and max(small.batch_sizes) >= 10
    wider = Shape("llama", 30, 2048, 8192)
    assert MendTrainingSettings.for_shape(wider) == {"layers": (27, 28, 29)}
    given = resolve(MendTrainingSettings, SETTINGS_NAME, tiny_llama, {"rank": 5})
    assert given.rank == 5 and given.network_step == small.network_step
