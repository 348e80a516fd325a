"""Worked examples: only from the training split, the same for every item, and never a test item."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audit.abilities import ABILITIES, load_ability
from audit.abilities.contract import Row
from audit.abilities.data import Origin
from audit.abilities.data.sources import FolderSource, PocketSource, items
from audit.abilities.presentation import FewShotAbility, draw_shots, present_ability
from audit.errors import AuditError
from tests.small_audit import abilities, write_lines


class Splits:
    """Rows like those of SST-2; `test` and `training` are the numbers of their sentences."""

    name = "splits"

    def __init__(self, test: Sequence[int], training: Sequence[int]) -> None:
        self._test, self._training = test, training

    def rows(self, ability_name: str) -> Sequence[Row]:
        return [{"sentence": f"film {number}", "label": number % 2} for number in self._test]

    def training_rows(self, ability_name: str) -> Sequence[Row]:
        return [{"sentence": f"film {number}", "label": number % 2} for number in self._training]

    def origin(self, ability_name: str) -> Origin:
        return Origin("splits")

    def check(self) -> None:
        pass


numbers = st.lists(st.integers(0, 60), min_size=1, max_size=40, unique=True)


@settings(max_examples=40)
@given(numbers, numbers, st.integers(1, 8), st.integers(0, 3))
def test_shots_are_distinct_training_rows_and_never_test_rows(
    test: list[int], training: list[int], count: int, seed: int
) -> None:
    ability, source = load_ability("sentiment"), Splits(test, training)
    free = set(training) - set(test)
    if len(free) < count:
        remedy = f"give at most --shots {len(free)}" if free else "leave --shots out"
        found = f"sentiment has only {len(free)} usable worked examples in the training split of splits; {remedy}$"
        with pytest.raises(AuditError, match=found):
            draw_shots(ability, source, count, seed)
        return
    shots = draw_shots(ability, source, count, seed)
    drawn = [int(shot.prompt.split("\n")[0].removeprefix("film ")) for shot in shots]
    assert len(set(drawn)) == count
    assert set(drawn) <= free
    assert [shot.answer for shot in shots] == [("negative", "positive")[number % 2] for number in drawn]
    assert shots == draw_shots(ability, source, count, seed)
    assert shots[:-1] == draw_shots(ability, source, count - 1, seed)


def test_without_a_usable_example_the_option_is_to_be_left_out() -> None:
    with pytest.raises(AuditError, match=r"has only 0 usable worked examples .* of splits; leave --shots out$"):
        draw_shots(load_ability("sentiment"), Splits([1], [1]), 2, 0)


def test_another_seed_gives_other_shots() -> None:
    source = Splits([0], range(1, 60))
    assert draw_shots(load_ability("sentiment"), source, 5, 0) != draw_shots(load_ability("sentiment"), source, 5, 1)


@pytest.mark.parametrize("name", ABILITIES)
def test_the_pocket_world_has_examples_that_are_no_test_items(name: str) -> None:
    source, plain = PocketSource(), load_ability(name)
    ability = present_ability(name, "standard", source, shots=3, seed=0)
    prompts = {plain.prompt(item) for item in items(plain, source, None, 0)}
    assert prompts.isdisjoint(shot.prompt for shot in draw_shots(plain, source, 40, 0))
    found = items(ability, source, 3, 0)
    headers = {ability.prompt(item).removesuffix(plain.prompt(item)) for item in found}
    assert len(headers) == 1
    (header,) = headers
    assert header.endswith("\n\n")
    assert header.count(" ") > 10


@pytest.mark.parametrize("name", ABILITIES)
def test_a_gold_answer_is_right(name: str) -> None:
    ability, source = load_ability(name), PocketSource()
    for item in items(ability, source, 40, 0):
        answer = ability.parse(item.gold[0] if item.choices else f" {ability.gold_answer(item)}")
        assert ability.score(item, answer).value == pytest.approx(1.0), item


@pytest.mark.parametrize("name", ABILITIES)
def test_an_answer_ends_where_the_next_example_would_begin(name: str) -> None:
    ability, source = load_ability(name), PocketSource()
    wrapped = present_ability(name, "standard", source, shots=1, seed=0)
    (item,) = items(ability, source, 1, 0)
    if ability.decoding is None:
        assert wrapped.decoding is None
        return
    assert wrapped.decoding is not None
    answered = f" {ability.gold_answer(item)}\n\n{ability.prompt(item)}"
    cut = min(at for stop in wrapped.decoding.stop if (at := answered.find(stop)) >= 0)
    assert answered[:cut] == f" {ability.gold_answer(item)}"
    assert set(ability.decoding.stop) <= set(wrapped.decoding.stop)
    assert wrapped.decoding.max_new_tokens == ability.decoding.max_new_tokens


def test_a_row_with_the_passage_of_a_test_row_is_left_out(tmp_path: Path) -> None:
    rows = abilities()["boolq"]
    write_lines(tmp_path / "boolq.jsonl", rows[:3])
    again = [{**row, "question": "is it another question"} for row in rows[:3]]
    write_lines(tmp_path / "boolq.train.jsonl", [*again, rows[5]])
    (shot,) = draw_shots(load_ability("closed_qa"), FolderSource(tmp_path), 1, 0)
    assert rows[5]["passage"] in shot.prompt
    with pytest.raises(
        AuditError, match=r"closed_qa has only 1 usable .* in the training split of .*; give at most --shots 1"
    ):
        draw_shots(load_ability("closed_qa"), FolderSource(tmp_path), 2, 0)


def test_unusable_training_rows_are_left_out(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = abilities()["samsum"]
    write_lines(tmp_path / "samsum.jsonl", rows[:2])
    write_lines(tmp_path / "samsum.train.jsonl", [{"dialogue": "", "summary": "x"}, *rows[2:5]])
    assert len(draw_shots(load_ability("summarization"), FolderSource(tmp_path), 3, 0)) == 3


def test_everything_but_the_prompt_is_that_of_the_ability() -> None:
    ability, source = load_ability("ner"), PocketSource()
    wrapped = FewShotAbility(ability, draw_shots(ability, source, 2, 0))
    (item,) = items(wrapped, source, 1, 0)
    assert (item,) == items(ability, source, 1, 0)
    assert wrapped.parse("person: Ann") == ability.parse("person: Ann")
    assert wrapped.score(item, wrapped.parse("none")) == ability.score(item, ability.parse("none"))
    assert (wrapped.name, wrapped.metric, wrapped.protocol) == ("ner", ability.metric, "standard")
    assert wrapped.floor([item]) == 0.0


def test_without_shots_there_is_no_wrapper() -> None:
    assert type(present_ability("ner", "standard", PocketSource())) is type(load_ability("ner"))
    assert present_ability("ner", "gu2024", PocketSource()).protocol == "gu2024"
