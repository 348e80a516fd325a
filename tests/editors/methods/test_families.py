"""Every editor that writes weights, on every family of models."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from accelerate import dispatch_model
from accelerate.hooks import AlignDevicesHook, add_hook_to_module
from torch import Tensor

from audit.editors import load_editor
from audit.editors.contract import Editor
from audit.engine.sequences import essence_sequence, prompt_sequence
from audit.models.fingerprints import weights_fingerprint
from audit.models.language_model import LanguageModel
from audit.models.loading import load_language_model
from audit.models.patches import Patch, WeightPatch, load_patch
from audit.models.tokens import encode
from tests.editors.methods.test_mend import network_for
from tests.editors.plain import REQUESTS as WITHOUT_OLD_ANSWERS
from tests.editors.plain import relative_error
from tests.editors.tiny_families import FAMILIES, build_family

Families = Callable[[str], LanguageModel]

REQUESTS = tuple(replace(request, target_true="French") for request in WITHOUT_OLD_ANSWERS)  # KN needs it

QUICK_VALUES = {
    "steps": "3",
    "covariance": "identity",
    "context_lengths": "2",
    "contexts_per_length": "1",
    "stop_loss": "0",
}
ONE_LAYER = QUICK_VALUES | {"layer": "1"}
TUNED = {"layers": "1", "steps": "2", "learning_rate": "0.01"}
LAYERS = QUICK_VALUES | {"layers": "0,1", "covariance_weight": "1"}
EDITORS: dict[str, Mapping[str, str]] = {
    "rome": ONE_LAYER,
    "r-rome": ONE_LAYER,
    "memit": LAYERS,
    "memit-seq": LAYERS,
    "emmet": ONE_LAYER,
    "pmet": LAYERS,
    "alphaedit": QUICK_VALUES
    | {"layers": "0,1", "covariance": "pocket"}
    | {"covariance_tokens": "300", "null_space_share": "0.5"},
    "ultraedit": {"maps": "down:1", "learning_rate": "0.05"},
    "kn": {"steps": "2", "threshold": "0.3"},
    "mend": {},
    "ft": TUNED,
    "ft-l": TUNED | {"epsilon": "0.01"},
    "ft-bf": TUNED,
    "lora": TUNED | {"rank": "2"},
}


def quick(name: str, **config: str) -> Editor:
    return load_editor(name, {**EDITORS[name], **config})


def needs_of(editor: str, lm: LanguageModel, folder: Path) -> dict[str, str]:
    """Settings that an editor needs: for MEND, a network for this model, which may be untrained in these tests."""
    return {"weights": str(network_for(lm, folder / "network"))} if editor == "mend" else {}


@pytest.mark.parametrize("editor", EDITORS)
@pytest.mark.parametrize("family", FAMILIES)
def test_an_edit_can_be_applied_reverted_and_saved(
    family: str, editor: str, families: Families, tmp_path: Path
) -> None:
    lm = families(family)
    method = quick(editor, **needs_of(editor, lm, tmp_path))
    before, untouched, fingerprint = logits(lm), weights(lm), weights_fingerprint(lm)
    patch = method.edit(lm, REQUESTS[: 2 if method.batches else 1])
    assert weights_fingerprint(lm) == fingerprint

    with patch.applied(lm):
        after, changed = logits(lm), different(untouched, weights(lm))
    assert weights_fingerprint(lm) == fingerprint
    assert changed and changed <= named_by(patch, lm)
    assert bool(after.isfinite().all()) and float((after - before).abs().max()) > 1e-4

    patch.save(tmp_path / "patch")
    with load_patch(tmp_path / "patch").applied(lm):
        torch.testing.assert_close(logits(lm), after, rtol=0, atol=0)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_lookup_is_the_last_token_of_the_subject(family: str, families: Families) -> None:
    lm = families(family)
    for request in REQUESTS:
        for sequence in (prompt_sequence(lm, request), essence_sequence(lm, request)):
            read = lm.tokenizer.decode(sequence.until_lookup().ids)
            unfinished = lm.tokenizer.decode(sequence.ids[: sequence.lookup])
            assert read.endswith(request.subject)
            assert not unfinished.endswith(request.subject)


@pytest.mark.parametrize(("editor", "dtype"), [("rome", torch.float16), ("memit", torch.bfloat16)])
@pytest.mark.parametrize("family", FAMILIES)
def test_half_precision_is_edited_in_float32(family: str, editor: str, dtype: torch.dtype, families: Families) -> None:
    """Rounded weights give about the same update, which is itself in float32 or float64."""
    half = build_family(family, dtype)
    # Without prefix contexts, which the two precisions would sample differently.
    bare = quick(editor, contexts_per_length="0")
    rough, fine = (bare.edit(lm, REQUESTS[:1]) for lm in (half, families(family)))
    for name, change in changes(rough).items():
        assert change.dtype in (torch.float32, torch.float64) and bool(change.isfinite().all())
        assert torch.nn.functional.cosine_similarity(change.flatten(), changes(fine)[name].flatten(), dim=0) > 0.9
    before = weights_fingerprint(half)
    with rough.applied(half):
        assert half.model.get_parameter(half.anatomy.weight_name(1)).dtype == dtype
        assert bool(logits(half).isfinite().all())
        assert weights_fingerprint(half) != before
    assert weights_fingerprint(half) == before


@pytest.mark.parametrize("editor", EDITORS)
@pytest.mark.parametrize("family", ["gpt-2", "gemma-3", "falcon"])
def test_a_model_with_accelerates_hooks_is_edited_as_without(
    family: str, editor: str, families: Families, tmp_path: Path
) -> None:
    """Its hooks replace every module's forward and move the inputs to the module's device."""
    plain = families(family)
    plain.model.save_pretrained(tmp_path)
    plain.tokenizer.save_pretrained(tmp_path)
    hooked = load_language_model(str(tmp_path), device="map")
    dispatch_model(hooked.model, device_map={"": "cpu"}, force_hooks=True)
    assert hasattr(hooked.model.get_submodule(hooked.anatomy.blocks[0]), "_hf_hook")

    before = weights_fingerprint(hooked)
    method = quick(editor, **needs_of(editor, plain, tmp_path))
    patch, expected = (method.edit(lm, REQUESTS[:1]) for lm in (hooked, plain))
    for name, change in changes(patch).items():
        assert relative_error(change, changes(expected)[name]) < 1e-3
    with patch.applied(hooked), expected.applied(plain):
        torch.testing.assert_close(logits(hooked), logits(plain), rtol=1e-4, atol=1e-4)
    assert weights_fingerprint(hooked) == before


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a second device")
def test_a_model_on_two_devices_is_edited_as_on_one(families: Families, tmp_path: Path) -> None:
    plain, split = families("llama-3"), build_family("llama-3")
    for path in [*split.anatomy.blocks[1:], split.anatomy.final_norm, "lm_head"]:
        for part in split.model.get_submodule(path).to("cuda").modules():
            add_hook_to_module(part, AlignDevicesHook("cuda"))
    for editor in EDITORS:
        bare = {"contexts_per_length": "0"} if "contexts_per_length" in EDITORS[editor] else {}
        method = quick(editor, **bare, **needs_of(editor, plain, tmp_path / editor))
        patch, expected = (method.edit(lm, REQUESTS[:1]) for lm in (split, plain))
        with patch.applied(split), expected.applied(plain):
            torch.testing.assert_close(logits(split).cpu(), logits(plain), rtol=1e-2, atol=1e-2)


def logits(lm: LanguageModel) -> Tensor:
    """The logits after every token of a request's prompt, (tokens, vocabulary) in float32."""
    ids = torch.tensor([encode(lm.tokenizer, REQUESTS[0].filled_prompt)], device=lm.device)
    said: Tensor = lm.model(input_ids=ids, use_cache=False).logits[0]
    return said.float()


def weights(lm: LanguageModel) -> dict[str, Tensor]:
    return {name: parameter.detach().clone() for name, parameter in lm.model.named_parameters()}


def different(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> set[str]:
    return {name for name, tensor in one.items() if not torch.equal(tensor, other[name])}


def named_by(patch: Patch, lm: LanguageModel) -> set[str]:
    """The parameters in a patch, by their names in `named_parameters` (a tied parameter has one name)."""
    assert isinstance(patch, WeightPatch)
    touched = [lm.model.get_parameter(name) for name in patch.deltas]
    return {name for name, parameter in lm.model.named_parameters() if any(parameter is one for one in touched)}


def changes(patch: Patch) -> dict[str, Tensor]:
    assert isinstance(patch, WeightPatch)
    return {name: delta.change(name in patch.transposed, torch.device("cpu")) for name, delta in patch.deltas.items()}
