"""Editors of the residual stream on models that normalize the output of an MLP before it is added."""

from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from audit.editors.methods.alphaedit import AlphaEdit
from audit.editors.methods.emmet import Emmet
from audit.editors.methods.memit import BatchEditor, Memit, MemitSeq
from audit.editors.stages.keys import BARE
from audit.editors.stages.output_norm import OutputNorm, output_norm
from audit.engine.sequences import prompt_sequence
from audit.models.language_model import LanguageModel
from tests.editors.plain import REQUESTS, relative_error, states_at

Families = Callable[[str], LanguageModel]

VALUES = {"steps": "5", "clamp_norm_factor": "2"}
EXACT = VALUES | {"covariance": "identity", "covariance_weight": "1e-6"}
ONE_LAYER = EXACT | {"layers": "1"}
FREE = VALUES | {
    "layers": "1",
    "covariance": "pocket",
    "covariance_tokens": "300",
    "null_space_share": "1",
    "l2": "1e-6",
}
EDITORS: dict[str, Callable[[], BatchEditor]] = {  # type: ignore[type-arg]
    "memit": lambda: Memit(ONE_LAYER, contexts=BARE),
    "memit-seq": lambda: MemitSeq(ONE_LAYER, contexts=BARE),
    "emmet": lambda: Emmet(EXACT | {"layer": "1", "relaxation": "1e-6"}, contexts=BARE),
    "alphaedit": lambda: AlphaEdit(FREE, contexts=BARE),
}


@pytest.mark.parametrize("name", EDITORS)
@pytest.mark.parametrize("family", ["gemma-2", "gemma-3", "llama-3"])
def test_the_block_moves_by_the_residual_that_was_asked_for(name: str, family: str, families: Families) -> None:
    lm, editor = families(family), EDITORS[name]()
    settings = editor.settings(lm)
    _, targets = editor._targets(lm, REQUESTS, BARE, settings, lambda _: None)
    asked = targets - editor._current(lm, REQUESTS, settings).double()  # (requests, hidden)
    block = lm.anatomy.blocks[1]
    before = torch.stack([states_at(lm, block, prompt_sequence(lm, case))[1] for case in REQUESTS])
    with editor.edit(lm, REQUESTS).applied(lm):
        after = torch.stack([states_at(lm, block, prompt_sequence(lm, case))[1] for case in REQUESTS])
    assert relative_error((after - before).double(), asked) < 1e-2


@pytest.mark.parametrize("family", ["gemma-2", "gemma-3"])
def test_the_norm_behind_the_mlp_is_found(family: str, families: Families) -> None:
    lm = families(family)
    norm = output_norm(lm, 1)
    assert norm is not None
    weight = lm.model.get_parameter("model.layers.1.post_feedforward_layernorm.weight")
    torch.testing.assert_close(norm.gain, 1 + weight.double(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("family", ["gpt-2", "gpt-j", "opt", "llama-3", "qwen-3", "falcon"])
def test_a_model_without_such_a_norm_has_none(family: str, families: Families) -> None:
    assert output_norm(families(family), 1) is None


def rows(seed: int, width: int = 12) -> tuple[OutputNorm, Tensor, Tensor]:
    """A norm with gains of several sizes and signs, outputs of several lengths, and residuals."""
    generator = torch.Generator().manual_seed(seed)
    outputs, residuals = torch.randn(2, 5, width, generator=generator, dtype=torch.float64)
    gain = torch.randn(width, generator=generator, dtype=torch.float64) * torch.logspace(-1, 1, width)
    return OutputNorm(gain), outputs * torch.logspace(-2, 2, 5)[:, None], residuals


@given(st.integers(0, 10_000))
def test_no_residual_changes_nothing(seed: int) -> None:
    norm, outputs, residuals = rows(seed)
    change = norm.change(outputs, torch.zeros_like(residuals))
    assert float((change.norm(dim=1) / outputs.norm(dim=1)).max()) < 1e-6


@given(st.integers(0, 10_000))
def test_a_residual_that_can_be_reached_is_reached_at_the_same_length(seed: int) -> None:
    norm, outputs, moves = rows(seed)
    residuals = norm.added(outputs / outputs.norm(dim=1, keepdim=True) + moves) - norm.added(outputs)
    reached = outputs + norm.change(outputs, residuals)
    assert relative_error(norm.added(reached) - norm.added(outputs), residuals) < 1e-2
    torch.testing.assert_close(reached.norm(dim=1), outputs.norm(dim=1))


@given(st.integers(0, 10_000), st.floats(0.01, 100.0))
def test_no_other_output_comes_nearer_to_a_residual_out_of_reach(seed: int, size: float) -> None:
    norm, outputs, residuals = rows(seed)
    wanted = norm.added(outputs) + size * residuals
    reached = outputs + norm.change(outputs, size * residuals)
    generator = torch.Generator().manual_seed(seed)
    nearest = (norm.added(reached) - wanted).norm(dim=1)
    slack = 0.02 * float(norm.gain.abs().median()) * len(norm.gain) ** 0.5  # what holding the outputs may cost
    for spread in (1e-3, 1e-1, 10.0):
        others = reached / reached.norm(dim=1, keepdim=True) + spread * torch.randn(
            reached.shape, generator=generator, dtype=torch.float64
        )
        assert bool(((norm.added(others) - wanted).norm(dim=1) > nearest - slack).all())


def test_entries_that_do_not_reach_the_stream_keep_their_values() -> None:
    norm, outputs, moves = rows(0)
    norm = OutputNorm(torch.where(torch.arange(12) == 3, 0.0, norm.gain))
    unit = outputs / outputs.norm(dim=1, keepdim=True)
    turned = unit + 0.2 * moves
    turned[:, 3] = 0.0
    rest = (1 - unit[:, 3:4] ** 2).sqrt()  # (rows, 1), the length that the other entries have
    turned *= rest / turned.norm(dim=1, keepdim=True)
    turned[:, 3] = unit[:, 3]
    residuals = norm.added(turned) - norm.added(unit)
    reached = unit + norm.change(unit, residuals)
    assert float((reached - turned)[:, 3].abs().max()) < 0.05  # 0.5 if it were set to 0
    assert relative_error(norm.added(reached) - norm.added(unit), residuals) < 1e-2
