"""Worked examples: from the training split alone, the same for every item, and never a question that is asked."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audit.abilities import ABILITIES, load_ability
from audit.abilities.contract import Row
from audit.abilities.data.origin import Origin
from audit.abilities.data.sources import FolderSource, PocketSource, items
from audit.abilities.presentation import asked_ability
from audit.abilities.shots import WithShots, draw_shots
from audit.errors import AuditError
from tests.small_audit import abilities, write_lines


class Splits:
    """SST-2-like rows: `asked` and `training` are the numbers of their sentences."""

    name = "splits"

    def __init__(self, asked: Sequence[int], training: Sequence[int]) -> None:
        self._asked, self._training = asked, training

    def rows(self, ability_name: str) -> Sequence[Row]:
        return [{"sentence": f"film {number}", "label": number % 2} for number in self._asked]

    def training_rows(self, ability_name: str) -> Sequence[Row]:
        return [{"sentence": f"film {number}", "label": number % 2} for number in self._training]

    def origin(self, ability_name: str) -> Origin:
        return Origin("splits")

    def check(self) -> None:
        pass


numbers = st.lists(st.integers(0, 60), min_size=1, max_size=40, unique=True)


@settings(max_examples=40)
@given(numbers, numbers, st.integers(1, 8), st.integers(0, 3))
def test_shots_are_distinct_training_rows_and_never_asked(
    asked: list[int], training: list[int], count: int, seed: int
) -> None:
    ability, source = load_ability("sentiment"), Splits(asked, training)
    free = set(training) - set(asked)
    if len(free) < count:
        with pytest.raises(AuditError, match=f"sentiment has {len(free)} in the training split of splits; ask with"):
            draw_shots(ability, source, count, seed)
        return
    shots = draw_shots(ability, source, count, seed)
    drawn = [int(shot.question.split("\n")[0].removeprefix("film ")) for shot in shots]
    assert len(set(drawn)) == count
    assert set(drawn) <= free
    assert [shot.answer for shot in shots] == [("negative", "positive")[number % 2] for number in drawn]
    assert shots == draw_shots(ability, source, count, seed)
    assert shots[:-1] == draw_shots(ability, source, count - 1, seed)


def test_the_seed_chooses() -> None:
    source = Splits([0], range(1, 60))
    assert draw_shots(load_ability("sentiment"), source, 5, 0) != draw_shots(load_ability("sentiment"), source, 5, 1)


@pytest.mark.parametrize("name", ABILITIES)
def test_the_pocket_world_has_examples_and_none_of_them_is_asked(name: str) -> None:
    source, plain = PocketSource(), load_ability(name)
    ability = asked_ability(name, "standard", source, shots=3, seed=0)
    questions = {plain.prompt(item) for item in items(plain, source, None, 0)}
    assert questions.isdisjoint(shot.question for shot in draw_shots(plain, source, 40, 0))
    asked = items(ability, source, 3, 0)
    headers = {ability.prompt(item).removesuffix(plain.prompt(item)) for item in asked}
    assert len(headers) == 1
    (header,) = headers
    assert header.endswith("\n\n")
    assert header.count(" ") > 10


@pytest.mark.parametrize("name", ABILITIES)
def test_a_worked_answer_reads_as_right(name: str) -> None:
    ability, source = load_ability(name), PocketSource()
    for item in items(ability, source, 40, 0):
        answer = ability.parse(item.gold[0] if item.choices else f" {ability.worked(item)}")
        assert ability.score(item, answer).value == pytest.approx(1.0), item


@pytest.mark.parametrize("name", ABILITIES)
def test_an_answer_ends_where_the_next_example_would_begin(name: str) -> None:
    ability, source = load_ability(name), PocketSource()
    wrapped = asked_ability(name, "standard", source, shots=1, seed=0)
    (item,) = items(ability, source, 1, 0)
    if ability.decoding is None:
        assert wrapped.decoding is None
        return
    assert wrapped.decoding is not None
    answered = f" {ability.worked(item)}\n\n{ability.prompt(item)}"
    cut = min(at for stop in wrapped.decoding.stop if (at := answered.find(stop)) >= 0)
    assert answered[:cut] == f" {ability.worked(item)}"
    assert set(ability.decoding.stop) <= set(wrapped.decoding.stop)
    assert wrapped.decoding.max_new_tokens == ability.decoding.max_new_tokens


def test_a_shared_passage_is_left_out_too(tmp_path: Path) -> None:
    rows = abilities()["boolq"]
    write_lines(tmp_path / "boolq.jsonl", rows[:3])
    again = [{**row, "question": "is it another question"} for row in rows[:3]]
    write_lines(tmp_path / "boolq.train.jsonl", [*again, rows[5]])
    (shot,) = draw_shots(load_ability("closed_qa"), FolderSource(tmp_path), 1, 0)
    assert rows[5]["passage"] in shot.question
    with pytest.raises(AuditError, match=r"closed_qa has 1 in the training split of .*; ask with --shots 1 at most"):
        draw_shots(load_ability("closed_qa"), FolderSource(tmp_path), 2, 0)


def test_unusable_training_rows_are_left_out(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = abilities()["samsum"]
    write_lines(tmp_path / "samsum.jsonl", rows[:2])
    write_lines(tmp_path / "samsum.train.jsonl", [{"dialogue": "", "summary": "x"}, *rows[2:5]])
    assert len(draw_shots(load_ability("summarization"), FolderSource(tmp_path), 3, 0)) == 3


def test_all_else_is_the_abilitys_own() -> None:
    ability, source = load_ability("ner"), PocketSource()
    wrapped = WithShots(ability, draw_shots(ability, source, 2, 0))
    (item,) = items(wrapped, source, 1, 0)
    assert (item,) == items(ability, source, 1, 0)
    assert wrapped.parse("person: Ann") == ability.parse("person: Ann")
    assert wrapped.score(item, wrapped.parse("none")) == ability.score(item, ability.parse("none"))
    assert (wrapped.name, wrapped.metric, wrapped.protocol) == ("ner", ability.metric, "standard")
    assert wrapped.floor([item]) == 0.0


def test_no_shots_no_wrapper() -> None:
    assert type(asked_ability("ner", "standard", PocketSource())) is type(load_ability("ner"))
    assert asked_ability("ner", "gu2024", PocketSource()).protocol == "gu2024"
