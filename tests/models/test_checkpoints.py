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
from audit.models.deltas import LowRankDelta
from audit.models.files import stored_weights
from audit.models.fingerprints import weights_fingerprint
from audit.models.language_model import LanguageModel
from audit.models.loading import load_language_model
from audit.models.patches import PatchSequence, WeightPatch, parameter_at
from tests.editors.tiny_families import FAMILIES, build_family
from tests.models.saved_models import COMMIT, put_in_cache, save
from tests.tiny_models import build_tiny_gpt2, build_tiny_llama, build_tokenizer

IDS = torch.arange(3, 3 + 24).reshape(2, 12)  # (rows, time)
BUILD: dict[str, Callable[[], LanguageModel]] = {"gpt2": build_tiny_gpt2, "llama": build_tiny_llama}


def rank_one_update(weight: Tensor, seed: int = 0) -> Tensor:
    """The textbook's edit, (out, in): ΔW = (v − W k) kᵀ / (kᵀ k), after which the key k is answered by v."""
    generator = torch.Generator().manual_seed(seed)
    key = torch.randn(weight.shape[1], generator=generator)
    value = torch.randn(weight.shape[0], generator=generator)
    return torch.outer(value - weight @ key, key) / key.dot(key)


def edited(lm: LanguageModel, layer: int = 1) -> LanguageModel:
    """The same model after a rank-one update of a down projection, in plain torch."""
    weight = parameter_at(lm.model, lm.anatomy.weight_name(layer))
    plain = weight.T if lm.anatomy.transposed else weight
    with torch.no_grad():
        plain += rank_one_update(plain)
    return lm


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


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """An edited tiny Llama, to be spoilt."""
    return save(edited(build_tiny_llama()), tmp_path / "llama")


def loaded(file: Path) -> dict[str, Tensor]:
    """What a file holds, in memory: safetensors maps files, and these tests write them anew."""
    return {name: x.clone() for name, x in load_file(file).items()}


def change_config(folder: Path, **fields: Any) -> None:
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | fields))


def change_weights(folder: Path, change: Callable[[dict[str, Tensor]], None]) -> None:
    file = folder / "model.safetensors"
    tensors = loaded(file)
    change(tensors)
    save_file(tensors, file, metadata={"format": "pt"})


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


def change_of(lm: LanguageModel) -> WeightPatch:
    name = lm.anatomy.weight_name(1)
    delta = LowRankDelta(torch.ones(32, 1), torch.ones(1, lm.anatomy.inner_size))
    return WeightPatch({name: delta}, meta={"base": weights_fingerprint(lm)})


def test_a_saved_patch_is_read_unchanged(tmp_path: Path) -> None:
    lm = build_tiny_llama()
    patch = change_of(lm)
    patch.save(tmp_path)
    read = open_checkpoint(lm, str(tmp_path))
    assert (read.kind, read.patch.fingerprint) == ("patch", patch.fingerprint)
    PatchSequence((WeightPatch({}), WeightPatch({}))).save(tmp_path / "nothing")
    assert open_checkpoint(lm, str(tmp_path / "nothing")).identical
    with pytest.raises(AuditError, match="was made for a model with fingerprint"):
        read_checkpoint(build_tiny_llama(seed=1), str(tmp_path))


def test_a_plan_folder_with_several_patches_or_none_is_refused(tmp_path: Path) -> None:
    from audit.editing import plan_folder
    from audit.models.checkpoints import PLAN_FILE

    assert plan_folder.PLAN_FILE == PLAN_FILE
    lm = build_tiny_llama()
    (tmp_path / PLAN_FILE).write_text("{}")
    with pytest.raises(AuditError, match="is not finished; run it again"):
        read_checkpoint(lm, str(tmp_path))
    for number in ("00000", "00001"):
        change_of(lm).save(tmp_path / number)
    with pytest.raises(AuditError, match=r"holds 2 patches, one per edit request; .*/00000\."):
        read_checkpoint(lm, str(tmp_path))
    assert open_checkpoint(lm, str(tmp_path / "00000")).kind == "patch"


@pytest.mark.parametrize("prefix", ["", "transformer."])
def test_a_file_of_differences_is_added(prefix: str, tmp_path: Path) -> None:
    change = torch.randn(128, 32, generator=torch.Generator().manual_seed(0))
    tensors = {f"{prefix}h.1.mlp.c_proj.weight": change.half(), f"{prefix}ln_f.weight": torch.zeros(32)}
    save_file(tensors, tmp_path / "delta.safetensors")
    lm = build_tiny_gpt2()
    before = parameter_at(lm.model, "transformer.h.1.mlp.c_proj.weight").detach().clone()
    read = open_checkpoint(lm, str(tmp_path / "delta.safetensors"))
    assert isinstance(read.patch, WeightPatch) and read.kind == "differences"
    assert list(read.patch.deltas) == ["transformer.h.1.mlp.c_proj.weight"]
    with read.patch.applied(lm):
        after = parameter_at(lm.model, "transformer.h.1.mlp.c_proj.weight").detach()
        assert torch.equal(after, before + change.half().float())


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
