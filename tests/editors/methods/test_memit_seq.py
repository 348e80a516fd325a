"""MEMIT-seq: MEMIT at first, and gentler to earlier steps after that."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from audit.editors.contract import RemembersSteps
from audit.editors.methods.memit import Memit
from audit.editors.methods.memit_seq import MemitSeq
from audit.editors.stages.keys import context_keys
from audit.editors.stages.solve import PastKeys, factorize, least_squares_directions
from audit.edits.requests import EditRequest
from audit.models.fingerprints import weights_fingerprint
from audit.models.language_model import LanguageModel
from audit.models.patches import LowRankDelta, Patch, WeightPatch, load_patch, originals_kept
from tests.editors.plain import GROUPS, REQUESTS, relative_error

CONFIG = {"layers": "0,1", "steps": "4", "covariance": "identity", "clamp_norm_factor": "2", "covariance_weight": "5"}


def deltas_of(patch: Patch) -> dict[str, Tensor]:
    assert isinstance(patch, WeightPatch)
    factors = {name: delta for name, delta in patch.deltas.items() if isinstance(delta, LowRankDelta)}
    return {name: delta.left @ delta.right for name, delta in factors.items()}


def second_of_two(lm: LanguageModel, editor: Memit | MemitSeq, first: list[EditRequest]) -> tuple[Patch, float]:
    """The patch of a second step, and how far it moves what the first layer says to the first step's keys."""
    with originals_kept(lm) as originals:
        editor.forget(lm)
        editor.edit(lm, first).write(lm, originals)
        editor.remember(lm, first)
        keys = context_keys(lm, first, editor.contexts(lm), 0, 4096).T.double()
        patch = editor.edit(lm, REQUESTS[2:])
    moved = deltas_of(patch)[lm.anatomy.weight_name(0)] @ keys
    return patch, float(moved.norm())


@pytest.mark.parametrize("family", ["tiny_gpt2", "tiny_llama"])
def test_without_a_past_it_is_memit(family: str, request: pytest.FixtureRequest) -> None:
    lm: LanguageModel = request.getfixturevalue(family)
    one, other = (deltas_of(kind(CONFIG, contexts=GROUPS).edit(lm, REQUESTS)) for kind in (Memit, MemitSeq))
    for name, change in one.items():
        assert torch.equal(other[name], change)


@pytest.mark.parametrize("family", ["gpt-2", "gpt-j", "opt", "llama-3", "gemma-2"])
def test_a_second_step_disturbs_the_keys_of_the_first_less_than_memit(
    family: str, families: Callable[[str], LanguageModel]
) -> None:
    lm = families(family)
    plain = second_of_two(lm, Memit(CONFIG, contexts=GROUPS), list(REQUESTS[:2]))[1]
    careful = second_of_two(lm, MemitSeq(CONFIG, contexts=GROUPS), list(REQUESTS[:2]))[1]
    assert 0 < careful < 0.7 * plain


def test_a_resumed_sequence_goes_on_as_one_run(tiny_gpt2: LanguageModel) -> None:
    """Steps that an interrupted run had finished are only written and remembered; contexts are sampled, not given."""
    config = CONFIG | {"contexts_per_length": "2", "context_lengths": "3"}
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


def test_forgetting_makes_it_memit_again(tiny_gpt2: LanguageModel) -> None:
    editor = MemitSeq(CONFIG, contexts=GROUPS)
    fresh = editor.edit(tiny_gpt2, REQUESTS[:2])
    second_of_two(tiny_gpt2, editor, list(REQUESTS[:2]))
    assert editor.edit(tiny_gpt2, REQUESTS[:2]).fingerprint != fresh.fingerprint
    editor.forget(tiny_gpt2)
    assert editor.edit(tiny_gpt2, REQUESTS[:2]).fingerprint == fresh.fingerprint


def test_remembering_leaves_the_weights_alone_and_the_patch_survives_its_folder(
    tiny_llama: LanguageModel, tmp_path: Path
) -> None:
    before = weights_fingerprint(tiny_llama)
    patch, _ = second_of_two(tiny_llama, MemitSeq(CONFIG, contexts=GROUPS), list(REQUESTS[:2]))
    assert weights_fingerprint(tiny_llama) == before
    patch.save(tmp_path)
    assert load_patch(tmp_path).fingerprint == patch.fingerprint


@given(st.integers(2, 10), st.lists(st.integers(1, 6), max_size=5), st.integers(1, 6), st.integers(0, 1000))
def test_past_keys_count_in_full_however_many_they_are(size: int, steps: list[int], count: int, seed: int) -> None:
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
    assert past.columns.shape[1] <= size  # what is kept is bounded
    expected = torch.linalg.solve(3 * C + total + K @ K.T, K)
    found = least_squares_directions(factorize(C), K, 3.0, past)
    assert relative_error(found, expected) < 1e-7
