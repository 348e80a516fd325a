import math

import pytest

from audit.engine import continuations
from audit.engine.teacher import negative_log_likelihood, perplexity, teacher_forced
from audit.errors import AuditError
from audit.models.language_model import LanguageModel
from audit.models.tokens import encode, join
from tests.engine.reference import BUDGETS, full_logits, mixed_prompts, token_log_probabilities
from tests.tiny_models import CONTEXT_LENGTH, CORPUS, build_tiny_llama


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


def test_what_the_model_would_say_hits_every_token(lm: LanguageModel) -> None:
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
    with pytest.raises(AuditError, match="at least two tokens, but none of the 1 texts"):
        perplexity(tiny_gpt2, ["a"])


def test_perplexity_divides_by_predicted_tokens(lm: LanguageModel) -> None:
    values = [v for text in CORPUS for v in token_log_probabilities(lm, encode(lm.tokenizer, text), 1)]
    assert perplexity(lm, CORPUS) == pytest.approx(math.exp(-math.fsum(values) / len(values)), rel=1e-5)


def test_large_vocabularies_shrink_the_batches(lm: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = negative_log_likelihood(lm, CORPUS)
    batches: list[list[int]] = []

    def watched(sizes: list[int], budget: int, rows: list[int]) -> list[list[int]]:
        batches.extend(pack(sizes, budget, rows))
        return pack(sizes, budget, rows)

    pack = continuations.pack
    monkeypatch.setattr(continuations, "pack", watched)
    monkeypatch.setattr(continuations, "LOGITS_PER_TOKEN", 1)
    small = negative_log_likelihood(lm, CORPUS)
    assert all(len(batch) == 1 for batch in batches)
    assert [value for value, _ in small] == pytest.approx([value for value, _ in whole], rel=1e-5)


def test_what_does_not_fit_is_named(lm: LanguageModel) -> None:
    with pytest.raises(AuditError, match=rf"^Pair 1 .* holds {CONTEXT_LENGTH}; shorten it"):
        teacher_forced(lm, [("Mara", "Lind"), ("Mara", "7" * 600)])
    with pytest.raises(AuditError, match=rf"^Text 0 .* holds {CONTEXT_LENGTH}; shorten it"):
        negative_log_likelihood(lm, ["7" * 600])
