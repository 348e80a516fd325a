"""Counterfactual edit requests about the people of the pocket world.

The new target is another answer of the same type. Paraphrases are wordings that no edit prompt uses. Neighborhood
probes are other people with the same relation, whose true answers must not change. Portability probes are the country
of a new birthplace or the city of a new employer.
"""

from collections.abc import Sequence
from random import Random

from audit.edits.requests import EditRequest, Probe
from audit.pocket.world import NEXT_HOP, PEOPLE, PERSON_RELATIONS, RELATIONS, World, build_world

REQUESTS = PEOPLE
REQUEST_SEED = 11
NEIGHBORS = 5


def _request(
    rng: Random, world: World, number: int, subject: str, relation_name: str, label: str = "pocket"
) -> EditRequest:
    relation = RELATIONS[relation_name]
    true = world.value(subject, relation_name)
    target = rng.choice([value for value in relation.values if value != true])
    neighbors = rng.sample([person for person in world.people if person != subject], NEIGHBORS)
    portability: tuple[Probe, ...] = ()
    if relation_name in NEXT_HOP:
        two_hop, second = NEXT_HOP[relation_name]
        prompt = RELATIONS[two_hop].phrasings[0].replace("{}", subject)
        portability = (Probe(prompt, world.value(target, second)),)
    return EditRequest(
        case_id=f"{label}-{number}",
        subject=subject,
        prompt=relation.phrasings[number % relation.edit_phrasings],
        target_new=target,
        target_true=true,
        paraphrases=tuple(wording.replace("{}", subject) for wording in relation.paraphrases),
        neighborhood=tuple(
            Probe(rng.choice(relation.phrasings).replace("{}", person), world.value(person, relation_name))
            for person in neighbors
        ),
        portability=portability,
    )


def pocket_requests() -> tuple[EditRequest, ...]:
    """All pocket edit requests in a fixed random order, one for each person."""
    rng = Random(REQUEST_SEED)
    world = build_world()
    return tuple(_request(rng, world, number, *pair) for number, pair in enumerate(_edited_facts(rng, world)))


def other_requests(people: Sequence[str], targets: int, seed: int) -> tuple[EditRequest, ...]:
    """Requests about facts of `people` that no pocket request edits, `targets` for each fact, in random order.

    An editor that is evaluated on the pocket requests can be trained on them.
    """
    rng = Random(f"other requests {seed}")
    world = build_world()
    edited = set(_edited_facts(Random(REQUEST_SEED), world))
    facts = [(person, relation.name) for person in people for relation in PERSON_RELATIONS]
    pairs = [fact for fact in facts if fact not in edited for _ in range(targets)]
    rng.shuffle(pairs)
    return tuple(_request(rng, world, number, *pair, label="other") for number, pair in enumerate(pairs))


def _edited_facts(rng: Random, world: World) -> list[tuple[str, str]]:
    """(person, relation) of every pocket request, in order."""
    return [(person, rng.choice(PERSON_RELATIONS).name) for person in rng.sample(world.people, REQUESTS)]
