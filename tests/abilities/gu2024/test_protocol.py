"""The two protocols compared: their tables, scores in [0, 1], and the real slices with the prompts of the paper."""

import json
from dataclasses import asdict
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audit.abilities import ABILITIES, PROTOCOLS, load_ability
from audit.abilities.contract import Row, items_of
from audit.abilities.data.sources import FolderSource, PocketSource, items
from audit.abilities.presentation import present_ability
from audit.abilities.wrapper import AbilityWrapper
from audit.errors import AbilityError, AuditError
from tests.abilities.data.test_real_slices import REAL
from tests.abilities.gu2024.test_rules import ROWS, SENTENCE
from tests.small_audit import abilities, write_lines

needs_slices = pytest.mark.skipif(not REAL.is_dir(), reason=f"no slices of the real data sets in {REAL}")
ALL_ROWS = {**ROWS, "ner": SENTENCE}


def test_both_protocols_have_all_eight_abilities_and_are_options() -> None:
    assert [list(table) for table in PROTOCOLS.values()] == [list(ABILITIES)] * 2
    assert tuple(PROTOCOLS) == ("standard", "gu2024")


@pytest.mark.parametrize("name", ABILITIES)
def test_an_ability_says_which_protocol_it_follows(name: str) -> None:
    standard, paper = load_ability(name), load_ability(name, "gu2024")
    assert (standard.protocol, paper.protocol) == ("standard", "gu2024")
    assert (paper.name, paper.title, paper.data_name) == (standard.name, standard.title, standard.data_name)
    assert paper.decoding is not None


def test_an_unknown_name_gives_an_error_of_one_sentence() -> None:
    with pytest.raises(AuditError, match=r"^there is no protocol 'gu2023'; choose from standard, gu2024$"):
        load_ability("ner", "gu2023")
    with pytest.raises(AuditError, match=r"^there is no ability 'maths'; choose from reasoning, nli"):
        load_ability("maths", "gu2024")


@pytest.mark.parametrize("name", ABILITIES)
@settings(max_examples=25, deadline=None)
@given(
    st.text(max_size=40) | st.sampled_from([" True False", " ABCD", " yes", " 5 15", "Mara Velden Kelm", " positive"])
)
def test_scores_are_in_0_to_1_and_unparseable_answers_score_0(name: str, said: str) -> None:
    ability = load_ability(name, "gu2024")
    for item in items_of(ability, ALL_ROWS[name], "k"):
        answer = ability.parse(said)
        score = ability.score(item, answer)
        assert 0 <= score.value <= 1
        assert answer.parseable or score.value == 0 or not item.gold  # of a type that the sentence lacks
        assert all(found <= there for found, there in zip(score.counts[::2], score.counts[1::2], strict=True))
        json.dumps([asdict(item), asdict(answer), asdict(score)])


def test_a_wrapper_gives_all_items_of_a_row() -> None:
    ability = load_ability("ner", "gu2024")
    assert items_of(AbilityWrapper(ability), SENTENCE, "k") == items_of(ability, SENTENCE, "k")
    assert items_of(AbilityWrapper(load_ability("ner")), SENTENCE, "k") == (load_ability("ner").item(SENTENCE, "k"),)


def test_worked_examples_of_ner_are_refused_in_one_sentence() -> None:
    with pytest.raises(AuditError, match=r"^item ner/\d+ has no entity type; .* leave worked examples \(shots\) out$"):
        present_ability("ner", "gu2024", PocketSource(), shots=2)


def test_a_sentence_of_ner_without_its_type_is_refused() -> None:
    ability = load_ability("ner", "gu2024")
    whole = ability.item(SENTENCE, "ner/0")
    for use in (ability.prompt, lambda item: ability.score(item, ability.parse("Mara"))):
        with pytest.raises(
            AuditError, match=r"^item ner/0 has no entity type; use the four items that items\(\) makes"
        ):
            use(whole)


def test_a_limit_counts_rows_not_prompts(tmp_path: Path) -> None:
    write_lines(tmp_path / "conll2003.jsonl", abilities()["conll2003"])
    found = items(load_ability("ner", "gu2024"), FolderSource(tmp_path), 5, 0)
    assert (len(found), len({item.cluster for item in found})) == (20, 5)
    whole = items(load_ability("ner"), FolderSource(tmp_path), 5, 0)
    assert [item.cluster for item in found[::4]] == [item.cluster for item in whole]  # the same sentences


@needs_slices
@pytest.mark.parametrize("name", [name for name in ABILITIES if name != "open_qa"])
def test_every_real_row_has_a_prompt_and_its_gold_is_right(name: str) -> None:
    ability = load_ability(name, "gu2024")
    found = items(ability, FolderSource(REAL), None, 0)
    assert len(found) == (800 if name == "ner" else 200)
    for item in found:
        assert ability.prompt(item)
        said = "\n".join(item.gold) if name == "ner" else f" {item.gold[0]}"
        assert ability.score(item, ability.parse(said)).value == pytest.approx(1.0), item.key


@needs_slices
def test_real_nq_rows_need_a_passage_and_their_golds_are_found() -> None:
    ability = load_ability("open_qa", "gu2024")
    with pytest.raises(AbilityError, match="no column 'document' or 'passage'"):
        items(ability, FolderSource(REAL), None, 0)
    rows: list[Row] = list(FolderSource(REAL).rows("open_qa"))
    for number, row in enumerate(rows):
        item = ability.item({**row, "document": "a passage"}, str(number))
        for gold in item.gold:
            assert ability.score(item, ability.parse(f" I think it is {gold}, of course")).value == 1.0, gold


@needs_slices
def test_nearly_every_real_gold_number_is_in_its_prompt() -> None:
    ability = load_ability("reasoning", "gu2024")
    found = items(ability, FolderSource(REAL), None, 0)
    assert sum(item.gold[0] in ability.prompt(item) for item in found) >= 195


@needs_slices
def test_floors_of_the_real_slices_are_those_of_a_constant_answer() -> None:
    for name, low, high in (("reasoning", 0.03, 0.3), ("dialogue", 0.26, 0.35), ("nli", 0.5, 0.6)):
        ability = load_ability(name, "gu2024")
        assert low < ability.floor(items(ability, FolderSource(REAL), None, 0)) < high, name
