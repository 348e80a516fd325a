"""Reuse of the base model's states and answers changes no answer of an edited model."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from audit import Audit
from audit.abilities import ABILITIES, load_ability
from audit.abilities.contract import Ability, Answers, Item
from audit.abilities.data.sources import items
from audit.answering.answers import Reuse, ask
from audit.models.codebook import Codebook
from audit.models.demonstrations import Demonstrations, NewFact
from audit.models.language_model import LanguageModel
from audit.models.patches import DenseDelta, ModulePatch, Patch, PatchSequence, WeightPatch, identity_patch
from audit.models.side_memory import SideMemory
from audit.reports.run_sentences import reuse_sentences
from audit.store.answer_log import AnswerLog
from tests.small_audit import SmallWorld, build
from tests.tiny_models import build_tiny_gpt2, build_tiny_llama


def noise(lm: LanguageModel, name: str, size: float) -> WeightPatch:
    weight = lm.model.get_parameter(name)
    return WeightPatch({name: DenseDelta(size * torch.randn(weight.shape, generator=torch.Generator().manual_seed(1)))})


def codebook(lm: LanguageModel) -> Codebook:
    """A codebook with so large a radius that it often replaces the output."""
    down, inner, hidden = lm.anatomy.down_projections[1], lm.anatomy.inner_size, lm.anatomy.hidden_size
    return Codebook.empty(down).with_entry(torch.zeros(inner), torch.ones(hidden), (5,), radius=7.0)


def side_memory(lm: LanguageModel) -> SideMemory:
    down, inner, hidden = lm.anatomy.down_projections[2], lm.anatomy.inner_size, lm.anatomy.hidden_size
    generator = torch.Generator().manual_seed(1)
    change = 0.3 * torch.randn(hidden, inner, generator=generator)
    activations = 0.5 * torch.randn(2, inner, generator=generator)
    return SideMemory.empty(down, 0.5, 0.5).with_shard(change, activations, 1, new=True)


def demonstrations() -> Demonstrations:
    facts = (NewFact("Mara Lind lives in the city of", "Calton"),)
    return Demonstrations(facts, style="plain", count=1, repeats=2, length=256, answer_room=80)


def patches(lm: LanguageModel) -> dict[str, Patch]:
    """One patch of each kind; they change different blocks, so they share different parts of the base model."""
    last, middle, first = (lm.anatomy.weight_name(layer) for layer in (2, 1, 0))
    return {
        "nothing": identity_patch(),
        "few answers": noise(lm, last, 0.003),
        "most answers": noise(lm, middle, 0.3),
        "everything": noise(lm, first, 0.3),
        "collapse": noise(lm, last, float("nan")),
        "one after the other": PatchSequence((noise(lm, last, 0.1), noise(lm, middle, 0.05))),
        "a codebook": ModulePatch((codebook(lm),)),
        "a side memory": ModulePatch((side_memory(lm),)),
        "demonstrations": ModulePatch((demonstrations(),)),
    }


@pytest.fixture(scope="module", params=["gpt2", "llama"])
def lm(request: pytest.FixtureRequest) -> LanguageModel:
    return build_tiny_gpt2() if request.param == "gpt2" else build_tiny_llama()


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> SmallWorld:
    return build(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def drawn_items(world: SmallWorld) -> dict[str, tuple[Item, ...]]:
    return {name: items(load_ability(name), world.source, 6, 0) for name in ABILITIES}


def brief(name: str) -> Ability:
    """The ability with at most 12 tokens an answer, since a random model does not stop."""
    ability = load_ability(name)
    if ability.decoding is not None:
        ability.decoding = replace(ability.decoding, max_new_tokens=min(ability.decoding.max_new_tokens, 12))
    return ability


def said(asked: Answers) -> list[Any]:
    """The raw output of written answers, and the texts of chosen ones."""
    choices = not isinstance(asked.raw[0], dict)
    return [answer.text for answer in asked.answers] if choices else list(asked.raw)


@pytest.mark.parametrize("name", ["reasoning", "open_qa", "dialogue", "ner"])
def test_answers_are_those_without_reuse(
    lm: LanguageModel, drawn_items: dict[str, tuple[Item, ...]], name: str
) -> None:
    ability = brief(name)
    plain_base = ask(lm, ability, drawn_items[name])
    shared = list(patches(lm).values())
    for plan in (*([patch] for patch in shared), shared[:3]):
        reuse = Reuse.of(lm, plan)
        assert said(ask(lm, ability, drawn_items[name], reuse=reuse)) == said(plain_base)
        for patch in (*plan, plan[0]):  # the second time all drafts are known
            expected = ask(lm, ability, drawn_items[name], patch=patch)
            found = ask(lm, ability, drawn_items[name], patch=patch, reuse=reuse)
            assert said(found) == said(expected)
            assert [s.value for s in found.scores] == [s.value for s in expected.scores]


def test_the_patches_change_answers_as_named(lm: LanguageModel, drawn_items: dict[str, tuple[Item, ...]]) -> None:
    ability, asked = brief("reasoning"), drawn_items["reasoning"]
    base = said(ask(lm, ability, asked))
    changed = {
        name: sum(a != b for a, b in zip(said(ask(lm, ability, asked, patch=patch)), base, strict=True))
        for name, patch in patches(lm).items()
    }
    assert changed["nothing"] == 0
    assert all(changed[name] > 0 for name in changed if name not in ("nothing", "few answers"))


def test_the_lowest_edited_block_decides_what_is_shared(lm: LanguageModel) -> None:
    made = patches(lm)
    assert {name: Reuse.of(lm, [patch]).lower.first_edited for name, patch in made.items()} == {
        "nothing": 3,
        "few answers": 2,
        "most answers": 1,
        "everything": 0,
        "collapse": 2,
        "one after the other": 1,
        "a codebook": 1,
        "a side memory": 2,
        "demonstrations": 0,
    }
    assert Reuse.of(lm, list(made.values())[:3]).lower.first_edited == 1


@pytest.mark.parametrize("name", ["reasoning", "dialogue"])
def test_a_resumed_run_gives_the_same_answers(
    lm: LanguageModel, drawn_items: dict[str, tuple[Item, ...]], name: str, tmp_path: Path
) -> None:
    ability, patch = brief(name), patches(lm)["most answers"]
    logs = {place: AnswerLog(tmp_path / place) for place in ("base", "edited")}
    ask(lm, ability, drawn_items[name][:3], log=logs["base"])
    ask(lm, ability, drawn_items[name][2:4], patch=patch, log=logs["edited"], reuse=Reuse.of(lm, [patch]))
    reuse = Reuse.of(lm, [patch])
    base = ask(lm, ability, drawn_items[name], log=logs["base"], reuse=reuse)
    found = ask(lm, ability, drawn_items[name], patch=patch, log=logs["edited"], reuse=reuse)
    assert (base.from_store, found.from_store) == (3, 2)
    assert said(found) == said(ask(lm, ability, drawn_items[name], patch=patch))
    again = ask(lm, ability, drawn_items[name], patch=patch, log=AnswerLog(tmp_path / "edited"))
    assert again.from_store == 6 and said(again) == said(found)


def test_nothing_is_drafted_in_half_precision(drawn_items: dict[str, tuple[Item, ...]]) -> None:
    lm = build_tiny_llama(dtype=torch.bfloat16)
    patch = noise(lm, lm.anatomy.weight_name(2), 0.1)
    for name in ("reasoning", "dialogue"):
        ability, reuse = brief(name), Reuse.of(lm, [patch])
        ask(lm, ability, drawn_items[name], reuse=reuse)
        found = ask(lm, ability, drawn_items[name], patch=patch, reuse=reuse)
        assert found.raw == ask(lm, ability, drawn_items[name], patch=patch).raw  # to the last bit
        assert reuse.counts.drafts == 0
        assert (reuse.counts.block_tokens_shared > 0) == (name == "dialogue")


def test_an_audit_reports_what_it_reused_and_answers_the_same_without(world: SmallWorld) -> None:
    plan = {"editor": "tests.fake_editors:Nudge", "edit_mode": "instance-single", "edit_count": 2}
    options = world.options(**plan, limit=3, device="cpu", use_store=False)
    abilities = ["open_qa", "dialogue"]
    shared, alone = (Audit(**options, reuse=reuse).run(abilities) for reuse in (True, False))
    answers = [[[item.base.text, *(one.text for one in item.edited)] for item in run.items] for run in (shared, alone)]
    assert answers[0] == answers[1]
    assert any(len(set(said)) > 1 for said in answers[0])
    (sentence,) = reuse_sentences(shared.reuse)
    asked = 2 * next(row.verdict.n for row in shared.abilities if row.ability == "open_qa")  # of two edited models
    assert (
        sentence.startswith("reuse: ")
        and f"of {asked} base answers checked as drafts gave the whole edited answer in one pass" in sentence
    )
    assert reuse_sentences(alone.reuse) == ()
