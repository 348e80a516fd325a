"""The pocket world: consistent facts, the same in every process, with a fixed split."""

import subprocess
import sys

from hypothesis import given
from hypothesis import strategies as st

from audit.pocket.world import (
    FAMILY,
    GIVEN,
    NEXT_HOP,
    PEOPLE,
    PERSON_RELATIONS,
    RELATIONS,
    build_world,
    held_out,
    strangers,
)


def test_every_person_has_a_unique_name_and_every_attribute() -> None:
    world = build_world()
    assert len(set(world.people)) == PEOPLE >= 200
    for person in world.people:
        for relation in PERSON_RELATIONS:
            assert world.value(person, relation.name) in relation.values


def test_two_hop_facts_follow_from_their_two_hops() -> None:
    world = build_world()
    for person in world.people:
        for first, (two_hop, second) in NEXT_HOP.items():
            assert world.value(person, two_hop) == world.value(world.value(person, first), second)


def test_every_relation_has_wordings_that_no_edit_prompt_uses() -> None:
    for relation in PERSON_RELATIONS:
        assert len(relation.paraphrases) >= 2
        assert all(phrasing.count("{}") == 1 for phrasing in (*relation.phrasings, *relation.questions))
    assert all(two_hop in RELATIONS and second in RELATIONS for two_hop, second in NEXT_HOP.values())


def test_strangers_are_not_in_the_world_and_split_in_two() -> None:
    people, training, test = set(build_world().people), set(strangers(False)), set(strangers(True))
    assert not people & (training | test)
    assert not training & test
    assert len(people) + len(training) + len(test) == len(GIVEN) * len(FAMILY)


@given(st.lists(st.text(), min_size=1), st.integers(2, 9))
def test_the_split_is_a_function_of_the_slots(slots: list[str], one_in: int) -> None:
    assert held_out(*slots, one_in=one_in) is held_out(*slots, one_in=one_in)
    assert held_out("a", "b") is held_out("a", "b")


def test_the_world_is_the_same_in_another_process() -> None:
    code = "from audit.pocket.world import build_world; print(hash_of(build_world()))"
    code = "import hashlib; hash_of = lambda w: hashlib.sha256(repr(w).encode()).hexdigest(); " + code
    runs = {
        subprocess.run(
            [sys.executable, "-c", code], env={"PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True
        ).stdout
        for seed in ("1", "2")
    }
    assert len(runs) == 1
