"""Edited checkpoints are read bit for bit as patches over the base model, without a second model in memory."""

import json
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoModelForCausalLM

from audit.errors import AuditError
from audit.models.checkpoints import AddedTokensWarning, open_checkpoint, read_checkpoint
from audit.models.files import stored_weights
from audit.models.fingerprints import weights_fingerprint
from audit.models.language_model import LanguageModel
from audit.models.loading import load_language_model
from audit.models.patches import WeightPatch, parameter_at
from tests.editors.tiny_families import FAMILIES, build_family
from tests.models.edited_checkpoints import change_config, change_weights, edited, loaded
from tests.models.saved_models import save
from tests.tiny_models import build_tiny_gpt2, build_tiny_llama

IDS = torch.arange(3, 3 + 24).reshape(2, 12)  # (rows, time)
BUILD: dict[str, Callable[[], LanguageModel]] = {"gpt2": build_tiny_gpt2, "llama": build_tiny_llama}


def logits_of(lm: LanguageModel) -> Tensor:
    with torch.no_grad():
        return lm.model(input_ids=IDS).logits  # (rows, time, vocabulary)


def logits_by_transformers(folder: Path) -> Tensor:
    """What anybody else gets from the folder, in float32."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    with torch.no_grad():
        return model(input_ids=IDS).logits


@pytest.mark.parametrize("shard", ["1GB", "20KB"])
@pytest.mark.parametrize("family", BUILD)
def test_an_edited_checkpoint_gives_the_same_logits_as_transformers(family: str, shard: str, tmp_path: Path) -> None:
    edited(BUILD[family]()).model.save_pretrained(tmp_path, max_shard_size=shard)
    assert len(list(tmp_path.glob("*.safetensors"))) > (1 if shard == "20KB" else 0)
    lm = BUILD[family]()
    before, untouched = weights_fingerprint(lm), logits_of(lm)
    read = open_checkpoint(lm, str(tmp_path))
    assert isinstance(read.patch, WeightPatch) and list(read.patch.deltas) == [lm.anatomy.weight_name(1)]
    assert (read.kind, read.identical) == ("checkpoint", False)
    with read.patch.applied(lm):
        assert torch.equal(logits_of(lm), logits_by_transformers(tmp_path))
        assert not torch.equal(logits_of(lm), untouched)
    assert weights_fingerprint(lm) == before


def test_an_edited_pocket_model_is_read(tmp_path: Path) -> None:
    save(edited(load_language_model("pocket-llama", device="cpu")), tmp_path)
    lm = load_language_model("pocket-llama", device="cpu")
    patch = read_checkpoint(lm, str(tmp_path))
    assert isinstance(patch, WeightPatch) and list(patch.deltas) == ["model.layers.1.mlp.down_proj.weight"]
    with patch.applied(lm):
        assert torch.equal(logits_of(lm), logits_by_transformers(tmp_path))
    assert read_checkpoint(lm, "pocket-llama").fingerprint == WeightPatch({}).fingerprint


@pytest.mark.parametrize("family", FAMILIES)
def test_the_patch_contains_exactly_the_edited_weight_in_every_family(family: str, tmp_path: Path) -> None:
    save(build_family(family), tmp_path / "base")
    lm, other = (load_language_model(str(tmp_path / "base"), device="cpu") for _ in range(2))
    assert open_checkpoint(lm, str(tmp_path / "base")).identical
    names = {other.anatomy.weight_name(0), f"{other.anatomy.embeddings}.weight", f"{other.anatomy.final_norm}.weight"}
    with torch.no_grad():
        for name in names:
            parameter_at(other.model, name).mul_(1.25)
    save(other, tmp_path / "edited")
    patch = read_checkpoint(lm, str(tmp_path / "edited"))
    assert isinstance(patch, WeightPatch) and set(patch.deltas) == names
    with patch.applied(lm):
        assert torch.equal(logits_of(lm), logits_by_transformers(tmp_path / "edited"))


@pytest.mark.parametrize("base", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("stored", [torch.float32, torch.float16, torch.bfloat16])
def test_other_dtypes_are_converted_once(base: torch.dtype, stored: torch.dtype, tmp_path: Path) -> None:
    edited(build_tiny_llama()).model.to(stored).save_pretrained(tmp_path)
    lm = build_tiny_llama(dtype=base)
    expected = {name: x.to(base) for name, x in load_file(tmp_path / "model.safetensors").items()}
    with read_checkpoint(lm, str(tmp_path)).applied(lm):
        for name, parameter in lm.model.named_parameters():
            assert stored_weights.same_bits(parameter.detach(), expected[name])


def test_each_tensor_is_read_once_and_only_what_differs_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    edited(build_tiny_llama()).model.save_pretrained(tmp_path, max_shard_size="20KB")
    lm = build_tiny_llama()
    taken: list[tuple[str, weakref.ref[Tensor]]] = []
    alive: list[int] = []

    class Counting:
        """A file that counts what is taken out of it, and what of that is still in memory at the next time."""

        def __init__(self, file: Any) -> None:
            self._file = file

        def __getattr__(self, name: str) -> Any:
            return getattr(self._file, name)

        def get_tensor(self, name: str) -> Tensor:
            alive.append(sum(reference() is not None for _, reference in taken))
            tensor: Tensor = self._file.get_tensor(name)
            taken.append((name, weakref.ref(tensor)))
            return tensor

    @contextmanager
    def counting(file: Path, framework: str) -> Iterator[Counting]:
        with safe_open(file, framework=framework) as content:
            yield Counting(content)

    safe_open = stored_weights.safe_open
    monkeypatch.setattr(stored_weights, "safe_open", counting)
    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", lambda *_, **__: pytest.fail("a second model"))
    patch = read_checkpoint(lm, str(tmp_path))
    assert isinstance(patch, WeightPatch)
    assert sorted(name for name, _ in taken) == sorted(lm.model.state_dict())
    assert [tuple(delta.parts()["content"].shape) for delta in patch.deltas.values()] == [(32, 80)]
    assert max(alive) <= 1  # the one that was read before


@pytest.mark.parametrize("head", ["left out", "stored as well", "trunk alone, without its prefix"])
def test_tied_heads_and_files_without_the_trunk_prefix_are_read(head: str, tmp_path: Path) -> None:
    other = edited(build_tiny_gpt2())
    save(other, tmp_path)
    tensors = loaded(tmp_path / "model.safetensors")
    if head == "stored as well":
        tensors["lm_head.weight"] = tensors["transformer.wte.weight"].clone()
    elif head != "left out":
        tensors = {name.removeprefix("transformer."): x for name, x in tensors.items()}
        tensors["h.0.attn.bias"] = torch.ones(1, 1, 8, 8).tril()  # tables that GPT-2 once stored
        tensors["h.0.attn.masked_bias"] = torch.tensor(-1e4)
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    lm = build_tiny_gpt2()
    patch = read_checkpoint(lm, str(tmp_path))
    assert isinstance(patch, WeightPatch) and list(patch.deltas) == ["transformer.h.1.mlp.c_proj.weight"]
    with patch.applied(lm):
        assert torch.equal(logits_of(lm), logits_of(other))


def test_a_tied_weight_that_was_edited_is_one_change(tmp_path: Path) -> None:
    other = build_tiny_gpt2()
    with torch.no_grad():
        parameter_at(other.model, "transformer.wte.weight")[5] += 1
    save(other, tmp_path)
    lm = build_tiny_gpt2()
    patch = read_checkpoint(lm, str(tmp_path))
    assert isinstance(patch, WeightPatch) and list(patch.deltas) == ["transformer.wte.weight"]
    with patch.applied(lm):
        assert torch.equal(logits_of(lm), logits_of(other))


def test_a_zero_that_became_negative_is_a_change_of_bits(tmp_path: Path) -> None:
    tensors = {"transformer.h.0.ln_1.bias": torch.full((32,), -0.0)}
    save(build_tiny_gpt2(), tmp_path)
    file = tmp_path / "model.safetensors"
    save_file({**loaded(file), **tensors}, file, metadata={"format": "pt"})
    patch = read_checkpoint(build_tiny_gpt2(), str(tmp_path))
    assert isinstance(patch, WeightPatch) and list(patch.deltas) == ["transformer.h.0.ln_1.bias"]


def resized(lm: LanguageModel, *tokens: str) -> LanguageModel:
    """The model with added tokens and a resized embedding; its old rows stay as they are."""
    lm.tokenizer.add_special_tokens({"extra_special_tokens": list(tokens)})
    lm.model.resize_token_embeddings(len(lm.tokenizer), mean_resizing=False)
    return lm


@pytest.mark.parametrize(
    ("build", "weight"),
    [
        (build_tiny_llama, "model.layers.1.mlp.down_proj.weight"),
        (build_tiny_gpt2, "transformer.h.1.mlp.c_proj.weight"),  # its head is tied
    ],
)
def test_rows_of_added_tokens_are_left_out_and_said(
    build: Callable[[], LanguageModel], weight: str, tmp_path: Path
) -> None:
    base, edited = build(), resized(build(), "<pad>", "<tool>")
    with torch.no_grad():
        edited.model.get_parameter(weight).add_(0.5)
    save(edited, tmp_path / "edited")
    with pytest.warns(AddedTokensWarning, match=r"has 2 tokens more than the base model \('<pad>', '<tool>'\)"):
        patch = read_checkpoint(base, str(tmp_path / "edited"))
    assert set(patch.deltas) == {weight}
    ids = torch.tensor([[5, 9, 20]])
    with patch.applied(base):
        torch.testing.assert_close(base.model(ids).logits, edited.model(ids).logits[..., : len(base.tokenizer)])


def test_shared_tokens_with_other_numbers_are_named(tmp_path: Path) -> None:
    edited = build_tiny_llama()
    save(edited, tmp_path / "edited")
    rules = json.loads((tmp_path / "edited" / "tokenizer.json").read_text())
    first, second = list(rules["model"]["vocab"])[60:62]
    vocabulary = rules["model"]["vocab"]
    vocabulary[first], vocabulary[second] = vocabulary[second], vocabulary[first]
    (tmp_path / "edited" / "tokenizer.json").write_text(json.dumps(rules))
    with pytest.raises(AuditError, match=r"\(different: vocabulary, tokens such as '.*', '.*'\)"):
        read_checkpoint(build_tiny_llama(), str(tmp_path / "edited"))


def test_a_head_that_the_checkpoint_ties_and_the_base_writes_out_is_read(tmp_path: Path) -> None:
    base, edited = build_tiny_llama(), build_tiny_llama()
    with torch.no_grad():  # an untied base whose head happens to be its embedding
        base.model.lm_head.weight.copy_(base.model.get_input_embeddings().weight)
        edited.model.lm_head.weight.copy_(edited.model.get_input_embeddings().weight)
        edited.model.get_input_embeddings().weight[7] += 1
    edited.model.config.tie_word_embeddings = True
    edited.model.tie_weights()
    save(edited, tmp_path / "edited")
    change_config(tmp_path / "edited", tie_word_embeddings=True)
    assert "lm_head.weight" not in load_file(tmp_path / "edited" / "model.safetensors")
    patch = read_checkpoint(base, str(tmp_path / "edited"))
    ids = torch.tensor([[5, 7, 20]])
    with patch.applied(base):
        torch.testing.assert_close(base.model(ids).logits, edited.model(ids).logits)


TABLE = "transformer.wte.weight"


def test_a_head_that_the_base_ties_and_the_checkpoint_writes_out_is_read_where_both_agree(tmp_path: Path) -> None:
    base = build_tiny_gpt2()
    save(build_tiny_gpt2(), tmp_path / "edited")
    change_config(tmp_path / "edited", tie_word_embeddings=False)
    change_weights(tmp_path / "edited", lambda held: held.update({"lm_head.weight": held[TABLE].clone()}))
    assert open_checkpoint(base, str(tmp_path / "edited")).identical
    change_weights(tmp_path / "edited", lambda held: held["lm_head.weight"].add_(1))
    with pytest.raises(AuditError, match=r"stores different values for .* which are tied"):
        read_checkpoint(base, str(tmp_path / "edited"))
