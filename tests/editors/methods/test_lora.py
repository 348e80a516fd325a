"""LoRA: the same change as peft's, on a model that keeps its own modules."""

import copy
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from audit.editors.methods import lora
from audit.editors.methods.lora import Lora, LoraSettings, adapters_on, projections
from audit.editors.stages.editor_settings import Shapes
from audit.errors import AuditError
from audit.models.fingerprints import weights_fingerprint
from audit.models.language_model import LanguageModel
from audit.models.patches import LowRankDelta, WeightPatch, load_patch
from tests.editors.plain import REQUESTS
from tests.editors.stages.test_fine_tuning import loss_plainly, target_row
from tests.tiny_models import build_tiny_gpt2, build_tiny_llama

CONFIG = {"steps": "5", "learning_rate": "0.01", "rank": "2"}
FAMILIES = ["gpt-2", "llama-3", "opt", "gpt-neox", "gemma-2", "phi-3"]


def as_it_is(lm: LanguageModel) -> dict[str, tuple[Any, ...]]:
    """Everything about the model's modules that adapters could leave behind."""
    return {
        path: (
            id(module),
            type(module),
            list(module._modules),
            sorted(vars(module)),
            module.training,
            [parameter.requires_grad for parameter in module.parameters()],
            len(module._forward_hooks) + len(module._forward_pre_hooks),
        )
        for path, module in lm.model.named_modules()
    }


def factors_of(patch: object) -> dict[str, LowRankDelta]:
    assert isinstance(patch, WeightPatch)
    return {name: delta for name, delta in patch.deltas.items() if isinstance(delta, LowRankDelta)}


@pytest.mark.parametrize("maps", ["attention", "mlp"])
@pytest.mark.parametrize("family", FAMILIES)
def test_adapters_learn_and_leave_no_trace(maps: str, family: str, families: Callable[[str], LanguageModel]) -> None:
    lm = families(family)
    before, fingerprint = as_it_is(lm), weights_fingerprint(lm)
    rows = [target_row(lm, request) for request in REQUESTS]
    loss = float(loss_plainly(lm, rows))
    patch = Lora(CONFIG | {"projections": maps}).edit(lm, REQUESTS)
    assert as_it_is(lm) == before and weights_fingerprint(lm) == fingerprint
    assert len(factors_of(patch)) == len(projections(lm, Lora({"projections": maps}).settings(lm)))
    with patch.applied(lm):
        assert float(loss_plainly(lm, rows)) < loss
    assert as_it_is(lm) == before and weights_fingerprint(lm) == fingerprint


@pytest.mark.parametrize("build", [build_tiny_gpt2, build_tiny_llama])
def test_it_is_what_peft_itself_merges(build: Callable[[], LanguageModel]) -> None:
    from peft import LoraConfig, get_peft_model

    lm = build()
    config = {"projections": "mlp", "layers": "0,2", **CONFIG}
    patch = Lora(config, seed=3).edit(lm, REQUESTS)
    maps = projections(lm, Lora(config).settings(lm))
    theirs = LoraConfig(
        r=2, lora_alpha=32, target_modules=list(maps), fan_in_fan_out=isinstance(next(iter(maps.values())), Conv1D)
    )
    wrapped: Any = get_peft_model(copy.deepcopy(lm.model), theirs)
    for path in maps:
        adapter, delta = wrapped.base_model.model.get_submodule(path), factors_of(patch)[f"{path}.weight"]
        with torch.no_grad():
            adapter.lora_A["default"].weight.copy_(delta.right)
            adapter.lora_B["default"].weight.copy_(delta.left / adapter.scaling["default"])
    merged = wrapped.merge_and_unload()
    with patch.applied(lm):
        for name, parameter in lm.model.named_parameters():
            torch.testing.assert_close(parameter, merged.get_parameter(name), rtol=1e-5, atol=1e-6)


def test_the_patch_gives_the_same_logits_as_the_adapters(tiny_gpt2: LanguageModel) -> None:
    settings = Lora(CONFIG | {"dropout": "0"}).settings(tiny_gpt2)
    rows = [target_row(tiny_gpt2, request) for request in REQUESTS]
    with adapters_on(tiny_gpt2, projections(tiny_gpt2, settings), settings) as adapters:
        for adapter in adapters.values():
            nn.init.normal_(adapter.B, generator=torch.Generator().manual_seed(1))
        adapted = float(loss_plainly(tiny_gpt2, rows).detach())
        deltas = {f"{path}.weight": adapter.delta() for path, adapter in adapters.items()}
    with WeightPatch(deltas, frozenset(deltas)).applied(tiny_gpt2):  # all of GPT-2's maps are stored (in, out)
        assert float(loss_plainly(tiny_gpt2, rows)) == pytest.approx(adapted, rel=1e-4)
    assert float(loss_plainly(tiny_gpt2, rows)) != pytest.approx(adapted, rel=1e-2)


@pytest.mark.parametrize("place", ["descend", "TargetBatch"])
def test_an_interrupted_edit_leaves_the_models_modules(
    place: str, tiny_llama: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, fingerprint = as_it_is(tiny_llama), weights_fingerprint(tiny_llama)

    def interrupted(*_: object) -> None:
        assert as_it_is(tiny_llama) != before
        raise KeyboardInterrupt

    monkeypatch.setattr(lora, place, interrupted)
    with pytest.raises(KeyboardInterrupt):
        Lora(CONFIG).edit(tiny_llama, REQUESTS)
    assert as_it_is(tiny_llama) == before and weights_fingerprint(tiny_llama) == fingerprint


def test_an_injection_that_fails_half_way_is_undone(tiny_gpt2: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    import peft

    before, inject = as_it_is(tiny_gpt2), peft.inject_adapter_in_model

    def failing(*given: Any, **named: Any) -> None:
        inject(*given, **named)
        raise RuntimeError("half way")

    monkeypatch.setattr(peft, "inject_adapter_in_model", failing)
    with pytest.raises(RuntimeError, match="half way"):
        Lora(CONFIG).edit(tiny_gpt2, REQUESTS)
    assert as_it_is(tiny_gpt2) == before


@pytest.mark.parametrize("dropout", ["0", "0.3"])
def test_the_seed_decides_and_the_global_generator_is_left_alone(tiny_gpt2: LanguageModel, dropout: str) -> None:
    config = CONFIG | {"dropout": dropout}
    torch.manual_seed(5)
    state = torch.get_rng_state()
    one = Lora(config, seed=1).edit(tiny_gpt2, REQUESTS)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(6)
    assert Lora(config, seed=1).edit(tiny_gpt2, REQUESTS).fingerprint == one.fingerprint
    assert Lora(config, seed=2).edit(tiny_gpt2, REQUESTS).fingerprint != one.fingerprint


def test_half_precision_models_get_float32_factors(tmp_path: Path) -> None:
    lm = build_tiny_llama(dtype=torch.bfloat16)
    before = weights_fingerprint(lm)
    patch = Lora(CONFIG).edit(lm, REQUESTS)
    for delta in factors_of(patch).values():
        assert delta.left.dtype == delta.right.dtype == torch.float32 and delta.right.shape[0] == 2
    patch.save(tmp_path)
    with patch.applied(lm):
        edited = weights_fingerprint(lm)
    with load_patch(tmp_path).applied(lm):
        assert weights_fingerprint(lm) == edited != before
    assert weights_fingerprint(lm) == before


def test_maps_are_found_by_their_position_in_the_block(tiny_gpt2: LanguageModel, tiny_llama: LanguageModel) -> None:
    def ends(lm: LanguageModel, maps: str) -> list[str]:
        settings = Lora({"projections": maps, "layers": "1"}).settings(lm)
        return [path.removeprefix(f"{lm.anatomy.blocks[1]}.") for path in projections(lm, settings)]

    assert ends(tiny_gpt2, "attention") == ["attn.c_attn", "attn.c_proj"]
    assert ends(tiny_gpt2, "mlp") == ["mlp.c_fc", "mlp.c_proj"]
    assert ends(tiny_llama, "attention") == [f"self_attn.{name}_proj" for name in "qkvo"]
    assert ends(tiny_llama, "mlp") == [f"mlp.{name}_proj" for name in ("gate", "up", "down")]


def test_without_peft_the_error_names_the_remedy(tiny_gpt2: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(AuditError, match=r"the editor lora needs the library peft .*; run pip install peft\."):
        Lora().edit(tiny_gpt2, REQUESTS)


@pytest.mark.parametrize(
    "config, sentence",
    [
        ({"rank": "0"}, "rank is 0: give at least 1"),
        (
            {"projections": "head"},
            "projections are 'head', but this model's linear maps are called c_attn, c_fc",
        ),
        ({"dropout": "1"}, "dropout is 1.0: give a number from 0 to below 1"),
    ],
)
def test_settings_out_of_range_are_refused(config: dict[str, str], sentence: str, tiny_gpt2: LanguageModel) -> None:
    with pytest.raises(AuditError, match=sentence):
        Lora(config).edit(tiny_gpt2, REQUESTS)


def test_projections_can_be_named(tiny_llama: LanguageModel) -> None:
    settings = Lora(CONFIG | {"projections": "q_proj,v_proj", "layers": "0"}).settings(tiny_llama)
    assert [path.rpartition(".")[2] for path in projections(tiny_llama, settings)] == ["q_proj", "v_proj"]


def test_published_maps_and_dropout_are_the_defaults() -> None:
    assert LoraSettings.published[Shapes.GPT_J]["projections"] == "fc_in,fc_out"
    assert LoraSettings.published[Shapes.LLAMA_7B]["projections"] == "q_proj,v_proj"
    assert LoraSettings().dropout == 0.1
