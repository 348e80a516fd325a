"""LoRA adapters saved by peft give the weights that peft merges, or are refused with a reason."""

import json
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from safetensors.torch import load_file, save_file

from audit.errors import AuditError
from audit.models.checkpoints import open_checkpoint
from audit.models.fingerprints import weights_fingerprint
from audit.models.language_model import LanguageModel
from audit.models.patches import LowRankDelta, Replacement, WeightPatch, parameter_at
from tests.tiny_models import build_tiny_gpt2, build_tiny_llama

BUILD = {"gpt2": build_tiny_gpt2, "llama": build_tiny_llama}
TARGETS = {"gpt2": ["c_attn", "c_proj"], "llama": ["q_proj", "down_proj"]}


def train(lm: LanguageModel, folder: Path, **settings: Any) -> Callable[[], Mapping[str, torch.Tensor]]:
    """Save an adapter of random content on the model; what gives the weights that peft merges, by the base's names."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # peft tells that it looks for no hub model
        adapted = peft.get_peft_model(lm.model, peft.LoraConfig(r=settings.pop("r", 4), **settings))
        generator = torch.Generator().manual_seed(0)
        for parameter in adapted.parameters():
            if parameter.requires_grad:
                parameter.data = 0.1 * torch.randn(parameter.shape, generator=generator).to(parameter.dtype)
        adapted.save_pretrained(str(folder))
    return lambda: dict(adapted.merge_and_unload().named_parameters())


@pytest.mark.parametrize("family", BUILD)
@pytest.mark.parametrize(
    "settings",
    [
        {"lora_alpha": 8},
        {"lora_alpha": 16, "use_rslora": True},
        {"lora_alpha": 8, "rank_pattern": {"c_attn": 2, "q_proj": 2}},
        {"lora_alpha": 8, "alpha_pattern": {"h.1.mlp.c_proj": 3, "layers.1.mlp.down_proj": 3}, "use_rslora": True},
    ],
    ids=["plain", "rank-stabilised", "ranks of their own", "alphas of their own"],
)
def test_the_patch_gives_the_weights_that_peft_merges(family: str, settings: dict[str, Any], tmp_path: Path) -> None:
    merged = train(BUILD[family](), tmp_path, target_modules=TARGETS[family], **settings)()
    lm = BUILD[family]()
    before = weights_fingerprint(lm)
    read = open_checkpoint(lm, str(tmp_path))
    assert (read.kind, read.identical, read.commit) == ("adapter", False, None)
    assert isinstance(read.patch, WeightPatch)
    assert all(isinstance(delta, LowRankDelta) for delta in read.patch.deltas.values())
    changed = {name for name, weight in merged.items() if not torch.equal(weight, parameter_at(lm.model, name))}
    assert set(read.patch.deltas) == changed and len(changed) > 4
    with read.patch.applied(lm):
        for name, weight in merged.items():
            torch.testing.assert_close(parameter_at(lm.model, name).detach(), weight, rtol=1e-6, atol=1e-6)
    assert weights_fingerprint(lm) == before


def test_an_adapter_of_an_untied_embedding_is_merged_too(tmp_path: Path) -> None:
    merged = train(build_tiny_llama(), tmp_path, lora_alpha=8, target_modules=["embed_tokens"])()
    lm = build_tiny_llama()
    read = open_checkpoint(lm, str(tmp_path))
    assert isinstance(read.patch, WeightPatch) and list(read.patch.deltas) == ["model.embed_tokens.weight"]
    with read.patch.applied(lm):
        torch.testing.assert_close(
            parameter_at(lm.model, "model.embed_tokens.weight").detach(), *[merged["model.embed_tokens.weight"]]
        )


def test_biases_and_an_untied_head_trained_whole_replace_the_base_weights(tmp_path: Path) -> None:
    train(build_tiny_gpt2(), tmp_path / "biases", lora_alpha=8, target_modules=["c_proj"], bias="lora_only")
    lm = build_tiny_gpt2()
    patch = open_checkpoint(lm, str(tmp_path / "biases")).patch
    stored = load_file(tmp_path / "biases" / "adapter_model.safetensors")
    biases = {
        name.removeprefix("base_model.model.").replace(".base_layer.", "."): x
        for name, x in stored.items()
        if name.endswith(".bias")
    }
    assert len(biases) == 6
    with patch.applied(lm):
        assert all(torch.equal(parameter_at(lm.model, name), bias) for name, bias in biases.items())

    settings = {"lora_alpha": 8, "target_modules": ["q_proj"], "modules_to_save": ["lm_head"]}
    train(build_tiny_llama(), tmp_path / "head", **settings)
    lm = build_tiny_llama()
    patch = open_checkpoint(lm, str(tmp_path / "head")).patch
    assert isinstance(patch, WeightPatch) and isinstance(patch.deltas["lm_head.weight"], Replacement)
    head = load_file(tmp_path / "head" / "adapter_model.safetensors")["base_model.model.lm_head.weight"]
    with patch.applied(lm):
        assert torch.equal(parameter_at(lm.model, "lm_head.weight"), head)


def test_an_adapter_that_was_never_trained_changes_nothing(tmp_path: Path) -> None:
    adapted = peft.get_peft_model(build_tiny_llama().model, peft.LoraConfig(target_modules=["q_proj"]))
    adapted.save_pretrained(str(tmp_path))
    assert open_checkpoint(build_tiny_llama(), str(tmp_path)).identical


def test_an_adapter_in_half_precision_is_merged_in_single(tmp_path: Path) -> None:
    train(build_tiny_llama(), tmp_path, lora_alpha=8, target_modules=["q_proj"])
    file = tmp_path / "adapter_model.safetensors"
    half = {name: x.half() for name, x in load_file(file).items()}
    save_file(half, file)
    lm = build_tiny_llama()
    name = "model.layers.0.self_attn.q_proj.weight"
    stem = f"base_model.model.{name.removesuffix('.weight')}"
    change = 2 * half[f"{stem}.lora_B.weight"].float() @ half[f"{stem}.lora_A.weight"].float()  # α/r is 2
    expected = parameter_at(lm.model, name).detach() + change
    with open_checkpoint(lm, str(tmp_path)).patch.applied(lm):
        torch.testing.assert_close(parameter_at(lm.model, name).detach(), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"use_dora": True}, "use_dora"),
        ({"lora_bias": True}, "lora_bias"),
        ({"init_lora_weights": "pissa"}, "init_lora_weights=pissa"),
        ({"trainable_token_indices": [3]}, "trainable_token_indices"),
    ],
)
def test_adapters_other_than_plain_lora_are_refused(settings: dict[str, Any], named: str, tmp_path: Path) -> None:
    train(build_tiny_llama(), tmp_path, target_modules=["q_proj"], **settings)
    with pytest.raises(AuditError, match=f"uses {named}, which is not supported; merge it into the model"):
        open_checkpoint(build_tiny_llama(), str(tmp_path))


def test_another_adapter_type_is_refused(tmp_path: Path) -> None:
    adapted = peft.get_peft_model(
        build_tiny_llama().model, peft.IA3Config(target_modules=["down_proj"], feedforward_modules=["down_proj"])
    )
    adapted.save_pretrained(str(tmp_path))
    with pytest.raises(AuditError, match="has the type IA3, but only LoRA adapters can be read"):
        open_checkpoint(build_tiny_llama(), str(tmp_path))


def test_weights_that_the_base_model_ties_are_refused(tmp_path: Path) -> None:
    train(build_tiny_gpt2(), tmp_path / "embedding", target_modules=["wte"])
    with pytest.raises(AuditError, match=r"changes transformer\.wte, whose weight the base model uses in several"):
        open_checkpoint(build_tiny_gpt2(), str(tmp_path / "embedding"))
    train(build_tiny_gpt2(), tmp_path / "head", target_modules=["c_proj"], modules_to_save=["lm_head"])
    with pytest.raises(AuditError, match=r"replaces lm_head\.weight, which is tied in the base model"):
        open_checkpoint(build_tiny_gpt2(), str(tmp_path / "head"))


def test_an_adapter_for_another_model_is_refused(tmp_path: Path) -> None:
    train(build_tiny_llama(), tmp_path, target_modules=["q_proj"])
    with pytest.raises(AuditError, match=r"layers\.0\.self_attn\.q_proj, which the base model does not have"):
        open_checkpoint(build_tiny_gpt2(), str(tmp_path))
    with pytest.raises(AuditError, match=r"layers\.2\.self_attn\.q_proj, which the base model does not have"):
        open_checkpoint(build_tiny_llama(layers=2), str(tmp_path))


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    train(build_tiny_llama(), tmp_path, target_modules=["q_proj"])
    lm, folder, file = build_tiny_llama(), str(tmp_path), tmp_path / "adapter_model.safetensors"
    tensors = {name: x.clone() for name, x in load_file(file).items()}  # files are mapped, and this one is spoilt
    stem = "base_model.model.model.layers.0.self_attn.q_proj.lora_"

    save_file({name: x for name, x in tensors.items() if name != f"{stem}B.weight"}, file)
    with pytest.raises(AuditError, match=r"lora_A\.weight but not .*lora_B\.weight"):
        open_checkpoint(lm, folder)
    save_file({**tensors, f"{stem}B.weight": torch.ones(7, 4)}, file)
    with pytest.raises(AuditError, match=r"q_proj by a \(7, 32\) matrix, but the base model has \(32, 32\)"):
        open_checkpoint(lm, folder)
    save_file({**tensors, "base_model.model.strange": torch.ones(1)}, file)
    with pytest.raises(AuditError, match="strange, which fits no weight of the base model"):
        open_checkpoint(lm, folder)
    torch.save(tensors, tmp_path / "adapter_model.bin")
    file.unlink()
    with pytest.raises(AuditError, match=r"are stored as a pickle \(adapter_model\.bin\)"):
        open_checkpoint(lm, folder)
    (tmp_path / "adapter_model.bin").unlink()
    with pytest.raises(AuditError, match=r"lacks adapter_model\.safetensors"):
        open_checkpoint(lm, folder)
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    del config["lora_alpha"]
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    with pytest.raises(AuditError, match=r"adapter_config\.json of .* cannot be read"):
        open_checkpoint(lm, folder)
