"""The shipped models: their size, the scores on their card, and the layers that recall facts."""

from pathlib import Path

import pytest

from audit.editors import load_editor
from audit.models.language_model import LanguageModel
from audit.models.loading import load_language_model
from audit.pocket import POCKET_WEIGHTS
from audit.pocket.training import card as training_card
from audit.pocket.training.card import differences, measure, measure_abilities, measure_facts, read_card
from audit.pocket.training.tokenizer import VOCABULARY
from audit.pocket.world import build_world

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
    card = {
        "parameters": 3000,
        "training": {"tokens": 7},
        "measured": {
            "abilities": {"ner": {"score": 0.9, "n": 480, "parseable": 1.0}},
            "facts": {"works for": 1.0},
            "facts_asked": 10,
        },
        "causal_tracing": {"facts": 100, "clean": 0.99, "corrupted": 0.1, "subject_last": [0.5, 0.6]},
    }
    assert differences(card, card | {"training": {}}) == []
    measured = {
        "parameters": 2999,
        "measured": {
            "abilities": {"ner": {"score": 0.905, "n": 479, "parseable": 0.5}},
            "facts": {"lives in": 0.5},
            "facts_asked": 9,
        },
        "causal_tracing": {"facts": 100, "clean": 0.991, "corrupted": 0.3, "subject_last": [0.5, 0.7]},
    }
    assert differences(card, measured) == [
        "parameters: the card says 3000, measured 2999",
        "ner (n): the card says 480, measured 479",
        "ner (parseable): the card says 1.0000, measured 0.5000",
        "works for: on the card, not measured",
        "facts asked: the card says 10, measured 9",
        "causal tracing, corrupted: the card says 0.1000, measured 0.3000",
        "causal tracing, subject_last of block 1: the card says 0.6000, measured 0.7000",
        "lives in: measured, but not on the card",
    ]


def test_with_a_limit_only_the_facts_that_are_asked_about_count(
    shipped: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def answer(lm: LanguageModel, prompts: list[str], decoding: object) -> list[str]:
        asked.extend(prompts)
        return [""] * len(prompts)

    monkeypatch.setattr(training_card, "generate", answer)
    monkeypatch.setattr(training_card, "measure_abilities", lambda lm, limit: {})
    relations = {fact.relation.name for fact in build_world().facts()}
    limited = measure(shipped, 2)
    assert limited.facts_asked == 2 * len(relations) and len(asked) == 2 * len(limited.facts)
    assert measure(shipped).facts_asked == len(build_world().facts())
