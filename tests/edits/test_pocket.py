"""Pocket edit requests: counterfactual, of the right type, with valid probes."""

from audit.edits.pocket import pocket_requests
from audit.pocket.world import PERSON_RELATIONS, RELATIONS, build_world


def test_targets_are_other_values_of_the_same_relation() -> None:
    world = build_world()
    by_prompt = {p: r for r in PERSON_RELATIONS for p in r.phrasings[: r.edit_phrasings]}
    for request in pocket_requests():
        relation = by_prompt[request.prompt]
        assert request.target_true == world.value(request.subject, relation.name)
        assert request.target_new in relation.values
        assert request.target_new != request.target_true


def test_paraphrases_are_never_edit_prompts() -> None:
    requests = pocket_requests()
    edit_prompts = {request.filled_prompt for request in requests}
    for request in requests:
        assert len(request.paraphrases) >= 2
        assert not edit_prompts & set(request.paraphrases)


def test_neighbors_are_other_people_with_their_own_truth() -> None:
    world = build_world()
    for request in pocket_requests():
        for probe in request.neighborhood:
            assert request.subject not in probe.prompt
            assert any(person in probe.prompt for person in world.people)


def test_portability_is_the_next_hop_of_the_new_answer() -> None:
    world = build_world()
    probes = [(r, probe) for r in pocket_requests() for probe in r.portability]
    assert len(probes) > 50
    for request, probe in probes:
        second = "country" if request.target_new in RELATIONS["birthplace"].values else "headquarters"
        assert probe.answer == world.value(request.target_new, second)


def test_every_person_is_edited_once() -> None:
    requests = pocket_requests()
    assert len({request.subject for request in requests}) == len(requests) >= 200
