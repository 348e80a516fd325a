"""Log-likelihoods of tokens: those of one sequence at a time, whatever is shared, divided or padded."""

import dataclasses
import math
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import PreTrainedModel

from audit.engine import batching, continuations, prefill
from audit.engine.continuations import Continuation, _nearest, _split_work
from audit.engine.forward import CausalForward, Places
from audit.engine.likelihoods import rank, teacher_forced, token_log_likelihoods
from audit.engine.lower_blocks import LowerStates
from audit.errors import AuditError
from audit.models.anatomy import find_anatomy
from audit.models.language_model import LanguageModel
from audit.models.patches import DenseDelta, WeightPatch
from audit.models.tokens import encode, join
from tests.engine.reference import BUDGETS, full_logits, mixed_prompts, token_log_probabilities
from tests.engine.test_generation import FAMILIES
from tests.tiny_models import CONTEXT_LENGTH, build_tiny_gpt2, build_tiny_llama

HEADER = "Question: How many coins does Alra have? Answer: She has 3 + 4 = 7 coins. #### 7\n\n"
ENDINGS = ("French.", "the harbour of Belton, where it employs 250 people", "a painter", "7", "Łódź or São Paulo")
# One continuation behind several prompts, several behind one prompt, one pair alone, several behind each of two
# prompts, no pair.
GROUPS = [
    [(prompt, ENDINGS[1]) for prompt in mixed_prompts(4)],
    [(mixed_prompts(5, seed=1)[2], ending) for ending in ENDINGS],
    *[[(prompt, ENDINGS[i % 5])] for i, prompt in enumerate(mixed_prompts(7, seed=2))],
    [(prompt, ending) for ending in ENDINGS[:3] for prompt in mixed_prompts(2, seed=3)],
    [],
]
AFTER_HEADER = [[(HEADER + prompt, continuation) for prompt, continuation in group] for group in GROUPS]
Values = Sequence[Sequence[Sequence[float]]]


@pytest.fixture(scope="module", params=["gpt2", "llama", *FAMILIES])
def lm(request: pytest.FixtureRequest, tiny_gpt2: LanguageModel, tiny_llama: LanguageModel) -> LanguageModel:
    if request.param in ("gpt2", "llama"):
        return tiny_gpt2 if request.param == "gpt2" else tiny_llama
    model_class, config_class, extra = FAMILIES[request.param]
    sizes = {"vocab_size": len(tiny_llama.tokenizer), "hidden_size": 32, "num_hidden_layers": 2}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        config = config_class(**({**sizes, "num_attention_heads": 4, "initializer_range": 0.2} | extra))
        model: PreTrainedModel = model_class(config).eval().requires_grad_(False)
    return dataclasses.replace(tiny_llama, name=request.param, model=model, anatomy=find_anatomy(model))


def reference(lm: LanguageModel, groups: Sequence[Sequence[tuple[str, str]]]) -> Values:
    joined = [[join(lm.tokenizer, *pair) for pair in group] for group in groups]
    return [[token_log_probabilities(lm, list(one.ids), one.prompt_length) for one in group] for group in joined]


def assert_same(found: Values, expected: Values) -> None:
    assert [len(group) for group in found] == [len(group) for group in expected]
    for group, other in zip(found, expected, strict=True):
        for values, others in zip(group, other, strict=True):
            assert values == pytest.approx(others, rel=1e-5, abs=1e-5)


@pytest.mark.parametrize("budget", BUDGETS)
@pytest.mark.parametrize("groups", [GROUPS, AFTER_HEADER], ids=["plain", "after a header"])
def test_values_are_those_of_one_sequence_at_a_time(lm: LanguageModel, groups: Any, budget: int) -> None:
    assert_same(token_log_likelihoods(lm, groups, token_budget=budget), reference(lm, groups))


@pytest.mark.parametrize("most", [1, 5, 12])
@pytest.mark.parametrize("worth_sharing", [1, 1_000_000])
def test_values_do_not_depend_on_how_often_the_head_runs(
    lm: LanguageModel, monkeypatch: pytest.MonkeyPatch, most: int, worth_sharing: int
) -> None:
    monkeypatch.setattr(batching, "LOGITS", most * lm.model.config.vocab_size)
    monkeypatch.setattr(prefill, "WORTH_SHARING", worth_sharing)
    seen: list[int] = []
    hook = lm.model.get_output_embeddings().register_forward_hook(lambda _, __, out: seen.append(out[..., 0].numel()))
    try:
        found = token_log_likelihoods(lm, AFTER_HEADER)
    finally:
        hook.remove()
    assert max(seen) <= max(most, len(GROUPS[1]))  # a shared prefix has one place that predicts no scored token
    assert_same(found, reference(lm, AFTER_HEADER))


def test_worked_examples_are_computed_once_for_single_continuations(
    tiny_llama: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(continuations, "MOST_PADDING", 1_000_000)  # one batch, however much padding it has
    pairs = [(HEADER + prompt, ENDINGS[i % 5]) for i, prompt in enumerate(mixed_prompts(9))]
    shared = len(prefill.common_prefix([tuple(encode(tiny_llama.tokenizer, prompt))[:-1] for prompt, _ in pairs]))
    shapes: list[tuple[int, ...]] = []
    hook = tiny_llama.model.register_forward_pre_hook(
        lambda _, args, kwargs: shapes.append(tuple(kwargs["input_ids"].shape)), with_kwargs=True
    )
    try:
        found = token_log_likelihoods(tiny_llama, [[pair] for pair in pairs])
    finally:
        hook.remove()
    own = max(len(join(tiny_llama.tokenizer, *pair).ids) for pair in pairs) - 1 - shared
    assert shapes == [(1, shared), (len(pairs), own)]
    assert_same(found, reference(tiny_llama, [[pair] for pair in pairs]))


@given(
    st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=6).map(tuple), max_size=6),
    st.integers(1, 30),
)
def test_a_group_is_divided_where_that_saves_most(prompts: list[tuple[int, ...]], places: int) -> None:
    group = [Continuation((*ids, 9), len(ids)) for ids in prompts]
    grouped, single = _split_work([group], places)
    assert sorted(member for work in (*grouped, *single) for member in work.members) == list(range(len(group)))
    for work in grouped:
        assert all(group[member].ids[: len(work.shared)] == work.shared for member in work.members)
        assert 1 + len(work.members) <= max(places, 2)
    parts = [[group[member] for member in part] for part in _nearest(group, range(len(group)))]
    ordered = sorted(group, key=lambda one: one.ids[: one.start])
    assert sum(map(_saved, parts)) == max(sum(map(_saved, runs)) for runs in _runs(ordered))


def _saved(part: Sequence[Continuation]) -> int:
    return len(prefill.common_prefix([one.ids[: one.start] for one in part])) * (len(part) - 1)


def _runs(ordered: Sequence[Continuation]) -> Iterator[list[Sequence[Continuation]]]:
    """Every way to divide a group into runs of neighbors."""
    if not ordered:
        yield []
    for end in range(1, len(ordered) + 1):
        for others in _runs(ordered[end:]):
            yield [ordered[:end], *others]


def test_wordings_of_an_item_are_each_computed_once(tiny_llama: LanguageModel) -> None:
    one, other = "Mara Lind was born in Belton, where she plays the piano.", "Kara Holm works as a baker in Alra."
    pairs = [(prompt, ending) for ending in ENDINGS[:2] for prompt in (one, other)]
    tokens: list[int] = []
    hook = tiny_llama.model.register_forward_pre_hook(
        lambda _, __, kwargs: tokens.append(kwargs["input_ids"].numel()), with_kwargs=True
    )
    try:
        found = token_log_likelihoods(tiny_llama, [pairs])
    finally:
        hook.remove()
    width = max(len(encode(tiny_llama.tokenizer, prompt)) for prompt in (one, other))
    assert tokens[0] == 2 * width  # both prompts, once each
    assert_same(found, reference(tiny_llama, [pairs]))


def test_a_prefix_is_not_shared_where_a_layer_keeps_a_window_only(lm: LanguageModel) -> None:
    rows = [tuple(encode(lm.tokenizer, prompt)) for (prompt, _), *_ in AFTER_HEADER[:-1]]
    has_window = getattr(lm.model.config, "sliding_window", None) is not None
    assert (prefill.compute_prefix(CausalForward(lm), rows) is None) == has_window


def test_the_head_runs_at_the_given_places(lm: LanguageModel) -> None:
    ids = [encode(lm.tokenizer, prompt) for prompt in ("Mara Lind was born in Belton", "Kara plays the piano")]
    rows, columns = torch.tensor([1, 0, 1]), torch.tensor([2, 4, 0])
    for side in ("left", "right"):
        tokens, mask = batching.padded(ids, side, lm.device)
        starts = torch.tensor([tokens.shape[1] - len(row) if side == "left" else 0 for row in ids])
        logits = CausalForward(lm)(tokens, mask, keep=Places(rows, columns + starts[rows]))
        for row, column, found in zip(rows.tolist(), columns.tolist(), logits, strict=True):
            torch.testing.assert_close(found, full_logits(lm, ids[row])[column], rtol=1e-4, atol=1e-4)
    assert not lm.model.get_output_embeddings()._forward_pre_hooks


def test_edited_models_share_their_lower_blocks(tiny_llama: LanguageModel) -> None:
    states = LowerStates(2)
    base = token_log_likelihoods(tiny_llama, GROUPS, forward=states.forward(tiny_llama))
    assert_same(base, reference(tiny_llama, GROUPS))
    name = tiny_llama.anatomy.weight_name(2)
    noise = torch.randn(tiny_llama.model.get_parameter(name).shape, generator=torch.Generator().manual_seed(1))
    with WeightPatch({name: DenseDelta(0.3 * noise)}).applied(tiny_llama):
        found = token_log_likelihoods(tiny_llama, GROUPS, forward=states.forward(tiny_llama))
        assert_same(found, reference(tiny_llama, GROUPS))
    assert abs(found[0][0][0] - base[0][0][0]) > 1e-3


def test_sums_are_those_of_rank_and_teacher_forcing(tiny_gpt2: LanguageModel) -> None:
    prompts, choices = mixed_prompts(5), [list(ENDINGS[: 1 + i]) for i in range(5)]
    groups = [[(prompt, choice) for choice in some] for prompt, some in zip(prompts, choices, strict=True)]
    found = token_log_likelihoods(tiny_gpt2, groups)
    sums = [[math.fsum(values) for values in group] for group in found]
    assert rank(tiny_gpt2, prompts, choices) == sums
    forced = teacher_forced(tiny_gpt2, [pair for group in groups for pair in group])
    assert [one.log_probability for one in forced] == pytest.approx([v for group in sums for v in group], rel=1e-5)


@pytest.mark.parametrize("prompt", ["", "  "])
def test_behind_an_empty_prompt_every_token_with_a_predecessor_is_scored(prompt: str) -> None:
    with_bos, without = build_tiny_llama(), build_tiny_gpt2()
    ids = encode(with_bos.tokenizer, "Mara Lind")
    assert ids[0] == with_bos.tokenizer.bos_token_id
    ((found,),) = token_log_likelihoods(with_bos, [[(prompt, "Mara Lind")]])
    assert found == pytest.approx(token_log_probabilities(with_bos, ids, 1), rel=1e-5)
    assert len(found) == len(ids) - 1
    ids = encode(without.tokenizer, "Mara Lind")
    reported: dict[int, Any] = {}
    progress: list[tuple[int, int]] = []
    found_all = token_log_likelihoods(
        without,
        [[(prompt, "Mara Lind")], [(prompt, "a")]],
        on_batch=reported.update,
        progress=lambda done, of: progress.append((done, of)),
    )
    assert found_all[0][0] == pytest.approx(token_log_probabilities(without, ids, 1), rel=1e-5)
    assert len(found_all[0][0]) == len(ids) - 1 and found_all[1] == [()]
    assert [reported[g] for g in range(2)] == found_all and progress[-1] == (2, 2)


def test_nothing_but_unscored_tokens_needs_no_call(tiny_gpt2: LanguageModel) -> None:
    assert token_log_likelihoods(tiny_gpt2, [[("", "a")], []]) == [[()], []]
    assert token_log_likelihoods(tiny_gpt2, []) == []


def test_every_group_is_reported_once_with_its_values(tiny_gpt2: LanguageModel) -> None:
    reported: list[tuple[int, list[tuple[float, ...]]]] = []
    found = token_log_likelihoods(
        tiny_gpt2, GROUPS, token_budget=90, on_batch=lambda fresh: reported.extend(fresh.items())
    )
    assert sorted(number for number, _ in reported) == list(range(len(GROUPS) - 1))
    assert all(values == found[number] for number, values in reported)


def test_a_collapsed_model_gives_nan_for_every_token() -> None:
    lm = build_tiny_llama()
    lm.model.get_output_embeddings().weight[5] = float("nan")
    found = token_log_likelihoods(lm, GROUPS)
    assert [[len(values) for values in group] for group in found] == [
        [len(join(lm.tokenizer, *pair).target_ids) for pair in group] for group in GROUPS
    ]
    assert all(math.isnan(value) for group in found for values in group for value in values)


def test_a_pair_that_cannot_be_scored_is_named(tiny_llama: LanguageModel) -> None:
    with pytest.raises(AuditError, match=rf"^Prompt 2 with continuation 1 .* holds {CONTEXT_LENGTH}; shorten it"):
        token_log_likelihoods(tiny_llama, [[], [], [("Mara", "Lind"), ("Mara", "7" * 600)]])
    with pytest.raises(AuditError, match="the target after the prompt 'Mara' is empty"):
        token_log_likelihoods(tiny_llama, [[("Mara", " ")]])
