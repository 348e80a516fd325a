import math
from typing import Any

import pytest

from audit.engine.ranking import rank
from audit.errors import AuditError
from audit.models.language_model import LanguageModel
from audit.models.tokens import join
from tests.engine.reference import BUDGETS, mixed_prompts, token_log_probabilities
from tests.tiny_models import CONTEXT_LENGTH, build_tiny_gpt2, build_tiny_llama

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


def test_choices_of_one_token_need_the_prompt_alone(tiny_gpt2: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_a_collapsed_choice_is_nan_and_leaves_its_neighbours_alone() -> None:
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
