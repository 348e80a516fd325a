"""Log-likelihoods: those of one sequence at a time, whatever the batch."""

import math
from typing import Any

import pytest

from audit.engine import batching, continuations
from audit.engine.likelihoods import negative_log_likelihood, perplexity, rank, teacher_forced
from audit.errors import AuditError
from audit.models.language_model import LanguageModel
from audit.models.tokens import encode, join
from tests.engine.reference import BUDGETS, full_logits, mixed_prompts, token_log_probabilities
from tests.tiny_models import CONTEXT_LENGTH, CORPUS, build_tiny_gpt2, build_tiny_llama

ENDINGS = ("French.", "the harbour of Belton, where it employs 250 people", "a painter", "7", "Łódź or São Paulo")


@pytest.fixture
def prompts() -> list[str]:
    return mixed_prompts(9)


@pytest.fixture
def choices(prompts: list[str]) -> list[list[str]]:
    return [[f"{ENDINGS[(i + k) % 5]}" for k in range(1 + i % 4)] for i in range(len(prompts))]


def reference(lm: LanguageModel, prompts: list[str], choices: list[list[str]]) -> list[list[float]]:
    values = []
    for prompt, options in zip(prompts, choices, strict=True):
        tokens = [join(lm.tokenizer, prompt, option) for option in options]
        values.append([math.fsum(token_log_probabilities(lm, list(t.ids), t.prompt_length)) for t in tokens])
    return values


@pytest.mark.parametrize("budget", BUDGETS)
@pytest.mark.parametrize("build", [build_tiny_gpt2, build_tiny_llama])
@pytest.mark.parametrize("tokenizer", ["plain", "bos", "metaspace"])
def test_values_are_those_of_one_sequence_at_a_time(
    prompts: list[str], choices: list[list[str]], build: Any, tokenizer: Any, budget: int
) -> None:
    lm = build(tokenizer=tokenizer)
    expected = reference(lm, prompts, choices)
    ranked = rank(lm, prompts, choices, token_budget=budget)
    assert [len(row) for row in ranked] == [len(row) for row in choices]
    for row, expected_row in zip(ranked, expected, strict=True):
        assert row == pytest.approx(expected_row, rel=1e-5)


def test_values_do_not_depend_on_neighbours(
    tiny_llama: LanguageModel, prompts: list[str], choices: list[list[str]]
) -> None:
    ranked = rank(tiny_llama, prompts, choices)
    backwards = rank(tiny_llama, prompts[::-1], [row[::-1] for row in choices[::-1]], token_budget=300)
    for row, other in zip(ranked, backwards[::-1], strict=True):
        assert row == pytest.approx(other[::-1], rel=1e-5)
    assert rank(tiny_llama, prompts[3:4], choices[3:4])[0] == pytest.approx(ranked[3], rel=1e-5)


def test_the_shared_prompt_is_computed_once(tiny_gpt2: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    shapes: list[tuple[int, ...]] = []
    original = tiny_gpt2.model.forward

    def forward(**arguments: Any) -> Any:
        shapes.append(tuple(arguments["input_ids"].shape))
        return original(**arguments)

    monkeypatch.setattr(tiny_gpt2.model, "forward", forward)
    prompt = "The mother tongue of Danielle Darrieux is"
    options = ["French.", "Question", "in the north"]
    rank(tiny_gpt2, [prompt], [options])
    joined = [join(tiny_gpt2.tokenizer, prompt, option) for option in options]
    prompt_length = joined[0].prompt_length
    # The prompt once, which says how likely the first tokens are; then each choice without its last token.
    assert shapes == [(1, prompt_length), (3, max(len(tokens.target_ids) for tokens in joined) - 1)]


def test_choices_of_one_token_need_only_the_prompt(tiny_gpt2: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    shapes: list[tuple[int, ...]] = []
    original = tiny_gpt2.model.forward

    def forward(**arguments: Any) -> Any:
        shapes.append(tuple(arguments["input_ids"].shape))
        return original(**arguments)

    prompts, choices = ["Mara Lind was born in", "Kara"], [["Mara", "7", "French"], ["Mara", "7"]]
    assert [len(join(tiny_gpt2.tokenizer, prompts[1], choice).target_ids) for choice in choices[1]] == [1, 1]
    expected = reference(tiny_gpt2, prompts, choices)
    monkeypatch.setattr(tiny_gpt2.model, "forward", forward)
    ranked = rank(tiny_gpt2, prompts, choices)
    for row, expected_row in zip(ranked, expected, strict=True):
        assert row == pytest.approx(expected_row, rel=1e-5)
    assert [rows for rows, _ in shapes] == [2, 1]


def test_choices_that_merge_with_the_prompt_are_scored_from_the_straddling_token(tiny_gpt2: LanguageModel) -> None:
    prompts, choices = ["Mara Lind\n", "Mara"], [["Lind", "7"], ["Lind", "\nLind"]]
    ranked = rank(tiny_gpt2, prompts, choices)
    for row, expected in zip(ranked, reference(tiny_gpt2, prompts, choices), strict=True):
        assert row == pytest.approx(expected, rel=1e-5)


def test_a_one_word_prompt_without_a_beginning_of_text_token_still_ranks(tiny_gpt2: LanguageModel) -> None:
    prompts, choices = ["a"], [["b", "c d"]]
    assert rank(tiny_gpt2, prompts, choices)[0] == pytest.approx(reference(tiny_gpt2, prompts, choices)[0], rel=1e-5)


def test_a_collapsed_choice_is_nan_and_does_not_change_its_neighbours() -> None:
    lm = build_tiny_llama()
    prompts, choices = ["Kara plays", "The harbour"], [["the piano", "Mara Lind"], ["of Belton", "7"]]
    before = rank(lm, prompts, choices)
    token = join(lm.tokenizer, prompts[0], choices[0][1]).target_ids[0]
    lm.model.get_input_embeddings().weight[token] = float("nan")
    after = rank(lm, prompts, choices)
    assert math.isnan(after[0][1])
    assert [after[0][0], *after[1]] == pytest.approx([before[0][0], *before[1]], rel=1e-5)


def test_a_choice_that_does_not_fit_is_named(tiny_llama: LanguageModel) -> None:
    with pytest.raises(AuditError, match=rf"^Prompt 0 with choice 1 .* holds {CONTEXT_LENGTH}; shorten it"):
        rank(tiny_llama, ["Mara"], [["Lind", "7" * 600]])


def test_a_prompt_without_choices_is_named(tiny_llama: LanguageModel) -> None:
    with pytest.raises(AuditError, match=r"Prompt 1 \('Kara'\) has no choices"):
        rank(tiny_llama, ["Mara", "Kara"], [["Lind"], []])


def test_an_empty_prompt_needs_a_beginning_of_text_token(tiny_gpt2: LanguageModel, tiny_llama: LanguageModel) -> None:
    assert rank(tiny_llama, [""], [["Mara", "Kara"]])[0] == pytest.approx(
        reference(tiny_llama, [""], [["Mara", "Kara"]])[0], rel=1e-5
    )
    with pytest.raises(AuditError, match="The prompt of prompt 0 with choice 0 is empty"):
        rank(tiny_gpt2, [""], [["Mara", "Kara"]])


def test_progress_counts_choices(tiny_gpt2: LanguageModel, prompts: list[str], choices: list[list[str]]) -> None:
    seen: list[tuple[int, int]] = []
    rank(tiny_gpt2, prompts, choices, token_budget=100, progress=lambda done, of: seen.append((done, of)))
    in_all = sum(len(row) for row in choices)
    assert seen == sorted(seen)
    assert seen[-1] == (in_all, in_all)


@pytest.fixture(params=["gpt2", "llama"])
def lm(request: pytest.FixtureRequest, tiny_gpt2: LanguageModel, tiny_llama: LanguageModel) -> LanguageModel:
    return tiny_gpt2 if request.param == "gpt2" else tiny_llama


@pytest.fixture
def pairs() -> list[tuple[str, str]]:
    return list(zip(mixed_prompts(10), mixed_prompts(10, seed=1), strict=True))


@pytest.mark.parametrize("budget", BUDGETS)
def test_targets_are_scored_as_one_sequence_at_a_time(
    lm: LanguageModel, pairs: list[tuple[str, str]], budget: int
) -> None:
    for (prompt, target), scored in zip(pairs, teacher_forced(lm, pairs, token_budget=budget), strict=True):
        tokens = join(lm.tokenizer, prompt, target)
        expected = token_log_probabilities(lm, list(tokens.ids), tokens.prompt_length)
        likeliest = full_logits(lm, list(tokens.ids)).argmax(dim=-1)[tokens.prompt_length - 1 : -1].tolist()
        assert scored.tokens == len(tokens.target_ids) == len(scored.token_hits)
        assert scored.log_probability == pytest.approx(math.fsum(expected), rel=1e-5)
        assert scored.predictions == tuple(likeliest)
        assert scored.token_hits == tuple(a == b for a, b in zip(likeliest, tokens.target_ids, strict=True))


def test_the_models_own_tokens_are_all_hits(lm: LanguageModel) -> None:
    ids = encode(lm.tokenizer, "Mara Lind")
    said = int(full_logits(lm, ids)[-1].argmax())
    scores = continuations.score_continuations(
        lm, [[continuations.Continuation((*ids, said), len(ids))]], token_budget=100
    )
    assert scores[0][0].hits == (True,)
    assert scores[0][0].predictions == (said,)


def test_a_collapsed_target_is_nan_and_hits_nothing(pairs: list[tuple[str, str]]) -> None:
    lm = build_tiny_llama()
    lm.model.get_output_embeddings().weight[5] = float("nan")
    for scored in teacher_forced(lm, pairs):
        assert math.isnan(scored.log_probability)
        assert not any(scored.token_hits)
        assert set(scored.predictions) == {-1}


@pytest.mark.parametrize("budget", BUDGETS)
def test_texts_are_predicted_from_their_second_token_on(lm: LanguageModel, budget: int) -> None:
    for text, (nll, predicted) in zip(CORPUS, negative_log_likelihood(lm, CORPUS, token_budget=budget), strict=True):
        ids = encode(lm.tokenizer, text)
        assert predicted == len(ids) - 1
        assert nll == pytest.approx(-math.fsum(token_log_probabilities(lm, ids, 1)), rel=1e-5)


def test_a_text_of_one_token_predicts_nothing(tiny_gpt2: LanguageModel) -> None:
    assert negative_log_likelihood(tiny_gpt2, ["a"]) == [(0.0, 0)]
    with pytest.raises(AuditError, match="at least two tokens, but all 1 texts are shorter"):
        perplexity(tiny_gpt2, ["a"])


def test_perplexity_divides_by_predicted_tokens(lm: LanguageModel) -> None:
    values = [v for text in CORPUS for v in token_log_probabilities(lm, encode(lm.tokenizer, text), 1)]
    assert perplexity(lm, CORPUS) == pytest.approx(math.exp(-math.fsum(values) / len(values)), rel=1e-5)


def test_no_call_computes_more_logits_than_allowed(lm: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    prompts, choices = CORPUS[:3], [["French.", "a painter", "the harbour of Belton"]] * 3
    whole = negative_log_likelihood(lm, CORPUS)
    ranked = rank(lm, prompts, choices)
    places: list[int] = []
    hook = lm.model.get_output_embeddings().register_forward_hook(
        lambda _, __, logits: places.append(logits.numel() // logits.shape[-1])
    )
    try:
        for most in (1, 7):
            monkeypatch.setattr(batching, "LOGITS", most * lm.model.config.vocab_size)
            small = negative_log_likelihood(lm, CORPUS)
            assert sum(places) == sum(tokens for _, tokens in whole) and max(places) == most
            assert [value for value, _ in small] == pytest.approx([value for value, _ in whole], rel=1e-5)
            places.clear()
            for row, expected in zip(rank(lm, prompts, choices), ranked, strict=True):
                assert row == pytest.approx(expected, rel=1e-5)
            assert max(places) <= most
            places.clear()
    finally:
        hook.remove()


def test_a_pair_or_text_that_does_not_fit_is_named(lm: LanguageModel) -> None:
    with pytest.raises(AuditError, match=rf"^Pair 1 .* holds {CONTEXT_LENGTH}; shorten it"):
        teacher_forced(lm, [("Mara", "Lind"), ("Mara", "7" * 600)])
    with pytest.raises(AuditError, match=rf"^Text 0 .* holds {CONTEXT_LENGTH}; shorten it"):
        negative_log_likelihood(lm, ["7" * 600])
