"""GGUF files: what is converted computes what the original does, once, and a broken file gets one sentence."""

import errno
import os
import resource
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from gguf import GGMLQuantizationType

from audit.errors import AuditError
from audit.models.checkpoints import open_checkpoint, read_checkpoint
from audit.models.files.gguf import converted_gguf, gguf_file
from audit.models.files.gguf_header import check_gguf
from audit.models.loading import load_language_model
from audit.models.patches import WeightPatch
from audit.store.content import ABANDONED_AFTER, Store
from tests.models.gguf_files import write_gguf
from tests.tiny_models import build_tiny_llama

ROOT = Path(__file__).resolve().parents[3]
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


@pytest.mark.parametrize(
    ("kind", "stored_as", "quantized_as"),
    [
        ("F32", torch.float32, ""),
        ("F16", torch.float16, ""),
        ("BF16", torch.bfloat16, ""),
        ("Q8_0", torch.float32, "Q8_0"),
    ],
)
def test_a_checkpoint_says_how_its_file_stores_the_weights(
    kind: str, stored_as: torch.dtype, quantized_as: str, file: Path, tmp_path: Path
) -> None:
    other = write_gguf(build_tiny_llama(), tmp_path / "other.gguf", GGMLQuantizationType[kind])
    store = Store(tmp_path / "store")
    read = open_checkpoint(load_language_model(str(file), store=store), str(other), store=store)
    assert (read.stored_as, read.quantized_as, read.identical) == (stored_as, quantized_as, kind == "F32")
    lm = load_language_model(str(other), store=store)
    assert lm.quantized_as == quantized_as and open_checkpoint(lm, str(other), store=store).identical


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
    "parts": lambda data: _with_pair(data, "split.count", struct.pack("<IH", 2, 3)),
    "parts as text": lambda data: _with_pair(data, "split.count", _text("3")),
    "parts as array": lambda data: _with_pair(data, "split.count", struct.pack("<IIQH", 9, 2, 1, 3)),
    "alignment as text": lambda data: _with_pair(data, "general.alignment", _text("32")),
    "not text": lambda data: data.replace(b"llama.block_count", b"\xff\xfe\xfd\xfc\xfb.block_count", 1),
}


REMEDIES = {
    "another format": "; name a GGUF file, or fetch it again.",
    "version": "; convert the original model again with a current llama.cpp.",
    "tensor type": "; install a newer gguf package, or fetch it again.",
    "parts": " is one of 3 parts; join them with `llama-gguf-split --merge`.",
    "parts as text": "split.count is '3', not a whole number; fetch it again.",
    "parts as array": "split.count is an array, not a whole number; fetch it again.",
    "alignment as text": "general.alignment is '32', not a whole number; fetch it again.",
}


def _with_pair(data: bytes, key: str, value: bytes) -> bytes:
    """The file with one more pair of metadata; `value` begins with the number of its type."""
    pair = struct.pack("<Q", len(key)) + key.encode() + value
    return data[:16] + struct.pack("<Q", struct.unpack("<Q", data[16:24])[0] + 1) + pair + data[24:]


def _text(value: str) -> bytes:
    return struct.pack("<IQ", 8, len(value)) + value.encode()


def _after(data: bytes, name: bytes) -> int:
    return data.index(name) + len(name)


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_file_gets_one_sentence(kind: str, file: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(BROKEN[kind](file.read_bytes()))
    with pytest.raises(AuditError, match=r"broken\.gguf") as caught:
        converted_gguf(broken, Store(tmp_path / "store"))
    assert "\n" not in str(caught.value)
    assert str(caught.value).endswith(REMEDIES.get(kind, "; fetch it again."))
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


WITHOUT_STORE = """
import sys
from pathlib import Path
from audit.models.files.gguf import converted_gguf

folders = [converted_gguf(Path(sys.argv[1]), None) for _ in range(2)]
assert all((folder / "config.json").is_file() for folder in folders)
sys.stdout.write("\\n".join(map(str, folders)))
"""


def test_without_a_store_a_file_is_converted_into_folders_that_do_not_stay(file: Path) -> None:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", WITHOUT_STORE, str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    one, other = map(Path, done.stdout.splitlines())
    assert one != other and not one.parent.exists() and not other.parent.exists()


@pytest.mark.parametrize("in_store", [True, False])
def test_a_disk_without_room_gets_one_sentence(in_store: bool, file: Path, tmp_path: Path) -> None:
    store = Store(tmp_path / "store") if in_store else None
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, before[1]))
    try:
        with pytest.raises(AuditError, match=r"(files|store at .* used) \(File too large\); free some space") as caught:
            converted_gguf(file, store)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert ("AUDIT_STORE" if in_store else "TMPDIR") in str(caught.value)
    assert not list(tmp_path.rglob("*.tmp"))


@pytest.mark.parametrize("in_store", [True, False])
def test_a_file_that_may_not_be_read_gets_one_sentence(
    in_store: bool, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    monkeypatch.setattr("builtins.open", refuse)
    with pytest.raises(AuditError, match=r"tiny\.gguf' cannot be read \(Permission denied\); check its permissions"):
        converted_gguf(file, Store(tmp_path / "store") if in_store else None)


CONVERT_FOR_EVER = """
import sys, time
from pathlib import Path
from audit.models.files import gguf
from audit.store.content import Store

def write(file, header, folder):
    (folder / "model.safetensors").touch()
    Path(sys.argv[3]).touch()
    time.sleep(600)

gguf._write_converted = write
gguf.converted_gguf(Path(sys.argv[1]), Store(Path(sys.argv[2])))
"""


def test_the_folder_of_a_killed_conversion_is_deleted_and_one_in_use_is_not(file: Path, tmp_path: Path) -> None:
    store, ready, other = Store(tmp_path / "store"), tmp_path / "ready", tmp_path / "other.gguf"
    write_gguf(build_tiny_llama(seed=1), other)
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", CONVERT_FOR_EVER, str(other), str(store.root), str(ready)]
    with subprocess.Popen(command, env=environment) as running:
        try:
            deadline = time.monotonic() + 120
            while not ready.exists():
                assert time.monotonic() < deadline and running.poll() is None
                time.sleep(0.01)
            [draft] = (store.root / "models").glob("gguf-*.tmp")
            past = time.time() - 10 * ABANDONED_AFTER  # a large model takes long
            os.utime(draft, (past, past))
            converted_gguf(file, store)
            assert (draft / "model.safetensors").exists()
        finally:
            running.kill()
    converted_gguf(file, store)
    assert not draft.exists()
    assert len(list((store.root / "models").glob("gguf-*/config.json"))) == 1
