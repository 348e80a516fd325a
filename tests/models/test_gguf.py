"""GGUF files: what is converted computes what the original does, once, and a broken file gets one sentence."""

import struct
from pathlib import Path

import pytest
import torch

from audit.errors import AuditError
from audit.models.checkpoints import read_checkpoint
from audit.models.gguf import check_gguf, converted_gguf, gguf_file
from audit.models.loading import load_language_model
from audit.models.patches import WeightPatch
from audit.store.content import Store
from tests.models.gguf_files import write_gguf
from tests.tiny_models import build_tiny_llama

TEXT = "Mara Lind was born in Velden."


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_gguf(build_tiny_llama(), tmp_path_factory.mktemp("gguf") / "tiny.gguf")


def test_a_converted_model_computes_what_the_original_does(file: Path, tmp_path: Path) -> None:
    original, found = build_tiny_llama(), load_language_model(str(converted_gguf(file, Store(tmp_path))))
    ids = original.tokenizer(TEXT, return_tensors="pt").input_ids
    assert found.tokenizer(TEXT, return_tensors="pt").input_ids.tolist() == ids.tolist()
    assert torch.allclose(found.model(ids).logits, original.model(ids).logits, atol=1e-5)
    assert found.tokenizer.chat_template and found.model.dtype == torch.float32


def test_a_file_is_converted_once(file: Path, tmp_path: Path) -> None:
    folder = converted_gguf(file, Store(tmp_path))
    before = (folder / "model.safetensors").stat().st_mtime_ns
    assert converted_gguf(file, Store(tmp_path)) == folder
    assert (folder / "model.safetensors").stat().st_mtime_ns == before
    (folder / "model.safetensors").write_bytes(b"cut off")
    assert load_language_model(str(converted_gguf(file, Store(tmp_path)))).model.dtype == torch.float32


def test_a_folder_means_its_only_gguf_file(file: Path, tmp_path: Path) -> None:
    (tmp_path / "one.gguf").write_bytes(file.read_bytes())
    assert gguf_file(tmp_path) == tmp_path / "one.gguf" == gguf_file(tmp_path / "one.gguf")
    (tmp_path / "two.gguf").write_bytes(b"")
    with pytest.raises(AuditError, match="2 GGUF files"):
        gguf_file(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    assert gguf_file(tmp_path) is None is gguf_file(tmp_path / "none.gguf")


def test_the_header_is_read(file: Path) -> None:
    header = check_gguf(file)
    assert header.architecture == "llama" and header.metadata["llama.embedding_length"] == 32
    assert header.shapes["blk.0.ffn_down.weight"][1] == 32


def _changed(data: bytes, at: int, kind: str, value: int) -> bytes:
    return data[:at] + struct.pack(f"<{kind}", value) + data[at + struct.calcsize(f"<{kind}") :]


BROKEN = {
    "empty": lambda data: b"",
    "another format": lambda data: b"PK\x03\x04" + data[4:],
    "version": lambda data: _changed(data, 4, "I", 99),
    "tensors": lambda data: _changed(data, 8, "Q", 2**60),
    "pairs": lambda data: _changed(data, 16, "Q", 2**60),
    "key": lambda data: _changed(data, 24, "Q", 2**63),
    "header cut off": lambda data: data[:500],
    "weights cut off": lambda data: data[:-1000],
    "tensor type": lambda data: _changed(data, _after(data, b"blk.0.attn_q.weight") + 20, "I", 77),
    "dimensions": lambda data: _changed(data, _after(data, b"blk.0.attn_q.weight"), "I", 2**31),
    "shape": lambda data: _changed(data, _after(data, b"blk.0.attn_q.weight") + 4, "Q", 2**62),
    "offset": lambda data: _changed(data, _after(data, b"blk.0.attn_q.weight") + 24, "Q", 2**62),
    "array": lambda data: _changed(data, _after(data, b"tokenizer.ggml.tokens") + 8, "Q", 2**61),
    "value type": lambda data: _changed(data, _after(data, b"tokenizer.ggml.model"), "I", 55),
    "not text": lambda data: data.replace(b"llama.block_count", b"\xff\xfe\xfd\xfc\xfb.block_count", 1),
}


def _after(data: bytes, name: bytes) -> int:
    return data.index(name) + len(name)


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_file_gets_one_sentence(kind: str, file: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(BROKEN[kind](file.read_bytes()))
    with pytest.raises(AuditError, match=r"broken\.gguf") as caught:
        converted_gguf(broken, Store(tmp_path / "store"))
    assert "\n" not in str(caught.value)
    assert not list((tmp_path / "store").rglob("*.safetensors"))


def test_a_gguf_file_is_a_model_and_an_edited_checkpoint(file: Path, tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    lm = load_language_model(str(file), device="cpu", store=store)
    assert lm.name == str(file)
    edited = build_tiny_llama()
    with torch.no_grad():
        edited.model.get_parameter("model.layers.1.mlp.down_proj.weight").add_(0.5)
    other = write_gguf(edited, tmp_path / "edited.gguf")
    patch = read_checkpoint(lm, str(other), store=store)
    assert isinstance(patch, WeightPatch) and set(patch.deltas) == {"model.layers.1.mlp.down_proj.weight"}
    assert len(list((store.root / "models").glob("gguf-*/config.json"))) == 2
    with pytest.raises(AuditError, match="is a local file and has no revision"):
        load_language_model(str(file), revision="main")


def test_without_a_store_a_file_is_converted_into_a_folder_that_does_not_stay(file: Path) -> None:
    folder = converted_gguf(file, None)
    assert folder == converted_gguf(file, None) and (folder / "config.json").is_file()
