"""MEMIT and MEMIT-seq: properties of their updates."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from audit.editors.contract import RemembersSteps
from audit.editors.methods.memit import Memit, MemitSeq
from audit.editors.stages.keys import Contexts, mean_keys
from audit.editors.stages.solve import PastKeys, factorize, least_squares_directions
from audit.editors.stages.values import optimize_values
from audit.edits.requests import EditRequest
from audit.engine.sequences import prompt_sequence
from audit.models.fingerprints import weights_fingerprint
from audit.models.language_model import LanguageModel
from audit.models.patches import LowRankDelta, Patch, WeightPatch, load_patch, originals_kept
from tests.editors.plain import GROUPS, REQUESTS, relative_error, states_at

CONFIG = {"layers": "0,1", "steps": "5", "covariance": "identity", "clamp_norm_factor": "2"}


def deltas_of(patch: Patch) -> dict[str, Tensor]:
    assert isinstance(patch, WeightPatch)
    factors = {name: delta for name, delta in patch.deltas.items() if isinstance(delta, LowRankDelta)}
    assert factors.keys() == patch.deltas.keys()
    return {name: delta.left @ delta.right for name, delta in factors.items()}


@pytest.mark.parametrize("family", ["tiny_gpt2", "tiny_llama"])
def test_with_a_small_covariance_weight_the_bare_prompts_reach_their_targets(
    family: str, request: pytest.FixtureRequest
) -> None:
    lm: LanguageModel = request.getfixturevalue(family)
    memit = Memit(CONFIG | {"covariance_weight": "1e-6"}, contexts=Contexts((("",),)))
    values = optimize_values(lm, REQUESTS, memit.contexts(lm), layer=1, site="block", settings=memit.settings(lm))
    with memit.edit(lm, REQUESTS).applied(lm):
        for row, case in enumerate(REQUESTS):
            reached = states_at(lm, lm.anatomy.blocks[1], prompt_sequence(lm, case))[1]
            assert relative_error(reached - values.initial[row], values.delta[row]) < 1e-2


def test_with_a_large_covariance_weight_nothing_changes(tiny_gpt2: LanguageModel) -> None:
    changes = deltas_of(Memit(CONFIG | {"covariance_weight": "1e12"}, contexts=GROUPS).edit(tiny_gpt2, REQUESTS))
    assert max(float(change.abs().max()) for change in changes.values()) < 1e-6


@pytest.mark.parametrize("family", ["tiny_gpt2", "tiny_llama"])
def test_the_first_layer_is_the_papers_least_squares(family: str, request: pytest.FixtureRequest) -> None:
    lm: LanguageModel = request.getfixturevalue(family)
    memit = Memit(CONFIG | {"covariance_weight": "3"}, contexts=GROUPS)
    changes = deltas_of(memit.edit(lm, REQUESTS))
    values = optimize_values(lm, REQUESTS, GROUPS, layer=1, site="block", settings=memit.settings(lm))
    K = mean_keys(lm, REQUESTS, GROUPS, 0, 4096).double().T
    R = values.delta.double().T / 2  # the first of two layers takes half of the residual
    expected = R @ torch.linalg.solve(3 * torch.eye(len(K)).double() + K @ K.T, K).T
    assert relative_error(changes[lm.anatomy.weight_name(0)], expected) < 1e-3


def test_the_order_of_requests_changes_nothing(tiny_llama: LanguageModel) -> None:
    memit = Memit(CONFIG | {"covariance_weight": "10"}, contexts=GROUPS)
    one = deltas_of(memit.edit(tiny_llama, REQUESTS))
    other = deltas_of(memit.edit(tiny_llama, [REQUESTS[index] for index in (3, 1, 0, 2)]))
    for name, change in one.items():
        assert relative_error(other[name], change) < 1e-3


def test_later_layers_are_written_on_the_edited_model(tiny_gpt2: LanguageModel) -> None:
    """Writing layer 0, then layer 1 on the edited model, equals one edit of both."""
    memit = Memit(CONFIG | {"covariance_weight": "1"}, contexts=GROUPS)
    changes = deltas_of(memit.edit(tiny_gpt2, REQUESTS))
    values = optimize_values(tiny_gpt2, REQUESTS, GROUPS, layer=1, site="block", settings=memit.settings(tiny_gpt2))
    first, second = (tiny_gpt2.anatomy.weight_name(layer) for layer in (0, 1))
    half_way = WeightPatch({first: LowRankDelta(changes[first], torch.eye(128).double())}, frozenset({first}))
    with half_way.applied(tiny_gpt2):
        K = mean_keys(tiny_gpt2, REQUESTS, GROUPS, 1, 4096).double().T
        block = tiny_gpt2.anatomy.blocks[1]
        current = torch.stack([states_at(tiny_gpt2, block, prompt_sequence(tiny_gpt2, case))[1] for case in REQUESTS])
    R = (values.targets - current).double().T  # the last layer takes the whole residual
    expected = R @ torch.linalg.solve(torch.eye(128).double() + K @ K.T, K).T
    assert relative_error(changes[second], expected) < 1e-3


@pytest.mark.parametrize("family", ["tiny_gpt2", "tiny_llama"])
def test_editing_leaves_the_weights_bit_identical(family: str, request: pytest.FixtureRequest) -> None:
    lm: LanguageModel = request.getfixturevalue(family)
    before = weights_fingerprint(lm)
    patch = Memit(CONFIG, contexts=GROUPS).edit(lm, REQUESTS)
    assert weights_fingerprint(lm) == before
    with patch.applied(lm):
        assert weights_fingerprint(lm) != before
    assert weights_fingerprint(lm) == before


def test_an_interrupted_edit_leaves_the_weights_bit_identical(
    tiny_gpt2: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = weights_fingerprint(tiny_gpt2)
    memit = Memit(CONFIG, contexts=GROUPS)
    written = []

    def interrupted(*_: object) -> Tensor:
        if weights_fingerprint(tiny_gpt2) != before:
            written.append(True)
            raise KeyboardInterrupt
        return states_at(tiny_gpt2, tiny_gpt2.anatomy.blocks[1], prompt_sequence(tiny_gpt2, REQUESTS[0]))[1][None]

    monkeypatch.setattr(memit, "_current", interrupted)
    with pytest.raises(KeyboardInterrupt):
        memit.edit(tiny_gpt2, REQUESTS[:1])
    assert written and weights_fingerprint(tiny_gpt2) == before


def test_half_precision_models_are_edited_in_float32(tiny_gpt2: LanguageModel) -> None:
    from tests.tiny_models import build_tiny_gpt2

    half = build_tiny_gpt2(dtype=torch.bfloat16)
    memit = Memit(CONFIG | {"covariance_weight": "10"}, contexts=GROUPS)
    rough, fine = deltas_of(memit.edit(half, REQUESTS)), deltas_of(memit.edit(tiny_gpt2, REQUESTS))
    for name, change in rough.items():
        assert bool(change.isfinite().all())
        assert torch.nn.functional.cosine_similarity(change.flatten(), fine[name].flatten(), dim=0) > 0.8


SEQUENCE = {"layers": "0,1", "steps": "4", "covariance": "identity", "clamp_norm_factor": "2", "covariance_weight": "5"}


def second_of_two(lm: LanguageModel, editor: Memit | MemitSeq, first: list[EditRequest]) -> tuple[Patch, float]:
    """The patch of a second step, and how much it changes the first layer's output for the first step's keys."""
    with originals_kept(lm) as originals:
        editor.forget(lm)
        editor.edit(lm, first).write(lm, originals)
        editor.remember(lm, first)
        keys = mean_keys(lm, first, editor.contexts(lm), 0, 4096).T.double()
        patch = editor.edit(lm, REQUESTS[2:])
    moved = deltas_of(patch)[lm.anatomy.weight_name(0)] @ keys
    return patch, float(moved.norm())


@pytest.mark.parametrize("family", ["tiny_gpt2", "tiny_llama"])
def test_memit_seq_without_earlier_steps_is_memit(family: str, request: pytest.FixtureRequest) -> None:
    lm: LanguageModel = request.getfixturevalue(family)
    one, other = (deltas_of(kind(SEQUENCE, contexts=GROUPS).edit(lm, REQUESTS)) for kind in (Memit, MemitSeq))
    for name, change in one.items():
        assert torch.equal(other[name], change)


@pytest.mark.parametrize("family", ["gpt-2", "gpt-j", "opt", "llama-3", "gemma-2"])
def test_a_second_step_disturbs_the_keys_of_the_first_less_than_memit(
    family: str, families: Callable[[str], LanguageModel]
) -> None:
    lm = families(family)
    plain = second_of_two(lm, Memit(SEQUENCE, contexts=GROUPS), list(REQUESTS[:2]))[1]
    careful = second_of_two(lm, MemitSeq(SEQUENCE, contexts=GROUPS), list(REQUESTS[:2]))[1]
    assert 0 < careful < 0.7 * plain


def test_a_resumed_sequence_equals_one_run(tiny_gpt2: LanguageModel) -> None:
    """The finished steps of an interrupted run are written and remembered, not edited again; contexts are sampled."""
    config = SEQUENCE | {"contexts_per_length": "2", "context_lengths": "3"}
    through, resumed = MemitSeq(config), MemitSeq(config)
    assert isinstance(resumed, RemembersSteps)
    first, second = list(REQUESTS[:2]), list(REQUESTS[2:])
    with originals_kept(tiny_gpt2) as originals:
        through.forget(tiny_gpt2)
        step = through.edit(tiny_gpt2, first)
        step.write(tiny_gpt2, originals)
        through.remember(tiny_gpt2, first)
        expected = through.edit(tiny_gpt2, second)
    with originals_kept(tiny_gpt2) as originals:
        resumed.forget(tiny_gpt2)
        step.write(tiny_gpt2, originals)
        resumed.remember(tiny_gpt2, first)
        assert resumed.edit(tiny_gpt2, second).fingerprint == expected.fingerprint


def test_after_forgetting_memit_seq_is_memit_again(tiny_gpt2: LanguageModel) -> None:
    editor = MemitSeq(SEQUENCE, contexts=GROUPS)
    fresh = editor.edit(tiny_gpt2, REQUESTS[:2])
    second_of_two(tiny_gpt2, editor, list(REQUESTS[:2]))
    assert editor.edit(tiny_gpt2, REQUESTS[:2]).fingerprint != fresh.fingerprint
    editor.forget(tiny_gpt2)
    assert editor.edit(tiny_gpt2, REQUESTS[:2]).fingerprint == fresh.fingerprint


def test_remembering_changes_no_weights_and_the_patch_can_be_saved(tiny_llama: LanguageModel, tmp_path: Path) -> None:
    before = weights_fingerprint(tiny_llama)
    patch, _ = second_of_two(tiny_llama, MemitSeq(SEQUENCE, contexts=GROUPS), list(REQUESTS[:2]))
    assert weights_fingerprint(tiny_llama) == before
    patch.save(tmp_path)
    assert load_patch(tmp_path).fingerprint == patch.fingerprint


@given(st.integers(2, 10), st.lists(st.integers(1, 6), max_size=5), st.integers(1, 6), st.integers(0, 1000))
def test_past_keys_are_complete_for_any_number(size: int, steps: list[int], count: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)

    def drawn(columns: int) -> Tensor:
        return torch.randn(size, columns, generator=generator, dtype=torch.float64)

    C = drawn(4 * size) @ drawn(4 * size).T
    C = C @ C.T / (16 * size**2) + torch.eye(size).double()
    K = drawn(count)
    past, total = PastKeys.none(size), torch.zeros(size, size).double()
    for columns in steps:
        keys = drawn(columns)
        past, total = past.joined(keys), total + keys @ keys.T
    assert past.columns.shape[1] <= size  # memory is bounded
    expected = torch.linalg.solve(3 * C + total + K @ K.T, K)
    found = least_squares_directions(factorize(C), K, 3.0, past)
    assert relative_error(found, expected) < 1e-7
