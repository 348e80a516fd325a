"""Other people's model folders: whatever is wrong in them becomes one sentence with the file and the field."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from audit.errors import AuditError
from audit.models.checkpoints import open_checkpoint
from audit.models.files import tokenizer_files
from audit.models.loading import load_language_model
from tests.models.saved_models import COMMIT, put_in_cache, save
from tests.tiny_models import build_tiny_gpt2, build_tiny_llama

DEEP = "[" * 100_000 + "]" * 100_000


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(build_tiny_llama(), tmp_path_factory.mktemp("model") / "llama")


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    return shutil.copytree(saved, tmp_path / "copy")


def fields(file: str, **values: Any) -> Callable[[Path], object]:
    """Set fields of a JSON file."""

    def change(folder: Path) -> None:
        content = json.loads((folder / file).read_text()) if (folder / file).exists() else {}
        (folder / file).write_text(json.dumps(content | values))

    return change


def text(file: str, content: str) -> Callable[[Path], object]:
    return lambda folder: (folder / file).write_text(content)


def tensors(change: Callable[[dict[str, torch.Tensor]], object]) -> Callable[[Path], object]:
    def write(folder: Path) -> None:
        held = load_file(folder / "model.safetensors")
        change(held)
        save_file(held, folder / "model.safetensors", metadata={"format": "pt"})

    return write


MALFORMED: dict[str, tuple[Callable[[Path], object], str]] = {
    "config list": (text("config.json", "[1]"), r"config\.json .* is a list, not an object"),
    "config true": (text("config.json", "true"), r"config\.json .* is true or false, not an object"),
    "config number": (text("config.json", "7"), r"config\.json .* is a number, not an object"),
    "config null": (text("config.json", "null"), r"config\.json .* is null, not an object"),
    "config deep": (text("config.json", DEEP), r"config\.json .* nested too deeply"),
    "config not JSON": (text("config.json", "{"), r"config\.json .* cannot be read"),
    "config binary": (
        lambda folder: (folder / "config.json").write_bytes(b"\xff\xfe"),
        r"config\.json .* cannot be read",
    ),
    "no heads": (fields("config.json", num_attention_heads=0), "has num_attention_heads 0; .* at least 1"),
    "no key-value heads": (fields("config.json", num_key_value_heads=0), "has num_key_value_heads 0"),
    "a million layers": (fields("config.json", num_hidden_layers=1_000_000), "has num_hidden_layers 1000000"),
    "more layers than stored": (
        fields("config.json", num_hidden_layers=40),
        "has num_hidden_layers 40, but .* 3 layers",
    ),
    "fewer layers than stored": (
        fields("config.json", num_hidden_layers=2),
        r"config\.json .* has num_hidden_layers 2, but its weights hold 3 layers; copy the whole folder again",
    ),
    "huge width": (fields("config.json", hidden_size=2**30, head_dim=8), "copy the whole folder again"),
    "huge vocabulary": (fields("config.json", vocab_size=2**40), "copy the whole folder again"),
    "vocabulary beyond integers": (
        fields("config.json", vocab_size=10**30),
        r"config\.json .* has vocab_size 10+; it must be below 2\^63",
    ),
    "a product beyond integers": (
        fields("config.json", vocab_size=2**62, hidden_size=2**62),
        r"config\.json of .* cannot be read",
    ),
    "activation": (
        fields("config.json", hidden_act="evil"),
        r"config\.json .* has hidden_act 'evil'; it must be a name that transformers knows",
    ),
    "auto map": (fields("config.json", auto_map=7), r"config\.json .* has auto_map 7; it must be an object"),
    "auto map name": (
        fields("config.json", auto_map={"AutoModelForCausalLM": 7}),
        r"config\.json .* has auto_map \{'AutoModelForCausalLM': 7\}; it must be an object",
    ),
    "labels list": (fields("config.json", id2label=[1]), r"config\.json .* has id2label \[1\]; it must be an object"),
    "labels without numbers": (
        fields("config.json", id2label={"x": "y"}),
        r"config\.json .* has id2label \{'x': 'y'\}; it must be an object",
    ),
    "layers list": (fields("config.json", num_hidden_layers=[3]), r"config\.json of .* cannot be read"),
    "further layers text": (
        fields("config.json", num_hidden_layers=2, num_nextn_predict_layers="x"),
        "has num_hidden_layers 2, but its weights hold 3 layers",
    ),
    "negative size": (fields("config.json", hidden_size=-32), "has hidden_size -32"),
    "text for a size": (fields("config.json", hidden_size="32"), "has hidden_size '32'"),
    "true for a size": (fields("config.json", vocab_size=True), "has vocab_size True"),
    "dtype": (fields("config.json", dtype="evil"), "has dtype 'evil'; .* a dtype of torch"),
    "torch_dtype": (fields("config.json", torch_dtype="load"), "has torch_dtype 'load'"),
    "pad token": (
        fields("config.json", pad_token_id=10**9),
        "has pad_token_id 1000000000; .* below its vocab_size, 400",
    ),
    "pad token text": (fields("config.json", pad_token_id="x"), "has pad_token_id 'x'"),
    "model type list": (fields("config.json", model_type=["a"]), r"has model_type \['a'\]"),
    "model type unknown": (
        fields("config.json", model_type="nothing"),
        r"the config\.json of .* cannot be read .*nothing",
    ),
    "quantization text": (fields("config.json", quantization_config="x"), "has quantization_config 'x'"),
    "generation list": (text("generation_config.json", "[]"), r"generation_config\.json .* is a list"),
    "generation nested": (fields("generation_config.json", eos_token_id=[[1]]), r"has eos_token_id \[\[1\]\]"),
    "generation deep": (text("generation_config.json", DEEP), r"generation_config\.json .* nested too deeply"),
    "tokenizer config list": (text("tokenizer_config.json", "[]"), r"tokenizer_config\.json .* is a list"),
    "special token": (fields("tokenizer_config.json", eos_token={"a": 1}), r"has eos_token \{'a': 1\}"),
    "special token number": (fields("tokenizer_config.json", bos_token=3), "has bos_token 3"),
    "tokenizer length": (
        fields("tokenizer_config.json", model_max_length="x"),
        r"tokenizer_config\.json .* has model_max_length 'x'; it must be a number",
    ),
    "tokenizer class": (fields("tokenizer_config.json", tokenizer_class=7), "has tokenizer_class 7; .* the name of a"),
    "tokenizer map": (fields("tokenizer_config.json", auto_map=7), r"tokenizer_config\.json .* has auto_map 7"),
    "added tokens list": (
        fields("tokenizer_config.json", added_tokens_decoder=[]),
        r"tokenizer_config\.json .* has added_tokens_decoder \[\]; it must be an object",
    ),
    "tokenizer deep": (text("tokenizer.json", DEEP), r"the tokenizer\.json of .* cannot be read .*nested too deeply"),
    "tokenizer list": (text("tokenizer.json", "[]"), r"the tokenizer\.json of .* is a list, not an object"),
    "tokenizer empty": (text("tokenizer.json", "{}"), r"the tokenizer\.json of .* has no model; copy it again"),
    "tokenizer model": (
        text("tokenizer.json", '{"model": 7, "added_tokens": []}'),
        r"the tokenizer\.json of .* has model 7; it must be an object",
    ),
    "tokenizer tokens": (
        text("tokenizer.json", '{"model": {"type": "BPE", "vocab": {}, "merges": []}}'),
        r"the tokenizer\.json of .* has no added_tokens; copy it again",
    ),
    "special tokens list": (text("special_tokens_map.json", "[]"), r"special_tokens_map\.json of .* is a list"),
    "special tokens number": (
        text("special_tokens_map.json", '{"eos_token": 7}'),
        r"special_tokens_map\.json of .* has eos_token 7; it must be a text",
    ),
    "more tokens list": (text("added_tokens.json", "[]"), r"added_tokens\.json of .* is a list, not an object"),
    "more tokens text": (
        text("added_tokens.json", '{"a": "x"}'),
        r"added_tokens\.json of .* has a 'x'; it must be a token id",
    ),
    "other shape": (
        tensors(lambda held: held.update({"model.norm.weight": torch.ones(7)})),
        r"model\.norm\.weight .* has the shape \(7,\)",
    ),
}


@pytest.mark.parametrize("kind", MALFORMED)
def test_a_malformed_folder_is_one_sentence(kind: str, folder: Path) -> None:
    damage, said = MALFORMED[kind]
    damage(folder)
    with pytest.raises(AuditError, match=said) as caught:
        load_language_model(str(folder), device="cpu")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", [kind for kind in MALFORMED if not kind.startswith("generation")])
def test_a_malformed_checkpoint_is_one_sentence(kind: str, folder: Path) -> None:
    MALFORMED[kind][0](folder)
    with pytest.raises(AuditError) as caught:
        open_checkpoint(build_tiny_llama(), str(folder))
    assert "\n" not in str(caught.value)


def test_an_unknown_activation_of_gpt2_is_named(tmp_path: Path) -> None:
    folder = save(build_tiny_gpt2(), tmp_path / "gpt2")
    fields("config.json", activation_function="evil")(folder)
    with pytest.raises(AuditError, match=r"config\.json .* has activation_function 'evil'; it must be a name"):
        load_language_model(str(folder), device="cpu")


@pytest.mark.parametrize("prefix", ["transformer.h.", "h."])
def test_blocks_beyond_those_of_the_config_are_refused_whatever_their_prefix(prefix: str, tmp_path: Path) -> None:
    folder = save(build_tiny_gpt2(), tmp_path / "gpt2")
    depth = json.loads((folder / "config.json").read_text())["n_layer"]
    held = load_file(folder / "model.safetensors")
    named = {name.replace("transformer.h.", prefix): tensor for name, tensor in held.items()}
    save_file(named, folder / "model.safetensors", metadata={"format": "pt"})
    assert load_language_model(str(folder), device="cpu").anatomy.depth == depth
    fields("config.json", n_layer=depth - 1)(folder)
    with pytest.raises(AuditError, match=f"has n_layer {depth - 1}, but its weights hold {depth} layers"):
        load_language_model(str(folder), device="cpu")


def test_numbered_tensors_of_other_lists_are_no_blocks_too_many(folder: Path) -> None:
    other = {"vision_model.encoder.layers.7.norm.weight": torch.ones(4), "model.experts.9.weight": torch.ones(4)}
    tensors(lambda held: held.update(other))(folder)
    assert load_language_model(str(folder), device="cpu").anatomy.depth == 3


def test_blocks_that_predict_further_tokens_are_no_blocks_too_many(folder: Path) -> None:
    def add(held: dict[str, torch.Tensor]) -> None:
        last = {name: tensor for name, tensor in held.items() if name.startswith("model.layers.2.")}
        held.update({name.replace(".2.", ".3.", 1): tensor.clone() for name, tensor in last.items()})

    tensors(add)(folder)
    with pytest.raises(AuditError, match="has num_hidden_layers 3, but its weights hold 4 layers"):
        load_language_model(str(folder), device="cpu")
    fields("config.json", num_nextn_predict_layers=1)(folder)
    assert load_language_model(str(folder), device="cpu").anatomy.depth == 3


def _named(config: dict[str, Any], **stored: torch.Tensor) -> Callable[[Path], object]:
    def change(folder: Path) -> None:
        fields("config.json", **config)(folder)
        tensors(lambda held: held.update({f"model.layers.0.mlp.up_proj.{k}": v for k, v in stored.items()}))(folder)

    return change


QUANTIZED = {
    "int8": _named(
        {"quantization_config": {"quant_method": "bitsandbytes", "load_in_8bit": True}},
        weight=torch.zeros(48, 32, dtype=torch.int8),
        SCB=torch.zeros(48),
    ),
    "nf4": _named(
        {"quantization_config": {"quant_method": "bitsandbytes", "load_in_4bit": True}},
        weight=torch.zeros(768, 1, dtype=torch.uint8),
        absmax=torch.zeros(24),
    ),
    "gptq": _named(
        {"quantization_config": {"quant_method": "gptq", "bits": 4}}, qweight=torch.zeros(4, 48, dtype=torch.int32)
    ),
    "awq": _named({"quantization_config": {"quant_method": "awq"}}, qweight=torch.zeros(32, 6, dtype=torch.int32)),
    "compressed": _named(
        {"quantization_config": {"quant_method": "compressed-tensors"}},
        weight_packed=torch.zeros(48, 4, dtype=torch.int32),
    ),
    "fp8": _named(
        {"quantization_config": {"quant_method": "fp8"}}, weight=torch.zeros(48, 32, dtype=torch.float8_e4m3fn)
    ),
    "fp8 without a note": _named({}, weight=torch.zeros(48, 32, dtype=torch.float8_e4m3fn)),
}


@pytest.mark.parametrize("kind", QUANTIZED)
def test_a_quantized_model_is_named_before_it_is_loaded(
    kind: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    QUANTIZED[kind](folder)
    monkeypatch.setattr("audit.models.loading._models", None)
    for read in (
        lambda: load_language_model(str(folder), device="cpu"),
        lambda: open_checkpoint(build_tiny_llama(), str(folder)),
    ):
        with pytest.raises(AuditError, match=r"is a quantized checkpoint .* give the unquantized model") as caught:
            read()
        assert "\n" not in str(caught.value)


def test_a_quantized_hub_model_is_named_from_its_config(folder: Path, hub_cache: Path) -> None:
    fields("config.json", quantization_config={"quant_method": "gptq", "bits": 4})(folder)
    put_in_cache(hub_cache, "owner/model", folder)
    with pytest.raises(AuditError, match=r"'owner/model' is a quantized checkpoint \(gptq\)"):
        load_language_model("owner/model", device="cpu")
    assert COMMIT


def test_a_left_over_note_of_quantization_is_told_apart(folder: Path) -> None:
    fields("config.json", quantization_config={"quant_method": "bitsandbytes", "load_in_4bit": True})(folder)
    with pytest.raises(
        AuditError, match=r"quantization_config \(bitsandbytes, 4-bit\), but its weights are not quantized"
    ):
        load_language_model(str(folder), device="cpu")


def test_shards_without_their_index_are_named(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "model-00001-of-00002.safetensors")
    for read in (load_language_model, lambda name: open_checkpoint(build_tiny_llama(), name)):
        with pytest.raises(
            AuditError, match=r"shards, such as model-00001-of-00002.* but no model\.safetensors\.index"
        ):
            read(str(folder))


def test_weights_under_another_name_are_named(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "consolidated.safetensors")
    with pytest.raises(AuditError, match=r"has no model\.safetensors, but consolidated\.safetensors"):
        load_language_model(str(folder))


@pytest.mark.parametrize("adapter", [False, True])
def test_whole_weights_beside_an_adapter_are_not_guessed_at(adapter: bool, folder: Path) -> None:
    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "base_model_name_or_path": "x"}))
    if adapter:
        save_file({"a": torch.ones(1)}, folder / "adapter_model.safetensors")
    said = "move the adapter to a folder of its own" if adapter else r"delete the left-over adapter_config\.json"
    for read in (load_language_model, lambda name: open_checkpoint(build_tiny_llama(), name)):
        with pytest.raises(AuditError, match=said):
            read(str(folder))


def test_a_tokenizer_that_needs_sentencepiece_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "tokenizer.json").rename(folder / "tokenizer.model")
    monkeypatch.setattr(tokenizer_files, "find_spec", lambda name: None)
    with pytest.raises(AuditError, match="pip install sentencepiece"):
        load_language_model(str(folder), device="cpu")


def test_an_empty_tokenizer_is_named(folder: Path) -> None:
    empty = {"version": "1.0", "model": {"type": "BPE", "vocab": {}, "merges": []}, "added_tokens": []}
    (folder / "tokenizer.json").write_text(json.dumps(empty))
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "PreTrainedTokenizerFast"}))
    with pytest.raises(AuditError, match=r"the tokenizer of .* is empty \(0 tokens\)"):
        load_language_model(str(folder), device="cpu")


@pytest.mark.parametrize(
    "key",
    [{"_attn_implementation_autoset": True}, {"unsloth_fixed": True}, {"my_note": [1, 2]}, {"use_mambapy": False}],
)
def test_keys_that_the_config_class_does_not_declare_are_no_other_architecture(
    key: dict[str, Any], folder: Path
) -> None:
    fields("config.json", **key)(folder)
    assert open_checkpoint(build_tiny_llama(), str(folder)).identical


def test_a_declared_field_that_differs_is_another_architecture(folder: Path) -> None:
    fields("config.json", rms_norm_eps=0.5)(folder)
    with pytest.raises(AuditError, match=r"different architecture .* rms_norm_eps is 0\.5"):
        open_checkpoint(build_tiny_llama(), str(folder))


def test_a_mask_of_whole_numbers_is_no_quantized_weight(folder: Path) -> None:
    tensors(lambda held: held.update({"model.layers.0.self_attn.bias": torch.ones(4, 4, dtype=torch.uint8)}))(folder)
    assert load_language_model(str(folder), device="cpu").model.config.num_hidden_layers == 3
