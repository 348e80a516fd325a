"""ROME and MEMIT against numbers from the authors' code (see golden/README.md).

`AUDIT_GOLDEN=FOLDER` runs the same tests on another set of numbers: layers, settings and groups come from its files.
"""

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from audit.editors.methods.memit import Memit
from audit.editors.methods.rome import Rome
from audit.editors.stages.keys import Contexts
from audit.editors.stages.values import optimize_values
from audit.edits.requests import EditRequest
from audit.models.language_model import LanguageModel
from audit.models.loading import load_language_model
from audit.models.patches import LowRankDelta, WeightPatch, originals_kept
from tests.editors.plain import relative_error, weights_of

GOLDEN = Path(os.environ.get("AUDIT_GOLDEN") or Path(__file__).resolve().parents[2] / "golden")
BAR = 1e-3  # relative error of each tensor

ROME_SETTINGS: dict[str, Any] = json.loads((GOLDEN / "rome.json").read_text(encoding="utf-8"))
MEMIT_SETTINGS: dict[str, Any] = json.loads((GOLDEN / "memit.json").read_text(encoding="utf-8"))
REQUESTS = tuple(
    EditRequest(str(row["case_id"]), row["subject"], row["prompt"], row["target_new"]["str"])
    for row in ROME_SETTINGS["requests"]
)


ROME_LAYER, MEMIT_LAYERS = ROME_SETTINGS["hparams"]["layers"][0], MEMIT_SETTINGS["hparams"]["layers"]
with safe_open(GOLDEN / "memit.safetensors", framework="pt") as numbers:
    # "batch8.3.delta": eight requests at once; "sequential4x2.3.delta": four at a time
    GROUPS = sorted({found[0] for key in numbers.keys() if (found := re.match(r"(?:batch|sequential)\d+", key))})  # noqa: SIM118


def config_from(official: dict[str, Any]) -> dict[str, str]:
    """Our settings for the official hyperparameters."""
    hparams = official["hparams"]
    return {
        "steps": str(hparams["v_num_grad_steps"]),
        "learning_rate": str(hparams["v_lr"]),
        "weight_decay": str(hparams["v_weight_decay"]),
        "kl_factor": str(hparams["kl_factor"]),
        "clamp_norm_factor": str(hparams["clamp_norm_factor"]),
    }


@pytest.fixture(scope="module")
def lm() -> LanguageModel:
    return load_language_model(str(GOLDEN / "model"), device="cpu", dtype="float32")


@pytest.fixture(scope="module")
def moments() -> dict[int, Tensor]:
    tensors = load_file(GOLDEN / "covariance.safetensors")
    return {int(name.removeprefix("cov.")): C for name, C in tensors.items()}


@pytest.fixture(scope="module")
def rome(moments: dict[int, Tensor]) -> Rome:
    prefixes = tuple(template.removesuffix("{}") for template in ROME_SETTINGS["context_templates"])
    config = config_from(ROME_SETTINGS) | {"layer": str(ROME_LAYER)}
    return Rome(config, contexts=Contexts((prefixes,)), moments=moments)


@pytest.fixture(scope="module")
def memit(moments: dict[int, Tensor]) -> Memit:
    bare, *others = (template.removesuffix("{}") for template in MEMIT_SETTINGS["context_templates"])
    hparams = MEMIT_SETTINGS["hparams"]
    config = config_from(MEMIT_SETTINGS) | {
        "layers": ",".join(map(str, MEMIT_LAYERS)),
        "covariance_weight": str(hparams["mom2_update_weight"]),
    }
    return Memit(config, contexts=Contexts(((bare,), tuple(others))), moments=moments)


@pytest.fixture(scope="module")
def rome_numbers() -> dict[str, Tensor]:
    return load_file(GOLDEN / "rome.safetensors")


@pytest.fixture(scope="module")
def memit_numbers() -> dict[str, Tensor]:
    return load_file(GOLDEN / "memit.safetensors")


@pytest.mark.parametrize("index", range(len(REQUESTS)))
def test_rome_single_edit(index: int, lm: LanguageModel, rome: Rome, rome_numbers: dict[str, Tensor]) -> None:
    patch = rome.edit(lm, [REQUESTS[index]])
    assert isinstance(patch, WeightPatch)
    (delta,) = patch.deltas.values()
    assert isinstance(delta, LowRankDelta)
    assert relative_error(delta.right[0], rome_numbers[f"single.{index}.u"]) < BAR
    assert relative_error(delta.left[:, 0], rome_numbers[f"single.{index}.v"]) < BAR


def test_rome_edits_in_sequence(lm: LanguageModel, rome: Rome, rome_numbers: dict[str, Tensor]) -> None:
    name = lm.anatomy.weight_name(ROME_LAYER)
    (before,) = weights_of(lm, [name])
    with originals_kept(lm) as originals:
        for request in REQUESTS:
            rome.edit(lm, [request]).write(lm, originals)
        assert relative_error(lm.model.get_parameter(name) - before, rome_numbers["sequential.delta"]) < BAR
    assert torch.equal(lm.model.get_parameter(name), before)


def test_memit_targets(lm: LanguageModel, memit: Memit, memit_numbers: dict[str, Tensor]) -> None:
    values = optimize_values(
        lm, REQUESTS, memit.contexts(lm), layer=MEMIT_LAYERS[-1], site="block", settings=memit.settings(lm)
    )
    for index, target in enumerate(values.targets):
        assert relative_error(target, memit_numbers[f"z.{index}"]) < BAR


@pytest.mark.parametrize("group", GROUPS)
def test_memit_batches(group: str, lm: LanguageModel, memit: Memit, memit_numbers: dict[str, Tensor]) -> None:
    key = next(name.partition(".")[0] for name in memit_numbers if name.startswith(group))
    size = int(re.sub(r"\D", "", group))
    layers = memit.settings(lm).layers
    names = [lm.anatomy.weight_name(layer) for layer in layers]
    before = weights_of(lm, names)
    with originals_kept(lm) as originals:
        for start in range(0, len(REQUESTS), size):
            memit.edit(lm, REQUESTS[start : start + size]).write(lm, originals)
        for layer, name, weight in zip(layers, names, before, strict=True):
            change = lm.model.get_parameter(name) - weight
            assert relative_error(change, memit_numbers[f"{key}.{layer}.delta"]) < BAR
