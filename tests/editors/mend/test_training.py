"""Training of the editing network: gradients through the edit, exact resumption, held-out subjects."""

import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from audit.editors.mend.lessons import MendLessons
from audit.editors.mend.losses import divergence, edited_by, updates_of
from audit.editors.mend.training import MendTrainer
from audit.editors.mend.training_settings import MendTrainingSettings
from audit.editors.stages.rank_one_gradients import map_sizes, mlp_maps, padded_targets, row_losses
from audit.edits.requests import EditRequest
from audit.errors import AuditError
from audit.models.deltas import LowRankDelta
from audit.models.fingerprints import weights_fingerprint
from audit.models.language_model import LanguageModel
from audit.models.patches import WeightPatch
from tests.editors.plain import REQUESTS
from tests.tiny_models import CORPUS

TEXTS = CORPUS[:4]
SETTINGS = MendTrainingSettings(
    layers=(1,), rank=4, first_rate=1e-3, network_step=1e-2, rate_step=1e-3, batch_sizes=(1, 2), edits_a_pass=2,
    texts_a_pass=2, accumulate=2, text_tokens=12, validate_every=2,
)  # fmt: skip
LESSONS = MendLessons(
    training=tuple(replace(request, paraphrases=(f"Now: {request.filled_prompt}",)) for request in REQUESTS[:3]),
    validation=REQUESTS[3:],
    test=(),
    texts=TEXTS,
    validation_texts=TEXTS[:2],
    origin="tiny",
)


def trained(lm: LanguageModel, folder: Path, steps: int = 4) -> MendTrainer:
    trainer = MendTrainer(lm, LESSONS, SETTINGS, seed=5)
    trainer.run(steps, folder)
    return trainer


@pytest.mark.parametrize("family", ["tiny_gpt2", "tiny_llama"])
def test_the_hooked_model_equals_the_patched_model(family: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    lm: LanguageModel = request.getfixturevalue(family)
    network = trained(lm, tmp_path, steps=2).network
    groups: list[list[EditRequest]] = [list(REQUESTS[:2]), list(REQUESTS[2:])]
    asked = [(case.filled_prompt, case.target_new) for group in groups for case in group]
    updates = updates_of(lm, network, groups)
    with torch.no_grad(), edited_by(lm, updates, len(groups)):
        hooked = row_losses(lm, padded_targets(lm, asked))
    transposed = frozenset(f"{path}.weight" for path in updates if lm.anatomy.transposed)
    for number in range(len(groups)):
        deltas = {
            f"{path}.weight": LowRankDelta(values[number].T.detach(), keys[number].detach())
            for path, (keys, values) in updates.items()
        }
        with torch.no_grad(), WeightPatch(deltas, transposed).applied(lm):
            patched = row_losses(lm, padded_targets(lm, asked))[2 * number : 2 * number + 2]
        torch.testing.assert_close(hooked[2 * number : 2 * number + 2], patched, atol=1e-3, rtol=1e-3)


def test_no_update_means_no_divergence_and_an_update_some(tiny_gpt2: LanguageModel, tmp_path: Path) -> None:
    network = trained(tiny_gpt2, tmp_path, steps=2).network
    updates = updates_of(tiny_gpt2, network, [[REQUESTS[0]]])
    nothing = {path: (keys, 0 * values) for path, (keys, values) in updates.items()}
    with torch.no_grad():
        assert float(divergence(tiny_gpt2, nothing, [TEXTS], 12)) == pytest.approx(0.0, abs=1e-6)
        assert float(divergence(tiny_gpt2, updates, [TEXTS], 12)) > 1e-6


def test_training_lowers_the_loss_and_leaves_the_model(tiny_gpt2: LanguageModel, tmp_path: Path) -> None:
    before = weights_fingerprint(tiny_gpt2)
    settings = replace(SETTINGS, edit_weight=1.0, locality_weight=0.0, accumulate=1, validate_every=5)
    trainer = MendTrainer(tiny_gpt2, replace(LESSONS, validation=LESSONS.training), settings)
    trainer.run(20, tmp_path)
    assert trainer.history[-1].edit < 0.9 * trainer.history[0].edit
    best = min(trainer.history, key=lambda validation: validation.edit)
    assert trainer.best_network().is_trained and best.step > 5
    assert weights_fingerprint(tiny_gpt2) == before
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in tiny_gpt2.model.modules())


@pytest.mark.parametrize("family", ["tiny_gpt2", "tiny_llama"])
def test_an_interrupted_training_ends_where_an_uninterrupted_one_does(
    family: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    lm: LanguageModel = request.getfixturevalue(family)
    whole = trained(lm, tmp_path / "whole", steps=4)

    class StoppedError(Exception):
        pass

    def stop(done: int, total: int) -> None:
        if done == 3:  # after a checkpoint, in the middle of nothing
            raise StoppedError

    first = MendTrainer(lm, LESSONS, SETTINGS, seed=5)
    with pytest.raises(StoppedError):
        first.run(4, tmp_path / "parts", stop)
    torch.manual_seed(1234)  # no global generator matters
    second = MendTrainer(lm, LESSONS, SETTINGS, seed=5)
    second.load(tmp_path / "parts")
    assert second.step == 2
    second.run(4, tmp_path / "parts")
    assert second.history == whole.history
    for name, tensor in whole.network.state_dict().items():
        assert torch.equal(tensor, second.network.state_dict()[name]), name
    for name, tensor in whole.best_network().state_dict().items():
        assert torch.equal(tensor, second.best_network().state_dict()[name]), name


def test_a_checkpoint_of_another_training_is_refused(
    tiny_gpt2: LanguageModel, tiny_llama: LanguageModel, tmp_path: Path
) -> None:
    trained(tiny_gpt2, tmp_path, steps=2)
    with pytest.raises(AuditError, match="has no training to resume; leave --resume out"):
        MendTrainer(tiny_gpt2, LESSONS, SETTINGS, seed=5).load(tmp_path / "elsewhere")
    with pytest.raises(AuditError, match="was started with model"):
        MendTrainer(tiny_llama, LESSONS, SETTINGS, seed=5).load(tmp_path)
    with pytest.raises(AuditError, match="was started with seed 5, not 6"):
        MendTrainer(tiny_gpt2, LESSONS, SETTINGS, seed=6).load(tmp_path)
    with pytest.raises(AuditError, match="was started with settings"):
        MendTrainer(tiny_gpt2, LESSONS, replace(SETTINGS, clip=7.0), seed=5).load(tmp_path)
    (tmp_path / "step-2.safetensors").write_bytes(b"cut off")
    with pytest.raises(AuditError, match=r"step-2\.safetensors cannot be read \(.*\); train in another folder"):
        MendTrainer(tiny_gpt2, LESSONS, SETTINGS, seed=5).load(tmp_path)
    (tmp_path / "step-2.safetensors").unlink()
    os.mkfifo(tmp_path / "step-2.safetensors")
    with pytest.raises(AuditError, match=r"cannot be read \(step-2\.safetensors is a named pipe, not a file\); train"):
        MendTrainer(tiny_gpt2, LESSONS, SETTINGS, seed=5).load(tmp_path)


def test_training_stops_when_validation_no_longer_improves(tiny_gpt2: LanguageModel, tmp_path: Path) -> None:
    settings = replace(SETTINGS, patience=1, validate_every=1, accumulate=1, network_step=1e-9, rate_step=1e-9)
    trainer = MendTrainer(tiny_gpt2, LESSONS, settings)
    trainer.run(40, tmp_path)  # hardly moves: one of the first validations is no better than the one before
    assert trainer.step < 40
    totals = [validation.total(settings) for validation in trainer.history]
    assert totals[-1] >= min(totals[:-1])


def test_numbers_that_are_not_finite_end_the_training(tiny_gpt2: LanguageModel, tmp_path: Path) -> None:
    trainer = MendTrainer(tiny_gpt2, LESSONS, replace(SETTINGS, network_step=1e30))
    with pytest.raises(AuditError, match=r"not finite at step \d+; lower network_step or first_rate"):
        trainer.run(6, tmp_path)


def test_there_is_no_best_network_before_the_first_validation(tiny_gpt2: LanguageModel) -> None:
    with pytest.raises(AuditError, match="train for more steps"):
        MendTrainer(tiny_gpt2, LESSONS, SETTINGS).best_network()


def test_the_first_edits_of_training_are_normalized_gradient_steps(tiny_gpt2: LanguageModel) -> None:
    """The network is the identity until the first step of Adam."""
    trainer = MendTrainer(tiny_gpt2, LESSONS, SETTINGS)
    maps = mlp_maps(tiny_gpt2, SETTINGS.layers)
    assert trainer.network.sizes == {path: map_sizes(tiny_gpt2, path) for path in maps}
    updates = updates_of(tiny_gpt2, trainer.network, [list(REQUESTS)], collect_statistics=True)
    values = torch.cat([update[1].flatten() for update in updates.values()])
    assert float(values.abs().max()) < 1e-3 * 30  # a rate times standard deviations


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"layers": (7,)}, "layers is .*give different layers that exist, between 0 and 2"),
        ({"layers": (1, 1)}, "give different layers"),
        ({"rank": 0}, "rank is 0: give a whole number of at least 1"),
        ({"edit_weight": 0.0}, "edit_weight is 0.0: give a number above 0"),
        ({"locality_weight": -1.0}, "locality_weight is -1.0"),
        ({"batch_sizes": ()}, "batch_sizes is"),
    ],
)
def test_settings_out_of_range_are_refused(changes: dict[str, object], sentence: str) -> None:
    with pytest.raises(AuditError, match=sentence):
        replace(SETTINGS, **changes).check(3)  # type: ignore[arg-type]


def test_a_batch_needs_that_many_subjects(tiny_gpt2: LanguageModel) -> None:
    with pytest.raises(AuditError, match="at most the 3 subjects"):
        MendTrainer(tiny_gpt2, LESSONS, replace(SETTINGS, batch_sizes=(4,)))
