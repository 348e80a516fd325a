"""Measure the peak resident memory of one MEMIT batch.

    python -m benchmarks.editing_memory gpt2-small FOLDER

FOLDER holds moments.safetensors, one C for each layer. The program prints a JSON object: the peak above the memory that
was resident before the model was built, and the size of the weights, both in MB. `benchmarks.editing` starts it.
"""

import json
import resource
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file

from audit.editors.methods.memit import Memit
from audit.edits.sources import load_requests
from audit.models.loading import load_language_model, pocket_names
from benchmarks.random_models import RANDOM_SETTINGS, build, published_contexts

STEPS = {"steps": "3"}  # memory does not grow with them


@dataclass(frozen=True)
class MemoryUse:
    """In MB; `peak_mb` counts the weights."""

    peak_mb: float
    weights_mb: float
    note: str


def measure(shape: str, folder: Path, count: int = 100) -> MemoryUse:
    """Edit once, with C read from `folder`."""
    torch.set_num_threads(1)
    requests = load_requests("pocket").draw(count, 0).requests
    contexts = published_contexts()[1]
    before = int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    if shape in pocket_names():
        lm = load_language_model(shape, device="cpu")
        editor = Memit(STEPS, moments=_moments(folder))
    else:
        lm = build(shape, "cpu", torch.float32)
        editor = Memit(dict(RANDOM_SETTINGS) | STEPS, contexts=contexts, moments=_moments(folder))
    weights = sum(parameter.nbytes for parameter in lm.model.parameters())
    editor.edit(lm, requests)
    peak = _peak_bytes()
    settings = editor.settings(lm)
    note = f"{count} requests, token_budget {settings.token_budget}, C given for layers {settings.layers}"
    return MemoryUse((peak - before) / 1e6, weights / 1e6, note)


def _peak_bytes() -> int:
    """The peak resident memory of this process.

    `getrusage` does not fit: its peak starts at the peak of the parent process.
    """
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    (peak,) = [line.split()[1] for line in lines if line.startswith("VmHWM:")]
    return int(peak) * 1024  # Linux counts in KiB


def _moments(folder: Path) -> dict[int, torch.Tensor]:
    return {int(layer): C for layer, C in load_file(folder / "moments.safetensors").items()}


if __name__ == "__main__":
    print(json.dumps(asdict(measure(sys.argv[1], Path(sys.argv[2])))))
