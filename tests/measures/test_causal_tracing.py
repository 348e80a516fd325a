"""Causal tracing: properties of its runs, on models of several families."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from audit.measures.causal_tracing import (
    KINDS,
    NOTHING,
    TOKEN_ROLES,
    KnownFact,
    Restored,
    TracedRuns,
    embedding_spread,
    measure_effects,
    recalled_facts,
    token_role,
    trace_facts,
    window_around,
    window_size,
)
from audit.models.language_model import LanguageModel
from audit.models.tokens import encode, subject_span
from tests.editors.tiny_families import build_family

FACT = KnownFact("The mother tongue of {} is", "Danielle Darrieux", "Velden")
FACTS = (FACT, KnownFact("{} plays the", "Kara Quinwick", "piano"), KnownFact("It is {}", "Zoë", "café"))
FAMILIES = ("gpt-2", "opt", "llama-2", "gemma-3", "falcon")


@pytest.fixture(scope="module", params=FAMILIES)
def lm(request: pytest.FixtureRequest) -> LanguageModel:
    return build_family(request.param)


def runs(lm: LanguageModel, fact: KnownFact = FACT, samples: int = 2, seed: int = 0, budget: int = 4096) -> TracedRuns:
    first, last = subject_span(lm.tokenizer, fact.prompt, fact.subject)
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(samples, last - first + 1, lm.anatomy.hidden_size, generator=generator)
    return TracedRuns(lm, fact, noise, budget)


def everything(run: TracedRuns, lm: LanguageModel) -> list[Restored]:
    """Whatever leaves nothing of the noise: all blocks at every token, or the first alone."""
    layers, positions = tuple(range(lm.anatomy.depth)), tuple(range(run.length))
    return [Restored("block", layers, positions), Restored("block", layers[:1], positions)]


def said(lm: LanguageModel, fact: KnownFact) -> Tensor:
    ids = torch.tensor([encode(lm.tokenizer, fact.filled_prompt)])
    answer = encode(lm.tokenizer, f"{fact.filled_prompt} {fact.answer}")[ids.shape[1]]
    return lm.model(input_ids=ids).logits[0, -1].softmax(-1)[answer]


def test_restoring_everything_gives_the_clean_probability(lm: LanguageModel) -> None:
    run = runs(lm)
    assert run.clean == pytest.approx(float(said(lm, FACT)), rel=1e-4)
    corrupted, *restored = run.probabilities([NOTHING, *everything(run, lm)]).tolist()
    assert restored == pytest.approx([run.clean] * len(restored), rel=1e-4)
    assert corrupted != pytest.approx(run.clean, rel=1e-2)


def test_restoring_nothing_gives_the_corrupted_probability(lm: LanguageModel) -> None:
    """Also if the restored states come before the noise, or no longer affect the last token."""
    run = runs(lm)
    top = lm.anatomy.depth - 1
    idle = [Restored(kind, (0,), tuple(range(run.first))) for kind in KINDS] + [Restored("block", (top,), (run.last,))]
    corrupted, *same = run.probabilities([NOTHING, *idle]).tolist()
    assert same == pytest.approx([corrupted] * len(same), rel=1e-4)


def test_the_corrupted_run_is_noise_on_the_subjects_embeddings(tiny_llama: LanguageModel) -> None:
    run = runs(tiny_llama, samples=1)
    first, last = subject_span(tiny_llama.tokenizer, FACT.prompt, FACT.subject)
    noise = torch.randn(1, last - first + 1, 32, generator=torch.Generator().manual_seed(0))

    def drown(_: object, __: object, output: Tensor) -> Tensor:
        return torch.cat([output[:, :first], output[:, first : last + 1] + noise, output[:, last + 1 :]], dim=1)

    hook = tiny_llama.model.get_input_embeddings().register_forward_hook(drown)
    try:
        expected = float(said(tiny_llama, FACT))
    finally:
        hook.remove()
    assert float(run.probabilities([NOTHING])[0]) == pytest.approx(expected, rel=1e-4)


def test_batched_runs_equal_single_runs(lm: LanguageModel) -> None:
    places = [Restored(kind, (layer,), (at,)) for kind in KINDS for layer in (0, 2) for at in (5, 7)]
    together, alone = (runs(lm, budget=budget).probabilities(places) for budget in (4096, 1))
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-8)
    by_sample = torch.stack([runs(lm, samples=2).probabilities([place])[0] for place in places])
    torch.testing.assert_close(together, by_sample, rtol=1e-4, atol=1e-8)


def test_noise_is_seeded_without_touching_the_global_generator(tiny_llama: LanguageModel) -> None:
    state = torch.get_rng_state()
    one, again, other = (measure_effects(tiny_llama, FACTS, samples=2, seed=seed) for seed in (1, 1, 2))
    assert one == again != other
    assert torch.equal(torch.get_rng_state(), state)


def test_at_least_one_fact_and_one_noise_sample_are_needed(tiny_llama: LanguageModel) -> None:
    for trace in (trace_facts, measure_effects):
        with pytest.raises(ValueError, match=r"^there are no facts to trace; give at least one$"):
            trace(tiny_llama, [])
    with pytest.raises(ValueError, match=r"^0 noise samples for each fact; give at least 1$"):
        measure_effects(tiny_llama, FACTS, samples=0)


def test_effects_are_means_over_a_roles_tokens_and_then_over_facts(tiny_gpt2: LanguageModel) -> None:
    effects = measure_effects(tiny_gpt2, FACTS, samples=2)
    assert (effects.facts, effects.samples, effects.window) == (3, 2, 1)
    assert effects.role_facts[TOKEN_ROLES.index("last subject token")] == 3
    # The third fact's prompt ends with its subject.
    assert effects.role_facts[TOKEN_ROLES.index("last prompt token")] == 2
    alone = measure_effects(tiny_gpt2, [FACT], samples=2)
    role = TOKEN_ROLES.index("middle subject tokens")
    run = traced_like(tiny_gpt2, FACT)
    middle = [Restored("mlp", (1,), (position,)) for position in range(run.first + 1, run.last)]
    corrupted, *restored = run.probabilities([NOTHING, *middle]).tolist()
    row = alone.by_kind["mlp"][role]
    assert row is not None
    assert row[1] == pytest.approx(sum(restored) / len(restored) - corrupted, abs=1e-6)


def traced_like(lm: LanguageModel, fact: KnownFact) -> TracedRuns:
    """The runs of the first fact that `measure_effects` traces with two samples."""
    first, last = subject_span(lm.tokenizer, fact.prompt, fact.subject)
    noise = torch.randn(2, last - first + 1, lm.anatomy.hidden_size, generator=torch.Generator().manual_seed(0))
    return TracedRuns(lm, fact, 3 * embedding_spread(lm) * noise)


def test_the_cards_trace_is_the_effect_of_single_blocks(tiny_llama: LanguageModel) -> None:
    trace, effects = trace_facts(tiny_llama, FACTS[:2]), measure_effects(tiny_llama, FACTS[:2], samples=1)
    row = effects.by_kind["block"][TOKEN_ROLES.index("last subject token")]
    assert row is not None
    assert [p - trace.corrupted for p in trace.subject_last] == pytest.approx(list(row), abs=1e-6)
    assert (trace.clean, trace.corrupted) == pytest.approx((effects.clean, effects.corrupted), abs=1e-6)


def test_facts_that_the_model_does_not_know_are_left_out(tiny_gpt2: LanguageModel) -> None:
    ids = torch.tensor([encode(tiny_gpt2.tokenizer, FACT.filled_prompt)])
    best = tiny_gpt2.model(input_ids=ids).logits[0, -1].argsort(descending=True).tolist()
    words = (tiny_gpt2.tokenizer.decode([token]) for token in best)
    first = next(word for word in words if word.startswith(" ") and word.strip().isalpha())
    known = replace(FACT, answer=first.strip())
    others = [fact for fact in FACTS if fact not in recalled_facts(tiny_gpt2, FACTS)]
    found = recalled_facts(tiny_gpt2, [*others, known])
    assert found == ([known] if best[0] == tiny_gpt2.tokenizer.encode(first)[0] else [])


def test_the_spread_is_that_of_the_embedding_output() -> None:
    gemma, gpt2 = build_family("gemma-3"), build_family("gpt-2")
    weight = gpt2.model.get_input_embeddings().weight
    assert embedding_spread(gpt2) == pytest.approx(float(weight.std()), rel=1e-6)
    scaled = gemma.model.get_input_embeddings()(torch.arange(len(gemma.tokenizer)))
    assert embedding_spread(gemma) == pytest.approx(float(scaled.std()), rel=1e-6)
    assert embedding_spread(gemma) > 5 * float(gemma.model.get_input_embeddings().weight.std())  # by √hidden


@pytest.mark.parametrize(("depth", "window"), [(1, 1), (6, 1), (12, 2), (24, 5), (32, 7), (48, 10)])
def test_the_window_is_the_papers_share_of_the_depth(depth: int, window: int) -> None:
    assert window_size(depth) == window
    assert len(window_around(depth // 2, window, depth)) == window
    assert window_around(0, 10, 48) == (0, 1, 2, 3, 4) and window_around(20, 10, 48) == tuple(range(15, 25))


def test_every_token_has_one_role() -> None:
    names = [TOKEN_ROLES[token_role(position, 2, 5, 9)] for position in range(2, 9)]
    assert names == [
        "first subject token",
        "middle subject tokens",
        "middle subject tokens",
        "last subject token",
        "first later token",
        "further tokens",
        "last prompt token",
    ]
    assert [TOKEN_ROLES[token_role(position, 1, 1, 3)] for position in (1, 2)] == [
        "last subject token",
        "last prompt token",
    ]
    assert TOKEN_ROLES[token_role(4, 3, 4, 5)] == "last subject token"


def test_no_hook_is_left_behind(lm: LanguageModel) -> None:
    runs(lm).probabilities([Restored("mlp", (1,), (3,))])
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in lm.model.modules())
