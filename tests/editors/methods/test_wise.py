"""WISE: a masked side memory, a margin between edited and other inputs, and routing by position."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from audit.editors.methods.wise import MARGIN_MEANS, Wise, margin_loss, random_mask
from audit.edits.requests import EditRequest
from audit.edits.sources import load_requests
from audit.engine import Decoding
from audit.engine.generation import generate
from audit.engine.likelihoods import teacher_forced
from audit.errors import AuditError
from audit.measures.edit_success import measure_edits
from audit.models.fingerprints import weights_fingerprint
from audit.models.language_model import LanguageModel
from audit.models.loading import load_language_model
from audit.models.patches import ModulePatch, Patch, originals_kept
from audit.models.side_memory import SideMemory, ties
from tests.editors.plain import REQUESTS
from tests.editors.tiny_families import FAMILIES
from tests.engine.reference import BUDGETS, mixed_prompts

Families = Callable[[str], LanguageModel]
CONFIG = {
    "layer": "1",
    "steps": "60",
    "learning_rate": "0.3",
    "stop_loss": "0.05",
    "mask_ratio": "0.5",
    "near": "1",
    "far": "4",
    "gap": "2",
    "other_texts": "2",
    "other_tokens": "4",
}
# One token each: they are learnt in a few steps.
SHORT = tuple(replace(r, target_new=w) for r, w in zip(REQUESTS, ("Velden", "in", "is", "Mara"), strict=True))
QUICK = CONFIG | {"steps": "2"}


def memory_of(patch: Patch) -> SideMemory:
    assert isinstance(patch, ModulePatch)
    (memory,) = patch.attachments
    assert isinstance(memory, SideMemory)
    return memory


def says(lm: LanguageModel, request: EditRequest) -> bool:
    (answer,) = generate(lm, [request.filled_prompt], Decoding(4, stop=()))
    return answer.strip().startswith(request.target_new)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_memory_makes_targets_likelier_in_every_family(family: str, families: Families) -> None:
    lm, asked = families(family), [(REQUESTS[1].filled_prompt, REQUESTS[1].target_new)]
    before, (untouched,) = weights_fingerprint(lm), teacher_forced(lm, asked)
    patch = Wise(QUICK | {"steps": "6", "learning_rate": "0.03"}).edit(lm, REQUESTS[1:2])
    assert memory_of(patch).change.shape == (lm.anatomy.hidden_size, lm.anatomy.inner_size)
    with patch.applied(lm):
        (forced,) = teacher_forced(lm, asked)
        assert weights_fingerprint(lm) == before
    assert forced.tokens > 1 and forced.log_probability > untouched.log_probability
    assert not lm.attached and teacher_forced(lm, asked) == [untouched]


@pytest.mark.parametrize("family", ["gpt-2", "llama-3", "opt"])
def test_targets_are_generated_and_answers_do_not_depend_on_the_batch(family: str, families: Families) -> None:
    lm = families(family)
    prompts = [*mixed_prompts(8), *(request.filled_prompt for request in SHORT)]
    plain = generate(lm, prompts, Decoding(12, stop=()))
    free = {"learning_rate": "1", "margin_mean": "all", "norm_constraint": "0"}  # tiny weights move far
    with Wise(CONFIG | free).edit(lm, SHORT[1:3]).applied(lm):
        assert all(says(lm, request) for request in SHORT[1:3])
        alone = generate(lm, prompts, Decoding(12, stop=()), token_budget=1)  # one row a batch
        assert alone != plain
        for budget in BUDGETS[1:3]:
            assert generate(lm, prompts, Decoding(12, stop=()), token_budget=budget) == alone
        assert generate(lm, prompts[::-1], Decoding(12, stop=())) == alone[::-1]


@given(st.integers(1, 40), st.integers(1, 40), st.floats(0.01, 1.0), st.integers(0, 1000))
def test_a_mask_has_exactly_its_share_of_entries(rows: int, columns: int, ratio: float, seed: int) -> None:
    mask = random_mask((rows, columns), ratio, seed)
    assert int(mask.sum()) == round(ratio * rows * columns)
    assert torch.equal(mask, random_mask((rows, columns), ratio, seed))


def test_a_shard_changes_nothing_outside_its_mask(tiny_gpt2: LanguageModel) -> None:
    memory = memory_of(Wise(QUICK | {"mask_ratio": "0.25"}, seed=3).edit(tiny_gpt2, REQUESTS[:2]))
    mask = random_mask((32, 128), 0.25, seed=3 + 1)
    assert not bool(memory.shards[0][~mask].any())
    assert float((memory.shards[0][mask] != 0).float().mean()) > 0.9


@pytest.mark.parametrize("mean", MARGIN_MEANS)
def test_the_margin_loss_is_zero_exactly_if_all_three_conditions_hold(mean: str) -> None:
    def loss(edited: list[float], others: list[float]) -> float:
        bounds = {"near": 1.0, "far": 4.0, "gap": 2.0}
        return float(margin_loss(torch.tensor(edited), torch.tensor(others), **bounds, average=MARGIN_MEANS[mean]))

    assert loss([4.0, 9.0], [1.0, 0.0]) == 0.0
    assert loss([4.0], [1.5]) == pytest.approx(0.5)  # an other input is too far
    assert loss([3.5], [0.0]) == pytest.approx(0.5)  # an edited one is too near
    assert loss([4.0], [3.0]) == pytest.approx(2.0 + 1.0)  # too far, and no gap between the two


def test_the_margin_loss_averages_over_the_violating_inputs_and_pairs() -> None:
    edited, others = torch.tensor([4.0, 9.0]), torch.tensor([0.0, 3.0])
    # one of two others is 2 too far; of four pairs only (4, 3) has too small a gap, by 1
    means = {
        name: float(margin_loss(edited, others, near=1.0, far=4.0, gap=2.0, average=mean))
        for name, mean in MARGIN_MEANS.items()
    }
    assert means == {"violating": 2.0 + 1.0, "all": 2.0 / 2 + 1.0 / 4}


def test_no_entry_of_the_side_memory_moves_beyond_the_norm_constraint(tiny_gpt2: LanguageModel) -> None:
    def largest(bound: str) -> float:
        patch = Wise(QUICK | {"learning_rate": "50", "norm_constraint": bound}).edit(tiny_gpt2, REQUESTS)
        assert isinstance(patch, ModulePatch)
        memory = patch.attachments[0]
        assert isinstance(memory, SideMemory)
        return float(memory.shards.abs().max())

    assert largest("0.01") <= 0.01 < largest("0")


def test_shards_open_after_save_freq_edits_and_merge_after_merge_freq(tiny_gpt2: LanguageModel) -> None:
    lm, wise = tiny_gpt2, Wise(QUICK | {"save_freq": "2", "merge_freq": "4", "density": "0.3"})
    seen: list[tuple[int, int, int]] = []
    with originals_kept(lm) as originals:
        for request in (*REQUESTS, REQUESTS[0]):
            patch = wise.edit(lm, [request])
            patch.write(lm, originals)
            memory = memory_of(patch)
            seen.append((len(memory.shards), memory.since_merge, memory.opened))
    assert seen == [(1, 1, 1), (1, 2, 1), (2, 3, 2), (1, 0, 2), (2, 1, 3)]
    assert not lm.attached

    at_once = memory_of(wise.edit(lm, [*REQUESTS, REQUESTS[0]]))
    assert (len(at_once.shards), at_once.since_merge, at_once.opened) == seen[-1]
    three = memory_of(wise.edit(lm, REQUESTS[:3]))
    assert torch.equal(three.change, ties(tuple(three.shards), 0.3))


def test_a_second_step_trains_without_the_first_attached(tiny_llama: LanguageModel) -> None:
    """Without any update, the second step leaves the shard unchanged."""
    lm = tiny_llama
    first = Wise(CONFIG).edit(lm, REQUESTS[:1])
    with first.applied(lm):
        attached = dict(lm.attached)
        second = memory_of(Wise(CONFIG | {"stop_loss": "1e9"}).edit(lm, REQUESTS[:1]))
        assert lm.attached.keys() == attached.keys()
        assert lm.attached[second.slot].attachment is memory_of(first)
    assert isinstance(first, ModulePatch)
    assert torch.equal(second.shards, memory_of(first).shards)
    with first.applied(lm):
        loss = Wise(CONFIG | {"stop_loss": "1e9"}).edit(lm, REQUESTS[:1])
    assert isinstance(loss, ModulePatch)
    assert float(loss.meta["losses"]) == pytest.approx(float(first.meta["losses"]), rel=1e-3)


def test_the_token_budget_does_not_change_the_outcome(tiny_llama: LanguageModel) -> None:
    one, other = (
        memory_of(Wise(QUICK | {"token_budget": budget}).edit(tiny_llama, REQUESTS)) for budget in ("1", "9999")
    )
    torch.testing.assert_close(one.change, other.change, rtol=1e-3, atol=1e-5)
    assert one.threshold == pytest.approx(other.threshold, rel=1e-3)


def test_settings_out_of_range_and_no_request_are_refused(tiny_gpt2: LanguageModel) -> None:
    with pytest.raises(AuditError, match="no edit request"):
        Wise().edit(tiny_gpt2, [])
    wrong = {"layer": "3", "steps": "0", "mask_ratio": "0", "ratio": "1.5", "far": "-1", "learning_rate": "nan"}
    for key, value in wrong.items():
        with pytest.raises(AuditError, match=f"{key} is"):
            Wise({key: value}).edit(tiny_gpt2, REQUESTS[:1])


def test_a_model_that_generates_no_text_is_refused(tiny_gpt2: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("audit.editors.methods.wise.sample_prefixes", lambda *_: ("", ""))
    with pytest.raises(AuditError, match="generated no text for the editor wise to keep unchanged"):
        Wise(QUICK).edit(tiny_gpt2, REQUESTS[:1])


def test_one_seed_one_memory(tiny_gpt2: LanguageModel) -> None:
    state = torch.get_rng_state()
    patches = [Wise(QUICK, seed=seed).edit(tiny_gpt2, REQUESTS[:2]) for seed in (0, 0, 1)]
    assert torch.equal(torch.get_rng_state(), state)
    assert not torch.equal(memory_of(patches[0]).change, memory_of(patches[2]).change)
    assert patches[0].fingerprint == patches[1].fingerprint
    assert isinstance(patches[0], ModulePatch)
    assert (patches[0].meta["editor"], patches[0].meta["requests"]) == ("wise", "a,b")


def test_a_pocket_edit_takes() -> None:
    lm = load_language_model("pocket-llama")
    requests = load_requests("pocket").draw(1, 0).requests
    scores = measure_edits(lm, Wise({"steps": "60"}).edit(lm, requests), requests)
    assert scores.efficacy_autoregressive is not None and scores.efficacy_autoregressive.value == 1.0
