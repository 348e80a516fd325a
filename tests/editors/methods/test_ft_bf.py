"""FT-BF: every epoch passes once through all edits, and targets end with the end-of-text token."""

from collections.abc import Callable, Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from audit.editors.methods import ft_bf
from audit.editors.methods.ft import FineTuning
from audit.editors.methods.ft_bf import BreadthFirst, BreadthFirstSettings
from audit.editors.stages.editor_settings import Shapes
from audit.editors.stages.fine_tuning import TargetBatch, TargetRow, target_row
from audit.errors import AuditError
from audit.models.fingerprints import weights_fingerprint
from audit.models.language_model import LanguageModel
from audit.models.patches import WeightPatch
from tests.editors.plain import REQUESTS, relative_error
from tests.tiny_models import build_tiny_gpt2

CONFIG = {"layers": "1", "steps": "3", "learning_rate": "0.01", "batch_size": "2"}


def learnt(lm: LanguageModel, config: dict[str, str], seed: int = 0) -> list[list[TargetRow]]:
    """The mini-batches of an edit, in their order."""
    seen: list[list[TargetRow]] = []

    class Recorded(TargetBatch):
        def __init__(self, lm: LanguageModel, rows: Sequence[TargetRow], start: int, token_budget: int) -> None:
            seen.append(list(rows))
            super().__init__(lm, rows, start, token_budget)

    with pytest.MonkeyPatch.context() as patching:
        patching.setattr(ft_bf, "TargetBatch", Recorded)
        BreadthFirst(config, seed=seed).edit(lm, REQUESTS)
    return seen


@settings(max_examples=10)
@given(batch_size=st.integers(1, 5), epochs=st.integers(1, 3), seed=st.integers(0, 99))
def test_every_request_is_learnt_once_an_epoch(
    tiny_gpt2: LanguageModel, batch_size: int, epochs: int, seed: int
) -> None:
    config = {"layers": "2", "steps": str(epochs), "batch_size": str(batch_size), "stop_loss": "0"}
    batches = learnt(tiny_gpt2, config, seed)
    per_epoch = -(-len(REQUESTS) // batch_size)
    assert len(batches) == epochs * per_epoch
    for epoch in range(epochs):
        rows = [row for batch in batches[epoch * per_epoch : (epoch + 1) * per_epoch] for row in batch]
        assert len(rows) == len(set(rows)) == len(REQUESTS)


def test_epochs_are_shuffled_by_the_seed_and_by_nothing_else(tiny_gpt2: LanguageModel) -> None:
    config = CONFIG | {"batch_size": "1", "steps": "4", "stop_loss": "0"}
    torch.manual_seed(3)
    one = learnt(tiny_gpt2, config, seed=1)
    state = torch.get_rng_state()
    assert learnt(tiny_gpt2, config, seed=1) == one
    assert learnt(tiny_gpt2, config, seed=2) != one
    assert one[:4] != one[4:8]
    assert torch.equal(torch.get_rng_state(), state)
    patches = [BreadthFirst(config, seed=seed).edit(tiny_gpt2, REQUESTS).fingerprint for seed in (1, 1, 2)]
    assert patches[0] == patches[1] != patches[2]


def test_the_target_ends_with_the_end_of_text_where_there_is_one(tiny_llama: LanguageModel) -> None:
    end = tiny_llama.tokenizer.eos_token_id
    for batch in learnt(tiny_llama, CONFIG):
        for row in batch:
            assert row.labels[-1] == end and end not in row.labels[:-1] and end not in row.ids
            assert tiny_llama.tokenizer.decode(row.labels[:-1]).strip() in {case.target_new for case in REQUESTS}
    endless = build_tiny_gpt2()
    endless.tokenizer.eos_token = None
    rows = {target_row(endless, request) for request in REQUESTS}
    assert {row for batch in learnt(endless, CONFIG) for row in batch} == rows


def test_in_one_batch_and_without_an_end_it_is_ft() -> None:
    lm = build_tiny_gpt2()
    lm.tokenizer.eos_token = None
    config = {"layers": "1", "steps": "4", "learning_rate": "0.01"}
    name, device = lm.anatomy.weight_name(1), torch.device("cpu")
    whole, plain = BreadthFirst(config).edit(lm, REQUESTS), FineTuning(config).edit(lm, REQUESTS)
    assert isinstance(whole, WeightPatch) and isinstance(plain, WeightPatch)
    expected = plain.deltas[name].change(False, device)
    assert relative_error(whole.deltas[name].change(False, device), expected) < 1e-2


@pytest.mark.parametrize("family", ["gpt-2", "llama-2", "opt", "gemma-2"])
def test_one_matrix_alone_is_changed(family: str, families: Callable[[str], LanguageModel]) -> None:
    lm = families(family)
    before = weights_fingerprint(lm)
    patch = BreadthFirst(CONFIG).edit(lm, REQUESTS)
    assert weights_fingerprint(lm) == before
    assert isinstance(patch, WeightPatch) and set(patch.deltas) == {lm.anatomy.weight_name(1)}
    assert patch.meta["updates"] == "6"


def test_training_stops_early_below_the_stop_loss(tiny_gpt2: LanguageModel) -> None:
    patch = BreadthFirst(CONFIG | {"stop_loss": "1000"}).edit(tiny_gpt2, REQUESTS)
    assert isinstance(patch, WeightPatch) and patch.meta["updates"] == "2"


def test_settings_are_the_published_ones(tiny_gpt2: LanguageModel) -> None:
    assert BreadthFirstSettings.published[Shapes.LLAMA_3_8B] == {"layers": (22,)}
    assert BreadthFirstSettings.published[Shapes.QWEN_2_7B] == {"layers": (6,)}
    assert (BreadthFirstSettings().steps, BreadthFirstSettings().batch_size) == (25, 100)
    with pytest.raises(AuditError, match="batch_size is 0: give at least 1"):
        BreadthFirst({"batch_size": "0"}).edit(tiny_gpt2, REQUESTS)
