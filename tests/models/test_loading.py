"""Models are loaded by name, and errors say why a model cannot be loaded."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from audit import pocket
from audit.errors import AuditError
from audit.models import loading
from audit.models.fingerprints import tokenizer_fingerprint, weights_fingerprint
from audit.models.loading import load_language_model, pocket_names
from audit.models.tokens import encode, join
from tests.models.saved_models import COMMIT, put_in_cache, save
from tests.tiny_models import TokenizerKind, build_tiny_gpt2, build_tiny_llama, build_tokenizer


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Llama in float16, as save_pretrained writes it; tests copy what they spoil."""
    return save(build_tiny_llama(dtype=torch.float16), tmp_path_factory.mktemp("models") / "llama")


@pytest.fixture
def copy(saved: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(saved, tmp_path / "copy"))


def test_a_saved_model_loads_in_eval_mode_without_gradients(saved: Path) -> None:
    lm = load_language_model(str(saved), device="cpu")
    original = build_tiny_llama(dtype=torch.float16)
    assert weights_fingerprint(lm) == weights_fingerprint(original)
    assert tokenizer_fingerprint(lm) == tokenizer_fingerprint(original)
    assert lm.anatomy == original.anatomy
    assert (lm.name, lm.revision, lm.dtype, lm.device) == (str(saved), None, torch.float16, torch.device("cpu"))
    assert not lm.model.training
    assert not any(parameter.requires_grad for parameter in lm.model.parameters())


def test_a_tied_model_comes_back_tied(tmp_path: Path) -> None:
    lm = load_language_model(str(save(build_tiny_gpt2(), tmp_path)), device="cpu")
    assert lm.model.get_parameter("lm_head.weight") is lm.model.get_parameter("transformer.wte.weight")
    assert weights_fingerprint(lm) == weights_fingerprint(build_tiny_gpt2())


@pytest.mark.parametrize("kind", ["plain", "bos", "metaspace"])
def test_the_tokenizer_is_unchanged_after_loading(tmp_path: Path, kind: TokenizerKind) -> None:
    lm = load_language_model(str(save(build_tiny_llama(layers=1, tokenizer=kind), tmp_path)), device="cpu")
    tokenizer = build_tokenizer(kind)
    for prompt, target in [("Mara Lind was born in", "Velden"), ("Zoë's café is in", "São Paulo")]:
        assert encode(lm.tokenizer, prompt) == encode(tokenizer, prompt)
        assert join(lm.tokenizer, prompt, target) == join(tokenizer, prompt, target)


def test_a_model_is_spread_over_the_available_devices(saved: Path) -> None:
    lm = load_language_model(str(saved), device="map", dtype="float32")
    assert weights_fingerprint(lm) == weights_fingerprint(
        load_language_model(str(saved), device="cpu", dtype="float32")
    )
    ids = torch.tensor([encode(lm.tokenizer, "Mara Lind was born in")], device=lm.device)
    assert bool(lm.model(input_ids=ids).logits.isfinite().all())


def test_an_offloaded_model_is_refused(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What does not fit is left by accelerate as an empty shell, filled for each use."""
    read = loading._models.from_pretrained

    def too_large(*arguments: object, **settings: object) -> object:
        model, report = read(*arguments, **settings)
        model.model.layers[2].to("meta")
        return model, report

    monkeypatch.setattr(loading._models, "from_pretrained", too_large)
    with pytest.raises(AuditError, match=r"does not fit .*: 9 tensors, the first is 'model\.layers\.2\."):
        load_language_model(str(saved), device="map")


@pytest.mark.parametrize(("dtype", "expected"), [("float32", torch.float32), ("bfloat16", torch.bfloat16)])
def test_the_dtype_can_be_chosen(saved: Path, dtype: str, expected: torch.dtype) -> None:
    assert load_language_model(str(saved), device="cpu", dtype=dtype).dtype == expected


def test_pocket_models_are_stored_in_float16_and_loaded_in_float32(
    saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(saved, tmp_path / "pocket-tiny")
    for module in (loading, pocket):
        monkeypatch.setattr(module, "POCKET_WEIGHTS", tmp_path)
    assert pocket_names() == ("pocket-tiny",)
    lm = load_language_model("pocket-tiny", device="cpu")
    assert (lm.name, lm.dtype) == ("pocket-tiny", torch.float32)
    assert load_language_model("pocket-tiny", device="cpu", dtype="float16").dtype == torch.float16
    with pytest.raises(AuditError, match="no pocket model 'pocket-huge'; choose one of: pocket-tiny"):
        load_language_model("pocket-huge")


def test_a_hub_model_is_pinned_to_its_commit(saved: Path, hub_cache: Path) -> None:
    put_in_cache(hub_cache, "some-lab/tiny", saved)
    for revision in (None, "main", COMMIT):
        lm = load_language_model("some-lab/tiny", revision=revision, device="cpu")
        assert (lm.name, lm.revision) == ("some-lab/tiny", COMMIT)
    assert weights_fingerprint(lm) == weights_fingerprint(build_tiny_llama(dtype=torch.float16))


@pytest.mark.parametrize(("name", "revision"), [("some-lab/absent", None), ("some-lab/tiny", "v2"), ("gpt2", None)])
def test_a_hub_model_that_is_not_cached_is_refused_offline(
    saved: Path, hub_cache: Path, name: str, revision: str | None
) -> None:
    put_in_cache(hub_cache, "some-lab/tiny", saved)
    with pytest.raises(
        AuditError, match=f"{name}'.* is not in the local cache and the hub cannot be reached"
    ) as caught:
        load_language_model(name, revision=revision, device="cpu")
    assert "HF_HUB_OFFLINE" in str(caught.value)
    assert revision is None or repr(revision) in str(caught.value)


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("./absent", "there is no model folder './absent'"),
        ("/absent/model", "there is no model folder '/absent/model'"),
        ("a/b/c", "there is no model folder 'a/b/c'"),
        ("absent.gguf", "there is no GGUF file 'absent.gguf'; name an existing folder or GGUF file, a hub id or one"),
        ("lab/absent.gguf", "there is no GGUF file 'lab/absent.gguf'"),
        ("two words", "'two words' is neither a folder, a GGUF file nor a hub id"),
    ],
)
def test_a_name_that_does_not_exist_is_refused(name: str, complaint: str) -> None:
    with pytest.raises(AuditError, match=complaint):
        load_language_model(name, device="cpu")


def test_a_folder_without_a_model_and_a_revision_of_a_folder_are_refused(saved: Path, tmp_path: Path) -> None:
    with pytest.raises(AuditError, match=r"has no config\.json"):
        load_language_model(str(tmp_path))
    with pytest.raises(AuditError, match="is a local folder and has no revision 'main'"):
        load_language_model(str(saved), revision="main")


def test_pickle_weights_are_refused_unless_allowed(copy: Path) -> None:
    weights = load_file(copy / "model.safetensors")
    (copy / "model.safetensors").unlink()
    torch.save(weights, copy / "pytorch_model.bin")
    with pytest.raises(AuditError, match=r"are stored as a pickle \(pytorch_model.bin\)"):
        load_language_model(str(copy), device="cpu")
    lm = load_language_model(str(copy), device="cpu", allow_pickle_weights=True)
    assert weights_fingerprint(lm) == weights_fingerprint(build_tiny_llama(dtype=torch.float16))


def test_missing_weights_are_not_initialized_randomly(copy: Path) -> None:
    weights = load_file(copy / "model.safetensors")
    del weights["model.layers.1.mlp.down_proj.weight"]
    save_file(weights, copy / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(
        AuditError, match=r"1 tensors are missing, the first is 'model\.layers\.1\.mlp\.down_proj\.weight'"
    ):
        load_language_model(str(copy), device="cpu")


def test_an_invalid_config_is_refused(copy: Path) -> None:
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(config | {"num_attention_heads": 5}))
    with pytest.raises(AuditError, match=r"the config\.json of .* cannot be read \(Class validation error"):
        load_language_model(str(copy), device="cpu")


def test_weights_of_another_shape_are_refused(copy: Path) -> None:
    weights = load_file(copy / "model.safetensors")
    weights["model.norm.weight"] = torch.ones(7)
    save_file(weights, copy / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(AuditError, match=r"model\.norm\.weight of .* has the shape \(7,\), but .* \(32,\)"):
        load_language_model(str(copy), device="cpu")


def test_a_truncated_file_is_refused(copy: Path) -> None:
    weights = (copy / "model.safetensors").read_bytes()
    (copy / "model.safetensors").write_bytes(weights[: len(weights) // 2])
    with pytest.raises(AuditError, match="cannot be read as safetensors"):
        load_language_model(str(copy), device="cpu")


def test_a_models_own_code_is_never_run(copy: Path) -> None:
    ran = copy / "ran"
    (copy / "surprise.py").write_text(f"import pathlib\npathlib.Path({str(ran)!r}).touch()\nclass Surprise: ...\n")
    config = json.loads((copy / "config.json").read_text())
    config |= {"model_type": "surprise", "auto_map": {"AutoModelForCausalLM": "surprise.Surprise"}}
    (copy / "config.json").write_text(json.dumps(config))
    with pytest.raises(AuditError, match=r"the config\.json of .* cannot be read .*`surprise`"):
        load_language_model(str(copy), device="cpu")
    assert not ran.exists()


def test_a_missing_tokenizer_is_refused(copy: Path) -> None:
    for file in copy.glob("tokenizer*"):
        file.unlink()
    with pytest.raises(AuditError, match=r"the tokenizer of .* cannot be read"):
        load_language_model(str(copy), device="cpu")


def test_a_tokenizer_of_another_model_is_refused(copy: Path) -> None:
    build_tokenizer("metaspace").save_pretrained(copy)
    with pytest.raises(AuditError, match="has 500 tokens, but the model has embeddings for only 400"):
        load_language_model(str(copy), device="cpu")


@pytest.mark.parametrize("dtype", ["int8", "half", ""])
def test_an_unknown_dtype_is_refused(saved: Path, dtype: str) -> None:
    with pytest.raises(AuditError, match=f"the dtype '{dtype}' is unknown; choose auto, float32, bfloat16, float16"):
        load_language_model(str(saved), dtype=dtype)


@pytest.mark.parametrize("device", ["tpu", "cuda:99", ""])
def test_an_unavailable_device_is_refused(saved: Path, device: str) -> None:
    with pytest.raises(AuditError, match=f"the device '{device}' cannot be used here"):
        load_language_model(str(saved), device=device)
