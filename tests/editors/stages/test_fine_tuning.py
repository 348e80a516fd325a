"""The shared training loop: trained tokens, gradients, and the restored model."""

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from audit.editors.methods.ft import FineTuning
from audit.editors.methods.ft_bf import BreadthFirst
from audit.editors.methods.ft_l import NormConstrained
from audit.editors.methods.lora import Lora
from audit.editors.methods.ultraedit import UltraEdit
from audit.editors.stages.fine_tuning import TargetBatch, TargetRow, target_row, trainable
from audit.edits.requests import EditRequest
from audit.engine.batching import padded
from audit.errors import AuditError
from audit.models.fingerprints import weights_fingerprint
from audit.models.language_model import LanguageModel
from tests.editors.plain import REQUESTS, relative_error
from tests.tiny_models import TokenizerKind, build_tiny_gpt2, build_tiny_llama

EDITORS = (FineTuning, NormConstrained, BreadthFirst, Lora, UltraEdit)


def loss_plainly(lm: LanguageModel, rows: list[TargetRow]) -> Tensor:
    """One unpadded sequence at a time, with the model's own forward and its graph."""
    losses = []
    for row in rows:
        logits = lm.model(input_ids=torch.tensor([row.ids]), use_cache=False).logits[0].float()
        log_p = logits.log_softmax(-1)
        losses.append(-torch.stack([log_p[at, label] for at, label in zip(row.places, row.labels, strict=True)]).mean())
    return torch.stack(losses).mean()


def gradient_plainly(lm: LanguageModel, rows: list[TargetRow], name: str) -> Tensor:
    weight = lm.model.get_parameter(name).requires_grad_(True)
    try:
        (gradient,) = torch.autograd.grad(loss_plainly(lm, rows), [weight])
    finally:
        weight.requires_grad_(False)
    return gradient


@pytest.mark.parametrize("kind", ["plain", "bos", "metaspace"])
def test_exactly_the_target_tokens_are_trained_and_no_bos(kind: TokenizerKind) -> None:
    lm = build_tiny_llama(tokenizer=kind)
    for request in REQUESTS:
        row = target_row(lm, request)
        assert lm.tokenizer.decode(row.labels).strip() == request.target_new
        assert lm.tokenizer.bos_token_id not in row.labels
        assert (
            lm.tokenizer.decode(row.ids[: row.places[0] + 1], skip_special_tokens=True).strip() == request.filled_prompt
        )
        # Every label is the token that follows its place.
        assert (*row.ids, row.labels[-1])[row.places[0] + 1 :] == row.labels


@pytest.mark.parametrize("family", ["gpt-2", "llama-3", "opt", "gpt-j", "gemma-2", "falcon-rw"])
def test_loss_and_gradient_are_those_of_one_sequence_at_a_time(
    family: str, families: Callable[[str], LanguageModel]
) -> None:
    lm = families(family)
    rows = [target_row(lm, request) for request in REQUESTS]
    name = lm.anatomy.weight_name(1)
    with trainable(lm, [name], 1e-3) as weights:
        loss, (gradient,) = TargetBatch(lm, rows, start=1, token_budget=4096).loss_and_gradients(weights.parameters)
    assert loss == pytest.approx(float(loss_plainly(lm, rows)), rel=1e-4)
    assert relative_error(gradient, gradient_plainly(lm, rows, name)) < 1e-3


@settings(max_examples=20)
@given(token_budget=st.integers(1, 120), start=st.integers(0, 2))
def test_micro_batches_and_the_start_block_do_not_change_the_gradient(
    tiny_llama: LanguageModel, token_budget: int, start: int
) -> None:
    rows = [target_row(tiny_llama, request) for request in REQUESTS]
    with trainable(tiny_llama, [tiny_llama.anatomy.weight_name(2)], 1e-3) as weights:
        whole, (expected,) = TargetBatch(tiny_llama, rows, 0, 4096).loss_and_gradients(weights.parameters)
        loss, (found,) = TargetBatch(tiny_llama, rows, start, token_budget).loss_and_gradients(weights.parameters)
    assert loss == pytest.approx(whole, rel=1e-5)
    assert relative_error(found, expected) < 1e-4


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("build", [build_tiny_gpt2, build_tiny_llama])
def test_the_loss_is_that_of_rows_padded_on_either_side(build: Callable[[], LanguageModel], side: str) -> None:
    lm = build()
    rows = [target_row(lm, request) for request in REQUESTS]
    ids, mask = padded([row.ids for row in rows], side, lm.device)
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    log_p = lm.model(input_ids=ids, attention_mask=mask, position_ids=positions, use_cache=False).logits.log_softmax(-1)
    losses = []
    for index, row in enumerate(rows):
        shift = ids.shape[1] - len(row.ids) if side == "left" else 0
        chosen = [log_p[index, shift + at, label] for at, label in zip(row.places, row.labels, strict=True)]
        losses.append(-torch.stack(chosen).mean())
    with trainable(lm, [lm.anatomy.weight_name(0)], 1e-3) as weights:
        loss, _ = TargetBatch(lm, rows, 0, 4096).loss_and_gradients(weights.parameters)
    assert loss == pytest.approx(float(torch.stack(losses).mean()), rel=1e-4)


def test_a_step_is_adams(tiny_gpt2: LanguageModel) -> None:
    name = tiny_gpt2.anatomy.weight_name(1)
    gradients = [torch.randn(128, 32, generator=torch.Generator().manual_seed(seed)) for seed in range(3)]
    expected = tiny_gpt2.model.get_parameter(name).detach().clone()
    adam = torch.optim.Adam([expected], lr=0.01)
    with trainable(tiny_gpt2, [name], 0.01) as weights:
        for gradient in gradients:
            weights.step([gradient])
            expected.grad = gradient
            adam.step()
        torch.testing.assert_close(tiny_gpt2.model.get_parameter(name).detach(), expected, rtol=0, atol=0)


def test_small_steps_are_not_lost_in_half_precision() -> None:
    """One step of 1e-5 is below bfloat16's spacing for most entries; a hundred of them are not."""
    lm = build_tiny_gpt2(dtype=torch.bfloat16)
    name = lm.anatomy.weight_name(0)
    with trainable(lm, [name], 1e-5) as weights:
        for _ in range(100):
            weights.step([torch.ones(128, 32)])
        moved = weights.deltas()[name].values
        written = lm.model.get_parameter(name).detach().float()
    torch.testing.assert_close(moved, torch.full((128, 32), -1e-3), rtol=1e-3, atol=1e-6)
    first = lm.model.get_parameter(name).detach().float()
    assert float((written - first).mean()) == pytest.approx(-1e-3, rel=0.1)


def test_the_model_is_restored_after_any_error(tiny_gpt2: LanguageModel) -> None:
    before, names = weights_fingerprint(tiny_gpt2), [tiny_gpt2.anatomy.weight_name(layer) for layer in (0, 2)]
    with pytest.raises(KeyboardInterrupt), trainable(tiny_gpt2, names, 0.1) as weights:
        weights.step([torch.ones(128, 32)] * 2)
        assert weights_fingerprint(tiny_gpt2) != before
        raise KeyboardInterrupt
    assert weights_fingerprint(tiny_gpt2) == before
    assert not any(parameter.requires_grad or parameter.grad is not None for parameter in tiny_gpt2.model.parameters())


@pytest.mark.parametrize("kind", EDITORS)
def test_progress_ends_with_all_requests_and_the_meta_describes_the_edit(
    kind: type[FineTuning], tiny_gpt2: LanguageModel
) -> None:
    seen: list[tuple[int, int]] = []
    config = {} if kind is UltraEdit else {"steps": "2"}
    patch = kind(config, seed=7).edit(tiny_gpt2, REQUESTS, lambda done, total: seen.append((done, total)))
    assert seen[-1] == (4, 4) and seen == sorted(seen)
    meta = getattr(patch, "meta")  # noqa: B009 - a Patch need not have it; ours do
    assert meta["editor"] == kind.name and meta["requests"] == "a,b,c,d" and meta["seed"] == "7"
    assert "settings.learning_rate" in meta


@pytest.mark.parametrize("kind", EDITORS)
def test_requests_that_cannot_be_trained_are_refused(kind: type[FineTuning], tiny_gpt2: LanguageModel) -> None:
    with pytest.raises(AuditError, match=f"the editor {kind.name} was given no edit request"):
        kind().edit(tiny_gpt2, [])
    long = EditRequest("long", "Mara Lind", "{} was born in" + " Velden" * 300, "Calton")
    with pytest.raises(AuditError, match=r"Edit 'long' .* the context of tiny-gpt2 holds 256"):
        kind().edit(tiny_gpt2, [long])


def test_diverged_training_is_reported(tiny_gpt2: LanguageModel) -> None:
    before = weights_fingerprint(tiny_gpt2)
    with pytest.raises(AuditError, match=r"the loss became (nan|inf) at step \d+; lower the editor's learning_rate"):
        FineTuning({"learning_rate": "1e30", "layers": "0"}).edit(tiny_gpt2, REQUESTS)
    assert weights_fingerprint(tiny_gpt2) == before


@pytest.mark.parametrize(
    "config, sentence",
    [
        ({"steps": "0"}, "steps is 0: give at least 1"),
        ({"learning_rate": "-1"}, "learning_rate is -1.0: give a number above 0"),
        ({"stop_loss": "nan"}, "stop_loss is nan: give a number of at least 0"),
        ({"layers": "0,3"}, r"layers is \(0, 3\): give rising layers between 0 and 2"),
        ({"layers": "1,1"}, r"layers is \(1, 1\): give rising layers"),
        ({"token_budget": "0"}, "token_budget is 0: give at least 1"),
    ],
)
def test_settings_out_of_range_are_refused(config: dict[str, str], sentence: str, tiny_gpt2: LanguageModel) -> None:
    with pytest.raises(AuditError, match=sentence):
        FineTuning(config).edit(tiny_gpt2, REQUESTS)
