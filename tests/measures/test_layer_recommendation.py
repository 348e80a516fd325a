"""From traced facts to recommended layers, and their use by an editor."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from audit.editors.methods.memit import Memit
from audit.editors.methods.rome import Rome
from audit.editors.stages.editor_settings import Layers, LocatedLayers
from audit.editors.stages.keys import Contexts
from audit.edits.sources import LoadedRequests
from audit.errors import AuditError
from audit.measures.causal_tracing import TOKEN_ROLES, Effects
from audit.measures.layer_recommendation import SUBJECT_LAST, recommend, recommend_layers, sampled_facts
from audit.models.language_model import LanguageModel
from audit.models.patches import WeightPatch
from audit.models.tokens import target_ids
from audit.store.content import Store
from tests.editors.plain import REQUESTS
from tests.tiny_models import build_tiny_gpt2

QUICK = {"steps": "2", "covariance": "identity"}


def effects_of(curve: list[float]) -> Effects:
    """Effects whose MLPs restore `curve` at the subject's last token, and much more elsewhere."""
    other = tuple(10.0 for _ in curve)
    mlp = tuple(tuple(curve) if role == SUBJECT_LAST else other for role in range(len(TOKEN_ROLES)))
    everywhere = tuple(other for _ in TOKEN_ROLES)
    counts = tuple(5 for _ in TOKEN_ROLES)
    return Effects(5, 0.9, 0.1, 2, 1, counts, {"block": everywhere, "mlp": mlp, "attention": everywhere})


@pytest.fixture(scope="module")
def telling() -> LanguageModel:
    """A tiny GPT-2 that answers everything with "Velden", more or less surely."""
    lm = build_tiny_gpt2()
    (token,) = target_ids(lm.tokenizer, REQUESTS[0].filled_prompt, "Velden")
    with torch.no_grad():
        row = lm.model.get_input_embeddings().weight[token]  # the head's as well
        lm.model.get_submodule(lm.anatomy.final_norm).bias += 4 * row
        row *= 2
    return lm


@pytest.mark.parametrize(
    ("curve", "rome", "memit", "around"),
    [
        ([0.1, 0.5, 0.6, 1.0, 0.7, 0.2], 3, (1, 2, 3), (1, 2, 3, 4)),
        ([0.9, 0.1, 0.8], 0, (0,), (0,)),  # another hill is not the peak's
        ([0.6, 0.7, 0.8, 0.9, 0.95, 0.97, 1.0, 0.1], 6, (2, 3, 4, 5, 6), (0, 1, 2, 3, 4, 5, 6)),  # five at most
        ([0.4, 0.4, 0.1], 0, (0,), (0, 1)),  # equal: the lowest
        ([-0.1, 0.2], 1, (1,), (1,)),
    ],
)
def test_the_rule(curve: list[float], rome: int, memit: tuple[int, ...], around: tuple[int, ...]) -> None:
    found = recommend(effects_of(curve))
    assert (found.rome, found.memit, found.range) == (rome, memit, around)
    assert found.effects == tuple(curve)


@given(st.lists(st.floats(-1, 1), min_size=1, max_size=48).filter(lambda curve: max(curve) > 0))
def test_the_recommended_layers_end_at_the_peak_without_a_gap(curve: list[float]) -> None:
    found = recommend(effects_of(curve))
    assert curve[found.rome] == max(curve)
    assert found.memit == tuple(range(found.memit[0], found.rome + 1)) and len(found.memit) <= 5
    assert set(found.memit) <= set(found.range)
    assert all(curve[layer] >= max(curve) / 2 for layer in found.range)


@pytest.mark.parametrize("curve", [[0.0, -0.2], [-1.0]])
def test_without_an_effect_nothing_is_recommended(curve: list[float]) -> None:
    with pytest.raises(AuditError, match="has no effect over 5 facts, so no layer can be recommended"):
        recommend(effects_of(curve))


def test_facts_are_drawn_with_the_seed() -> None:
    many = tuple(replace(REQUESTS[0], case_id=str(n), subject=f"Mara {n}", target_true="French") for n in range(120))
    loaded = LoadedRequests((*many, REQUESTS[1]), (), "facts.jsonl")
    assert len(sampled_facts(loaded, None, 0)) == 100  # and none for the request that says nothing is true now
    assert sampled_facts(loaded, 7, 1) == sampled_facts(loaded, 30, 1)[:7] != sampled_facts(loaded, 7, 2)
    with pytest.raises(AuditError, match=r"--count 121 is more than the 120 facts of facts\.jsonl; choose a"):
        sampled_facts(loaded, 121, 0)
    with pytest.raises(AuditError, match=r"none of the 1 edit requests of facts\.jsonl has an old answer to trace"):
        sampled_facts(replace(loaded, requests=(REQUESTS[1],)), None, 0)


def test_only_recalled_facts_are_traced_and_the_rest_is_counted(telling: LanguageModel) -> None:
    facts = [replace(request, target_true="Velden") for request in REQUESTS[:3]]
    asked = LoadedRequests((replace(REQUESTS[3], target_true="piano"), *facts), (), "facts.jsonl")
    told: list[tuple[int, int]] = []
    located = recommend_layers(telling, asked, samples=2, progress=lambda done, total: told.append((done, total)))
    assert (located.asked, located.effects.facts) == (4, 3)
    assert told == [(1, 3), (2, 3), (3, 3)]
    assert located.effects.clean > 0.5
    assert 0 <= located.recommendation.rome < 3
    assert all(math.isfinite(effect) for effect in located.recommendation.effects)


def test_a_fact_whose_subject_ends_inside_a_token_is_left_out(telling: LanguageModel) -> None:
    coin = replace(REQUESTS[0], case_id="coin", subject="coin", prompt="How many {}s are", target_true="Velden")
    known = [replace(request, target_true="Velden") for request in REQUESTS[:2]]
    located = recommend_layers(telling, LoadedRequests((coin, *known), (), "facts.jsonl"), samples=2)
    assert (located.asked, located.effects.facts) == (3, 2)


def test_a_model_that_recalls_no_fact_is_an_error(tiny_gpt2: LanguageModel) -> None:
    unknown = replace(REQUESTS[0], target_true="New Avaria")
    with pytest.raises(AuditError, match=r"tiny-gpt2 recalls none of the 1 facts of facts\.jsonl, so there is nothing"):
        recommend_layers(tiny_gpt2, LoadedRequests((unknown,), (), "facts.jsonl"))


def test_located_layers_come_after_measured_and_published_ones(tmp_path: Path) -> None:
    lm, store = build_tiny_gpt2(), Store(tmp_path)
    assert from_store(lm, None) == ((1,), "depth", (0, 1), "depth")
    assert from_store(lm, store) == ((1,), "depth", (0, 1), "depth")
    LocatedLayers(store).keep(lm, Layers(rome=2, memit=(1, 2)))
    assert from_store(lm, store) == ((2,), "located", (1, 2), "located")
    assert from_store(lm, store, layer="0", layers="0") == ((0,), "override", (0,), "override")
    assert from_store(build_tiny_gpt2(seed=1), store)[1] == "depth"  # other weights


def from_store(
    lm: LanguageModel, store: Store | None, layer: str = "", layers: str = ""
) -> tuple[tuple[int, ...], str, tuple[int, ...], str]:
    """The layers that ROME and MEMIT write, and where their patches say they come from."""
    found: list[tuple[tuple[int, ...], str]] = []
    for kind, typed in ((Rome, {"layer": layer} if layer else {}), (Memit, {"layers": layers} if layers else {})):
        patch = kind(QUICK | typed, store=store, contexts=Contexts((("",),))).edit(lm, REQUESTS[:1])
        assert isinstance(patch, WeightPatch)
        written = [at for at in range(lm.anatomy.depth) if lm.anatomy.weight_name(at) in patch.deltas]
        found.append((tuple(written), patch.meta["layers.from"]))
    return (*found[0], *found[1])


def test_a_sequence_keeps_the_layers_of_its_beginning(tmp_path: Path) -> None:
    """The steps change the weights, whose fingerprint is the key of the located layers."""
    lm, store = build_tiny_gpt2(), Store(tmp_path)
    LocatedLayers(store).keep(lm, Layers(rome=2, memit=(2,)))
    rome = Rome(QUICK, store=store, contexts=Contexts((("",),)))
    first = rome.edit(lm, REQUESTS[:1])
    with first.applied(lm):
        second = rome.edit(lm, REQUESTS[1:2])
    assert isinstance(second, WeightPatch)
    assert (list(second.deltas), second.meta["layers.from"]) == ([lm.anatomy.weight_name(2)], "located")
