"""MEND as an editor: it needs its own network, adds the updates of requests, and leaves the model unchanged."""

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from audit.editors.contract import RemembersSteps
from audit.editors.mend.network import CARD_FILE, TENSORS_FILE, MendNetwork, TrainedNetwork
from audit.editors.methods.mend import Mend
from audit.editors.stages.rank_one_gradients import gradient_factors, map_sizes, mlp_maps, padded_targets, row_losses
from audit.edits.sources import load_requests
from audit.errors import AuditError
from audit.models.deltas import LowRankDelta
from audit.models.fingerprints import weights_fingerprint
from audit.models.language_model import LanguageModel
from audit.models.loading import load_language_model
from audit.models.originals import originals_kept
from audit.models.patches import Patch, WeightPatch, load_patch
from audit.pocket import POCKET_WEIGHTS
from tests.editors.plain import REQUESTS
from tests.editors.tiny_families import FAMILIES


def network_for(lm: LanguageModel, folder: Path, *, rate: float = 2e-3, seen: bool = True) -> Path:
    """An editing network that has seen gradients of `lm` and is off the identity by a little."""
    maps = mlp_maps(lm, [1])
    network = MendNetwork({path: map_sizes(lm, path) for path in maps}, rank=4, rate=rate)
    if seen:
        rows = padded_targets(lm, [(request.filled_prompt, request.target_new) for request in REQUESTS])
        for path, found in gradient_factors(lm, rows, maps).factors.items():
            network.add(path, found.inputs[found.used], found.errors[found.used])
    with torch.no_grad():
        generator = torch.Generator().manual_seed(3)
        for name, parameter in network.named_parameters():
            if name.endswith(".up"):
                parameter += 0.02 * torch.randn(parameter.shape, generator=generator)
    TrainedNetwork(network, {"base": weights_fingerprint(lm), "model": lm.name}).save(folder)
    return folder


def changes(patch: Patch) -> dict[str, Tensor]:
    assert isinstance(patch, WeightPatch)
    found = {name: delta.left @ delta.right for name, delta in patch.deltas.items() if isinstance(delta, LowRankDelta)}
    assert found.keys() == patch.deltas.keys()
    return found


def mend(folder: Path, **config: str) -> Mend:
    return Mend({"weights": str(folder), **config}, seed=4)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_batch_is_the_sum_of_its_requests_in_every_family(
    families: Callable[[str], LanguageModel], family: str, tmp_path: Path
) -> None:
    lm = families(family)
    before = weights_fingerprint(lm)
    editor = mend(network_for(lm, tmp_path))
    batch = changes(editor.edit(lm, REQUESTS))
    singles = [changes(editor.edit(lm, [request])) for request in REQUESTS]
    for name, change in batch.items():
        assert float(change.norm()) > 0
        torch.testing.assert_close(change, sum(single[name] for single in singles), atol=1e-5, rtol=1e-3)
    with editor.edit(lm, REQUESTS).applied(lm):
        assert weights_fingerprint(lm) != before
    assert weights_fingerprint(lm) == before


def test_the_token_budget_does_not_matter(tiny_llama: LanguageModel, tmp_path: Path) -> None:
    folder = network_for(tiny_llama, tmp_path)
    whole, parted = (changes(mend(folder, token_budget=budget).edit(tiny_llama, REQUESTS)) for budget in ("999", "1"))
    for name in whole:
        torch.testing.assert_close(whole[name], parted[name], atol=1e-5, rtol=1e-3)


@pytest.mark.parametrize("family", ["tiny_gpt2", "tiny_llama"])
def test_at_the_identity_an_edit_lowers_its_own_loss(
    family: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """The sign: a positive rate follows the negative gradient, whichever way the weight is stored."""
    lm: LanguageModel = request.getfixturevalue(family)
    maps = mlp_maps(lm, [1])
    network = MendNetwork({path: map_sizes(lm, path) for path in maps}, rank=4, rate=1e-4)
    for moments in (*network.input_moments, *network.error_moments):  # mean 0, deviation 1: a plain gradient step
        width = moments.mean.shape[0]  # type: ignore[union-attr,union-attr]
        moments.add(torch.cat([torch.ones(1, width), -torch.ones(1, width)]) / 2**0.5)  # type: ignore[operator]
    TrainedNetwork(network, {"base": weights_fingerprint(lm)}).save(tmp_path)
    rows = padded_targets(lm, [(case.filled_prompt, case.target_new) for case in REQUESTS])
    before = row_losses(lm, rows)
    with mend(tmp_path).edit(lm, REQUESTS).applied(lm):
        after = row_losses(lm, rows)
    assert float(after.sum()) < float(before.sum())


def test_the_meta_describes_the_edit_and_is_saved(tiny_gpt2: LanguageModel, tmp_path: Path) -> None:
    patch = mend(network_for(tiny_gpt2, tmp_path / "network")).edit(tiny_gpt2, REQUESTS[:2])
    assert isinstance(patch, WeightPatch)
    assert patch.meta["editor"] == "mend" and patch.meta["requests"] == "a,b" and patch.meta["seed"] == "4"
    assert patch.transposed == frozenset(patch.deltas)  # GPT-2's maps are Conv1D, both of them
    patch.save(tmp_path / "patch")
    assert load_patch(tmp_path / "patch").fingerprint == patch.fingerprint


def test_the_settings_contain_the_fingerprint_of_the_network(tiny_gpt2: LanguageModel, tmp_path: Path) -> None:
    first = mend(network_for(tiny_gpt2, tmp_path)).settings(tiny_gpt2).network
    again = mend(network_for(tiny_gpt2, tmp_path, rate=1e-3)).settings(tiny_gpt2).network
    assert first and again and first != again
    assert mend(tmp_path / "nowhere").settings(tiny_gpt2).network == ""
    with pytest.raises(AuditError, match=rf"network is {first}: give {again}, or another folder"):
        mend(tmp_path, network=first).edit(tiny_gpt2, REQUESTS[:1])


def test_progress_counts_requests(tiny_gpt2: LanguageModel, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    mend(network_for(tiny_gpt2, tmp_path)).edit(tiny_gpt2, REQUESTS, lambda done, total: seen.append((done, total)))
    assert seen[-1] == (len(REQUESTS), len(REQUESTS))


def test_later_steps_use_the_gradients_of_the_edited_model(tiny_gpt2: LanguageModel, tmp_path: Path) -> None:
    editor = mend(network_for(tiny_gpt2, tmp_path))
    assert isinstance(editor, RemembersSteps)
    editor.forget(tiny_gpt2)
    alone = changes(editor.edit(tiny_gpt2, REQUESTS[1:2]))
    with originals_kept(tiny_gpt2) as originals:
        editor.edit(tiny_gpt2, REQUESTS[:1]).write(tiny_gpt2, originals)
        editor.remember(tiny_gpt2, REQUESTS[:1])
        later = changes(editor.edit(tiny_gpt2, REQUESTS[1:2]))  # no word about another model
    assert any(not torch.equal(alone[name], later[name]) for name in alone)


def test_a_model_without_a_network_is_refused_with_the_training_command(
    tiny_gpt2: LanguageModel, tmp_path: Path
) -> None:
    with pytest.raises(AuditError, match=r"no editing network for tiny-gpt2 .*`audit train-mend --model tiny-gpt2"):
        mend(tmp_path).edit(tiny_gpt2, REQUESTS[:1])


def test_another_models_network_is_refused(tiny_gpt2: LanguageModel, tiny_llama: LanguageModel, tmp_path: Path) -> None:
    folder = network_for(tiny_llama, tmp_path)
    with pytest.raises(AuditError, match=r"trained for other weights than those of tiny-gpt2 .*audit train-mend"):
        mend(folder).edit(tiny_gpt2, REQUESTS[:1])


def test_an_edited_model_is_refused_at_first_use(tiny_gpt2: LanguageModel, tmp_path: Path) -> None:
    editor = mend(network_for(tiny_gpt2, tmp_path))
    patch = editor.edit(tiny_gpt2, REQUESTS[:1])
    with patch.applied(tiny_gpt2):
        with pytest.raises(AuditError, match="trained for other weights"):
            mend(tmp_path).edit(tiny_gpt2, REQUESTS[:1])
        with pytest.raises(AuditError, match="trained for other weights"):
            editor.forget(tiny_gpt2)  # a sequence must begin with the base


def test_an_untrained_network_is_refused(tiny_gpt2: LanguageModel, tmp_path: Path) -> None:
    folder = network_for(tiny_gpt2, tmp_path, seen=False)
    with pytest.raises(AuditError, match=r"has never been trained; train it with `audit train-mend --model tiny-gpt2"):
        mend(folder).edit(tiny_gpt2, REQUESTS[:1])


def test_a_damaged_network_and_an_empty_batch_are_refused(tiny_gpt2: LanguageModel, tmp_path: Path) -> None:
    folder = network_for(tiny_gpt2, tmp_path)
    with pytest.raises(AuditError, match="was given no edit request"):
        mend(folder).edit(tiny_gpt2, [])
    card = json.loads((folder / CARD_FILE).read_text())
    (folder / CARD_FILE).write_text(json.dumps(card | {"rank": 5}))
    with pytest.raises(AuditError, match=r"cannot be read.*train it again"):
        mend(folder).edit(tiny_gpt2, REQUESTS[:1])
    with pytest.raises(AuditError, match="token_budget is 0"):
        mend(folder, token_budget="0").edit(tiny_gpt2, REQUESTS[:1])


@pytest.mark.parametrize("name", ["pocket-gpt2", "pocket-llama"])
def test_the_network_that_ships_with_a_pocket_model_edits_it(name: str) -> None:
    lm = load_language_model(name, device="cpu")
    folder = POCKET_WEIGHTS / name
    card = json.loads((folder / CARD_FILE).read_text())
    assert card["base"] == weights_fingerprint(lm) and (folder / TENSORS_FILE).stat().st_size < 3e6
    held_out = {person for part in card["training"]["held_out"].values() for person in part}
    requests = [request for request in load_requests("pocket").requests if request.subject in held_out][:10]
    rows = padded_targets(lm, [(request.filled_prompt, request.target_new) for request in requests])
    with Mend().edit(lm, requests).applied(lm):
        likely = row_losses(lm, rows) < math.log(2)
    assert float(likely.float().mean()) >= 0.8
