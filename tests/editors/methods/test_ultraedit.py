"""UltraEdit: the closed form, its features, and the statistics over the steps of a sequence."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from audit.editors.contract import RemembersSteps
from audit.editors.methods.ultraedit import (
    RunningStatistics,
    UltraEdit,
    UltraEditSettings,
    edited_maps,
    editing_features,
)
from audit.editors.stages.editor_settings import Shapes
from audit.editors.stages.fine_tuning import target_row
from audit.edits.requests import EditRequest
from audit.errors import AuditError
from audit.models.fingerprints import weights_fingerprint
from audit.models.language_model import LanguageModel
from audit.models.patches import Patch, WeightPatch, load_patch, originals_kept
from tests.editors.plain import REQUESTS, relative_error
from tests.editors.stages.test_fine_tuning import loss_plainly
from tests.tiny_models import build_tiny_gpt2, build_tiny_llama

CONFIG = {"maps": "down:1", "learning_rate": "0.05"}


def changes_of(patch: Patch) -> dict[str, Tensor]:
    """ΔW (out, in) of every map."""
    assert isinstance(patch, WeightPatch)
    device = torch.device("cpu")
    as_stored = {name: delta.change(name in patch.transposed, device) for name, delta in patch.deltas.items()}
    return {name: change.T if name in patch.transposed else change for name, change in as_stored.items()}


def features_plainly(lm: LanguageModel, requests: Sequence[EditRequest], path: str) -> tuple[Tensor, Tensor]:
    """h (tokens, in) and g (tokens, out), one request at a time: the gradient of the summed −log p, by autograd."""
    inputs: list[Tensor] = []
    gradients: list[Tensor] = []
    for row in (target_row(lm, request) for request in requests):
        seen: dict[str, Tensor] = {}

        def see(_: object, args: tuple[Tensor, ...], output: Tensor, seen: dict[str, Tensor] = seen) -> Tensor:
            seen["in"], seen["out"] = args[0].detach(), output.detach().requires_grad_(True)
            return seen["out"]

        hook = lm.model.get_submodule(path).register_forward_hook(see)
        try:
            log_p = lm.model(input_ids=torch.tensor([row.ids]), use_cache=False).logits[0].log_softmax(-1)
        finally:
            hook.remove()
        loss = -torch.stack([log_p[at, label] for at, label in zip(row.places, row.labels, strict=True)]).sum()
        (gradient,) = torch.autograd.grad(loss, [seen["out"]])
        places = list(row.places)
        inputs.append(seen["in"].flatten(0, -2)[places])
        gradients.append(gradient.flatten(0, -2)[places])
    return torch.cat(inputs), torch.cat(gradients)


def change_plainly(h: Tensor, g: Tensor, rate: float, seen: tuple[Tensor, Tensor] | None = None) -> Tensor:
    """ΔW (out, in) written as in the paper; `seen` are the pairs that the statistics are over, if more than these."""
    all_h, all_g = seen or (h, g)
    h, g, all_h, all_g = h.double(), g.double(), all_h.double(), all_g.double()
    # With a ReLU some features are zero in every row.
    normal_h, normal_g = ((x - every.mean(0)) / (every.std(0) + 1.2e-7) for x, every in ((h, all_h), (g, all_g)))
    V = -rate * normal_h.norm(dim=1, keepdim=True) ** 2 * normal_g
    return (torch.linalg.inv(h.T @ h + torch.eye(h.shape[1]).double()) @ h.T @ V).T


@pytest.mark.parametrize("family", ["gpt-2", "llama-3", "opt", "gpt-j", "gemma-2"])
def test_a_batch_is_the_papers_closed_form(family: str, families: Callable[[str], LanguageModel]) -> None:
    lm = families(family)
    before = weights_fingerprint(lm)
    patch = UltraEdit(CONFIG).edit(lm, REQUESTS)
    assert weights_fingerprint(lm) == before
    h, g = features_plainly(lm, REQUESTS, lm.anatomy.down_projections[1])
    ((name, change),) = changes_of(patch).items()
    assert name == lm.anatomy.weight_name(1)
    assert relative_error(change, change_plainly(h, g, 0.05)) < 1e-3


@pytest.mark.parametrize("family", ["tiny_gpt2", "tiny_llama"])
def test_features_depend_neither_on_the_batch_nor_on_its_size(family: str, request: pytest.FixtureRequest) -> None:
    lm: LanguageModel = request.getfixturevalue(family)
    path = lm.anatomy.down_projections[0]
    expected = torch.cat(features_plainly(lm, REQUESTS, path), dim=1)
    for budget in (1, 40, 4096):
        torch.testing.assert_close(editing_features(lm, REQUESTS, [path], budget)[path], expected, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("build", [build_tiny_gpt2, build_tiny_llama])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_an_edit_lowers_the_loss_is_reverted_and_can_be_saved(
    build: Callable[..., LanguageModel], dtype: torch.dtype, tmp_path: Path
) -> None:
    lm = build(dtype=dtype)
    rows = [target_row(lm, request) for request in REQUESTS]
    before, loss = weights_fingerprint(lm), float(loss_plainly(lm, rows))
    patch = UltraEdit({"maps": "down:1-2", "learning_rate": "0.01"}).edit(lm, REQUESTS)
    patch.save(tmp_path)
    with patch.applied(lm):
        assert float(loss_plainly(lm, rows)) < loss
        edited = weights_fingerprint(lm)
    with load_patch(tmp_path).applied(lm):
        assert weights_fingerprint(lm) == edited != before
    assert weights_fingerprint(lm) == before
    assert UltraEdit({"maps": "down:1-2", "learning_rate": "0.01"}).edit(lm, REQUESTS).fingerprint == patch.fingerprint


def test_many_tokens_give_the_same_form_without_low_rank(tiny_llama: LanguageModel) -> None:
    """The map that leads in is 32 wide; more tokens than that are solved for in the other order."""
    many = [EditRequest(str(number), "Mara Lind", "{} was born in", f"{number}1998 Velden") for number in range(8)]
    path = edited_maps(tiny_llama, UltraEditSettings(maps="up:1"))[0]
    h, g = features_plainly(tiny_llama, many, path)
    assert len(h) > 32
    (change,) = changes_of(UltraEdit({"maps": "up:1", "learning_rate": "0.1"}).edit(tiny_llama, many)).values()
    assert relative_error(change, change_plainly(h, g, 0.1)) < 1e-2


def test_a_single_token_is_scaled_as_it_cannot_be_centered(tiny_gpt2: LanguageModel) -> None:
    alone = [EditRequest("alone", "Mara Lind", "{} was born in", "is")]
    h, g = (x.double() for x in features_plainly(tiny_gpt2, alone, tiny_gpt2.anatomy.down_projections[1]))
    assert len(h) == 1
    (change,) = changes_of(UltraEdit(CONFIG).edit(tiny_gpt2, alone)).values()
    v = -0.05 * 128 * g / g.square().mean().sqrt()  # ‖ĥ‖² is the width of the map
    assert relative_error(change, v.T @ h / (1 + h.square().sum())) < 1e-3


def test_statistics_are_a_maps_own_or_shared_by_maps_of_one_shape(tiny_gpt2: LanguageModel) -> None:
    config = {"maps": "down:0+down:2", "learning_rate": "0.05"}
    own = changes_of(UltraEdit(config | {"statistics": "map"}).edit(tiny_gpt2, REQUESTS))
    shared = changes_of(UltraEdit(config).edit(tiny_gpt2, REQUESTS))  # as published
    names = [tiny_gpt2.anatomy.weight_name(layer) for layer in (0, 2)]
    pairs = [features_plainly(tiny_gpt2, REQUESTS, tiny_gpt2.anatomy.down_projections[layer]) for layer in (0, 2)]
    seen = torch.cat([pairs[0][0], pairs[1][0]]), torch.cat([pairs[0][1], pairs[1][1]])
    for (h, g), name in zip(pairs, names, strict=True):
        assert relative_error(own[name], change_plainly(h, g, 0.05)) < 1e-3
        assert relative_error(shared[name], change_plainly(h, g, 0.05, seen)) < 1e-3


@settings(max_examples=50)
@given(sizes=st.lists(st.integers(1, 5), min_size=2, max_size=4), seed=st.integers(0, 99))
def test_merged_statistics_equal_those_of_all_rows(sizes: list[int], seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    parts = [10 + torch.randn(size, 3, generator=generator) for size in sizes]
    together = RunningStatistics.of(torch.cat(parts))
    piecewise = RunningStatistics.of(parts[0])
    for part in parts[1:]:
        piecewise = piecewise + RunningStatistics.of(part)
    assert piecewise.count == together.count
    torch.testing.assert_close(piecewise.mean, together.mean)
    torch.testing.assert_close(piecewise.squares, together.squares)
    normal = torch.cat(piecewise.normalize(torch.cat(parts), 2), dim=1)
    torch.testing.assert_close(normal.mean(0), torch.zeros(3).double(), atol=1e-6, rtol=0)
    torch.testing.assert_close(normal.std(0), torch.ones(3).double(), atol=1e-4, rtol=0)


STEPS = (REQUESTS[:2], REQUESTS[2:3], REQUESTS[3:])


@contextmanager
def carried_out(lm: LanguageModel, editor: UltraEdit, steps: int, editing: bool = True) -> Iterator[list[Patch]]:
    """The first steps of a sequence; without `editing`, as an interrupted run takes up the patches of another editor's.

    Inside, the model is the one after these steps.
    """
    other = editor if editing else UltraEdit(CONFIG)
    patches: list[Patch] = []
    with originals_kept(lm) as originals:
        editor.forget(lm)
        other.forget(lm)
        for step in STEPS[:steps]:
            patches.append(other.edit(lm, step))
            patches[-1].write(lm, originals)
            editor.remember(lm, step)
            if other is not editor:
                other.remember(lm, step)
        yield patches


def test_statistics_continue_over_the_steps_of_a_sequence(tiny_llama: LanguageModel) -> None:
    path, editor = tiny_llama.anatomy.down_projections[1], UltraEdit(CONFIG)
    assert isinstance(editor, RemembersSteps)
    found = []
    for step in range(3):
        with carried_out(tiny_llama, editor, step):
            found.append(features_plainly(tiny_llama, STEPS[step], path))
            (change,) = changes_of(editor.edit(tiny_llama, STEPS[step])).values()
            seen = torch.cat([h for h, _ in found]), torch.cat([g for _, g in found])
            assert relative_error(change, change_plainly(*found[-1], 0.05, seen)) < 1e-3


def test_an_interrupted_sequence_gives_the_same_result(tiny_llama: LanguageModel) -> None:
    before = weights_fingerprint(tiny_llama)
    with carried_out(tiny_llama, whole := UltraEdit(CONFIG), 2):
        expected = whole.edit(tiny_llama, STEPS[2]).fingerprint
    with carried_out(tiny_llama, resumed := UltraEdit(CONFIG), 2, editing=False):
        assert resumed.edit(tiny_llama, STEPS[2]).fingerprint == expected
    assert weights_fingerprint(tiny_llama) == before


def test_statistics_are_not_used_for_a_model_outside_the_sequence(tiny_llama: LanguageModel) -> None:
    fresh = UltraEdit(CONFIG).edit(tiny_llama, STEPS[1]).fingerprint
    editor = UltraEdit(CONFIG)
    with carried_out(tiny_llama, editor, 1):
        assert editor.edit(tiny_llama, STEPS[1]).fingerprint != fresh
    assert editor.edit(tiny_llama, STEPS[1]).fingerprint == fresh
    editor.forget(tiny_llama)
    assert editor.edit(tiny_llama, STEPS[1]).fingerprint == fresh


def test_remember_leaves_the_model_unchanged(tiny_gpt2: LanguageModel) -> None:
    editor = UltraEdit(CONFIG)
    editor.forget(tiny_gpt2)
    with editor.edit(tiny_gpt2, REQUESTS).applied(tiny_gpt2):
        edited = weights_fingerprint(tiny_gpt2)
        editor.remember(tiny_gpt2, REQUESTS)
        assert weights_fingerprint(tiny_gpt2) == edited


def test_maps_are_found_by_their_kind(tiny_gpt2: LanguageModel, tiny_llama: LanguageModel) -> None:
    assert edited_maps(tiny_llama, UltraEditSettings(maps="gate:0+up:1-2+down:0")) == (
        "model.layers.0.mlp.gate_proj",
        "model.layers.1.mlp.up_proj",
        "model.layers.2.mlp.up_proj",
        "model.layers.0.mlp.down_proj",
    )
    assert edited_maps(tiny_gpt2, UltraEditSettings(maps="up:2+down:2")) == (
        "transformer.h.2.mlp.c_fc",
        "transformer.h.2.mlp.c_proj",
    )
    with pytest.raises(AuditError, match="the MLPs of tiny-gpt2 have no gate"):
        UltraEdit({"maps": "gate:0"}).edit(tiny_gpt2, REQUESTS)


def test_settings_are_the_published_ones_or_those_of_the_depth() -> None:
    published = UltraEditSettings(**UltraEditSettings.published[Shapes.LLAMA_3_8B])
    assert published.learning_rate == 1e-6
    assert published.places() == (*(("gate", layer) for layer in range(11, 16)), *(("up", n) for n in range(18, 25)))
    assert UltraEditSettings.for_depth("gpt2", 12) == {"maps": "down:9"}


@pytest.mark.parametrize("maps", ["down", "down:x", "down:1-", "head:0", "", "down:1,2", "down:2-1"])
def test_invalid_maps_are_refused(maps: str) -> None:
    with pytest.raises(AuditError, match="give kinds and layers such as gate:11-15"):
        UltraEditSettings(maps=maps).check(3)


def test_settings_out_of_range_are_refused() -> None:
    with pytest.raises(AuditError, match="maps is down:3: give maps with layers between 0 and 2"):
        UltraEditSettings(maps="down:3").check(3)
    with pytest.raises(AuditError, match=r"learning_rate is 0\.0: give a number above 0"):
        UltraEditSettings(learning_rate=0.0).check(3)
    with pytest.raises(AuditError, match="statistics is layer: give map or shape"):
        UltraEditSettings(statistics="layer").check(3)
