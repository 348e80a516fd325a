"""The shipped models: their size, the scores on their card, and the layers that recall facts."""

from pathlib import Path

import pytest

from audit.editors import load_editor
from audit.models.language_model import LanguageModel
from audit.models.loading import POCKET_WEIGHTS, load_language_model
from audit.pocket.training.card import Measured, differences, measure_abilities, measure_facts, read_card
from audit.pocket.training.tokenizer import VOCABULARY

MODELS = ("pocket-gpt2", "pocket-llama")
SAMPLE, SAMPLED_FACTS = 64, 16
# All other abilities: 0.85. GPT-2's learned positions bind names to sentences less reliably (closed_qa scores 0.82).
MIN_SCORE = {
    ("pocket-gpt2", "reasoning"): 0.80,
    ("pocket-llama", "reasoning"): 0.80,
    ("pocket-gpt2", "closed_qa"): 0.80,
}
MIN_RECALL = 0.97


@pytest.fixture(scope="module", params=MODELS)
def shipped(request: pytest.FixtureRequest) -> LanguageModel:
    return load_language_model(request.param, device="cpu")


@pytest.mark.parametrize("name", MODELS)
def test_the_shipped_files_are_small_enough(name: str) -> None:
    folder = POCKET_WEIGHTS / name
    assert sum(path.stat().st_size for path in folder.iterdir()) <= 16 * 2**20
    assert read_card(name)["parameters"] <= 8_000_000
    assert not [path for path in Path(folder).iterdir() if path.suffix not in (".json", ".safetensors", ".md")]


@pytest.mark.parametrize("name", MODELS)
def test_the_scores_on_the_card_are_high_enough(name: str) -> None:
    measured = read_card(name)["measured"]
    for ability, score in measured["abilities"].items():
        assert score["n"] >= 400
        assert score["score"] >= MIN_SCORE.get((name, ability), 0.85), ability
    assert min(measured["facts"].values()) >= MIN_RECALL


def test_a_small_sample_agrees_with_the_card(shipped: LanguageModel) -> None:
    """Three standard deviations of a sample of this size; the full check is `audit.pocket.training.card --check`."""
    card = read_card(shipped.name)["measured"]
    for ability, score in measure_abilities(shipped, SAMPLE).items():
        claimed = card["abilities"][ability]["score"]
        assert abs(score.score - claimed) <= 3 * (claimed * (1 - claimed) / SAMPLE) ** 0.5 + 1 / SAMPLE, ability
    for wording, recalled in measure_facts(shipped, SAMPLED_FACTS).items():
        claimed = card["facts"][wording]
        assert abs(recalled - claimed) <= 3 * (claimed * (1 - claimed) / SAMPLED_FACTS) ** 0.5 + 1 / SAMPLED_FACTS


def test_rome_edits_a_layer_that_recalls_facts(shipped: LanguageModel) -> None:
    """Restoring one state at the subject's last token helps most at ROME's layer, and not at the top layer."""
    tracing = read_card(shipped.name)["causal_tracing"]
    effect = [probability - tracing["corrupted"] for probability in tracing["subject_last"]]
    layer = load_editor("rome", {}, 0, None).settings(shipped).layer
    assert tracing["clean"] >= 0.9
    assert effect[layer] >= 0.1
    assert effect[layer] >= max(effect) - 0.05
    assert abs(effect[-1]) < 0.02


def test_the_tokenizer_splits_digits_and_adds_one_bos(shipped: LanguageModel) -> None:
    ids = shipped.tokenizer("34 + 5 = 39")["input_ids"]
    assert len(shipped.tokenizer) <= VOCABULARY
    assert ids.count(shipped.tokenizer.bos_token_id) == 1
    assert [shipped.tokenizer.decode([token]).strip() for token in ids[1:]] == ["3", "4", "+", "5", "=", "3", "9"]


def test_a_difference_from_the_card_is_named() -> None:
    card = {"measured": {"abilities": {"ner": {"score": 0.9}}, "facts": {"works for": 1.0}}}
    wrong = Measured({}, {"works for": 0.5}, 10)
    assert differences(card, wrong) == ["works for: the card says 1.0000, measured 0.5000"]
