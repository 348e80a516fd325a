"""What is no edited checkpoint of the base model is refused in one sentence; what does not matter may differ."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from audit.errors import AuditError
from audit.models.checkpoints import open_checkpoint, read_checkpoint
from audit.models.language_model import LanguageModel
from tests.models.edited_checkpoints import change_config, change_weights, edited, loaded
from tests.models.saved_models import COMMIT, put_in_cache, save
from tests.tiny_models import build_tiny_gpt2, build_tiny_llama, build_tokenizer


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """An edited tiny Llama, to be spoilt."""
    return save(edited(build_tiny_llama()), tmp_path / "llama")


def test_the_patch_does_not_change_when_the_file_is_overwritten(saved: Path) -> None:
    lm = build_tiny_llama()
    patch = read_checkpoint(lm, str(saved))
    before = patch.fingerprint
    file = saved / "model.safetensors"
    file.write_bytes(bytes(file.stat().st_size))  # in place, as a training run does that goes on
    assert patch.fingerprint == before


def test_another_architecture_is_refused(saved: Path) -> None:
    with pytest.raises(AuditError, match=r"has the model type llama, but the base model 'tiny-gpt2' has gpt2"):
        read_checkpoint(build_tiny_gpt2(), str(saved))
    change_config(saved, intermediate_size=96, rms_norm_eps=1e-3)
    with pytest.raises(AuditError, match=r"intermediate_size is 96 instead of 80, rms_norm_eps is 0\.001 instead of"):
        read_checkpoint(build_tiny_llama(), str(saved))


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"hidden_size": "wide"}, "hidden_size 'wide'"),
        ({"num_attention_heads": 5}, "validate_architecture"),
        ({"model_type": "nonsense"}, "model type `nonsense`"),
    ],
)
def test_an_invalid_config_is_refused(saved: Path, fields: dict[str, Any], reason: str) -> None:
    change_config(saved, **fields)
    with pytest.raises(AuditError, match=f"the config(.json)? of .* (cannot be read|has) .*{reason}"):
        read_checkpoint(build_tiny_llama(), str(saved))


def test_config_fields_that_do_not_affect_the_computation_may_differ(saved: Path) -> None:
    change_config(saved, use_cache=False, attention_dropout=0.3, pad_token_id=4, torch_dtype="float16")
    assert not open_checkpoint(build_tiny_llama(), str(saved)).identical


def test_another_tokenizer_is_refused_and_a_missing_one_accepted(saved: Path) -> None:
    build_tokenizer("plain").save_pretrained(saved)
    with pytest.raises(
        AuditError,
        match=r"the tokenizer of .* differs from .*'tiny-llama' \(different: post processor, the bos",
    ):
        read_checkpoint(build_tiny_llama(), str(saved))
    rules = json.loads((saved / "tokenizer.json").read_text())
    build_tokenizer("bos").save_pretrained(saved)
    same = json.loads((saved / "tokenizer.json").read_text())
    same["model"]["merges"] = rules["model"]["merges"][:-1]
    (saved / "tokenizer.json").write_text(json.dumps(same))
    with pytest.raises(AuditError, match=r"\(different: merges\)"):
        read_checkpoint(build_tiny_llama(), str(saved))
    for file in saved.glob("tokenizer*"):
        file.unlink()
    assert not open_checkpoint(build_tiny_llama(), str(saved)).identical


def drop(tensors: dict[str, Tensor]) -> None:
    del tensors["model.layers.1.mlp.down_proj.weight"]


def add(tensors: dict[str, Tensor]) -> None:
    tensors["model.layers.7.mlp.down_proj.weight"] = torch.ones(2)


def bend(tensors: dict[str, Tensor]) -> None:
    tensors["model.norm.weight"] = torch.ones(7)


def quantize(tensors: dict[str, Tensor]) -> None:
    tensors["model.norm.weight"] = torch.ones(32, dtype=torch.int8)


@pytest.mark.parametrize(
    ("spoil", "complaint"),
    [
        (drop, r"is missing 1 tensors of the base model, the first is 'model\.layers\.1\.mlp\.down_proj\.weight'"),
        (add, r"has 1 tensors that the base model does not have, the first is 'model\.layers\.7\."),
        (bend, r"stores model\.norm\.weight with shape \(7,\), but the base model has \(32,\)"),
        (quantize, r"stores model\.norm\.weight as I8; save it without quantization"),
    ],
)
def test_tensors_that_do_not_fit_are_refused(
    saved: Path, spoil: Callable[[dict[str, Tensor]], None], complaint: str
) -> None:
    change_weights(saved, spoil)
    with pytest.raises(AuditError, match=complaint):
        read_checkpoint(build_tiny_llama(), str(saved))


def test_a_tied_checkpoint_without_its_embedding_is_refused(tmp_path: Path) -> None:
    save(build_tiny_gpt2(), tmp_path)
    change_weights(tmp_path, lambda tensors: tensors.pop("transformer.wte.weight"))
    with pytest.raises(AuditError, match=r"is missing 1 tensors .*, the first is 'transformer\.wte\.weight'; save or"):
        read_checkpoint(build_tiny_gpt2(), str(tmp_path))


def test_tied_weights_with_different_values_are_refused(tmp_path: Path) -> None:
    save(build_tiny_gpt2(), tmp_path)
    change_weights(tmp_path, lambda tensors: tensors.update({"lm_head.weight": tensors["transformer.wte.weight"] + 1}))
    with pytest.raises(AuditError, match=r"different values for .*weight and .*weight, which are tied in the base"):
        read_checkpoint(build_tiny_gpt2(), str(tmp_path))


def test_missing_damaged_and_pickle_files_are_refused(saved: Path, tmp_path: Path) -> None:
    lm = build_tiny_llama()
    weights = loaded(saved / "model.safetensors")
    (saved / "model.safetensors").write_bytes(b"no safetensors")
    with pytest.raises(AuditError, match=r"model\.safetensors cannot be read as safetensors"):
        read_checkpoint(lm, str(saved))
    (saved / "model.safetensors").unlink()
    with pytest.raises(AuditError, match=r"has no model\.safetensors; save the model again"):
        read_checkpoint(lm, str(saved))
    torch.save(weights, saved / "pytorch_model.bin")
    for source in (saved, saved / "pytorch_model.bin"):
        with pytest.raises(AuditError, match=r"are stored as a pickle \(pytorch_model\.bin\), which can run code"):
            read_checkpoint(lm, str(source))

    edited(build_tiny_llama()).model.save_pretrained(tmp_path / "shards", max_shard_size="20KB")
    shard = sorted((tmp_path / "shards").glob("*.safetensors"))[1]
    shard.unlink()
    with pytest.raises(AuditError, match=f"has no {shard.name}; copy the whole folder again"):
        read_checkpoint(lm, str(tmp_path / "shards"))
    (tmp_path / "shards" / "model.safetensors.index.json").write_text("{}")
    with pytest.raises(AuditError, match=r"index\.json cannot be read"):
        read_checkpoint(lm, str(tmp_path / "shards"))


@pytest.mark.parametrize(
    ("source", "complaint"),
    [
        ("./absent", r"there is no checkpoint '\./absent'"),
        ("a/b/c", "there is no checkpoint 'a/b/c'"),
        ("absent.safetensors", r"there is no checkpoint 'absent\.safetensors'"),
        ("absent.gguf", r"there is no checkpoint 'absent\.gguf'; name .* or GGUF file, or a hub id"),
        ("lab/absent.gguf", r"there is no checkpoint 'lab/absent\.gguf'"),
        ("two words", "is neither a folder, a GGUF file nor a hub id"),
        ("some-lab/absent", "is not in the local cache and the hub cannot be reached"),
    ],
)
@pytest.mark.usefixtures("hub_cache")
def test_a_source_that_does_not_exist_is_refused(source: str, complaint: str, tiny_gpt2: LanguageModel) -> None:
    with pytest.raises(AuditError, match=complaint):
        read_checkpoint(tiny_gpt2, source)


def test_other_folders_and_revisions_of_folders_are_refused(saved: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(AuditError, match=r"is not a checkpoint: it has no config\.json .* or patch\.json"):
        read_checkpoint(build_tiny_llama(), str(tmp_path / "empty"))
    with pytest.raises(AuditError, match="is a local path and has no revision 'v2'"):
        read_checkpoint(build_tiny_llama(), str(saved), revision="v2")


def test_a_hub_checkpoint_is_pinned_to_its_commit(saved: Path, hub_cache: Path) -> None:
    put_in_cache(hub_cache, "some-lab/edited", saved)
    for revision in (None, "main", COMMIT):
        read = open_checkpoint(build_tiny_llama(), "some-lab/edited", revision=revision)
        assert (read.commit, read.kind, read.identical) == (COMMIT, "checkpoint", False)


@pytest.fixture
def refused(tmp_path: Path) -> Iterator[Callable[[dict[str, Tensor], str], None]]:
    def check(tensors: dict[str, Tensor], complaint: str) -> None:
        save_file(tensors, tmp_path / "delta.safetensors")
        with pytest.raises(AuditError, match=complaint):
            read_checkpoint(build_tiny_gpt2(), str(tmp_path / "delta.safetensors"))

    yield check


def test_differences_that_do_not_fit_are_refused(
    refused: Callable[[dict[str, Tensor], str], None], tmp_path: Path
) -> None:
    refused({"strange": torch.ones(2)}, "has 1 tensors that the base model does not have, the first is 'strange'")
    refused({"transformer.ln_f.weight": torch.ones(2)}, r"with shape \(2,\), but the base model has \(32,\)")
    both = {"lm_head.weight": torch.ones(400, 32), "transformer.wte.weight": torch.ones(400, 32)}
    refused(both, r"changes transformer\.wte\.weight twice, as .* and as .*, which are tied in the base model")
    (tmp_path / "config.json").write_text("{}")
    refused({}, r"is part of a checkpoint \(config\.json is in the same folder\); name the folder")
    (tmp_path / "weights.npz").touch()
    with pytest.raises(AuditError, match=r"is neither a \.safetensors nor a GGUF file"):
        read_checkpoint(build_tiny_gpt2(), str(tmp_path / "weights.npz"))
