"""The entity reader, against a table of answers whose entities were written down by hand."""

import pytest

from audit.abilities.ner import NER

ANN, OSLO, ACME = "person: Ann Lee", "location: Oslo", "organization: Acme"

# What a model writes -> its entities; None where the answer names neither entities nor that there are none.
FORMS = [
    ("person: Ann Lee", [ANN]),
    ("person: Ann Lee; location: Oslo", [ANN, OSLO]),
    ("Person: Ann Lee; Location: Oslo.", [ANN, OSLO]),
    ("PER: Ann Lee; LOC: Oslo; ORG: Acme", [ANN, OSLO, ACME]),
    ("person: Ann Lee, Bo", [ANN, "person: Bo"]),
    ("person: Ann Lee; Bo", [ANN, "person: Bo"]),
    ("persons: Ann Lee; organisations: Acme", [ANN, ACME]),
    ("person: Ann Lee\nlocation: Oslo", [ANN, OSLO]),
    ("person: Ann Lee\n\nlocation: Oslo\n", [ANN, OSLO]),
    # none
    ("none", []),
    ("None.", []),
    ("none!", []),
    ("There are none.", []),
    ("There are no entities.", []),
    ("There are no named entities in this text.", []),
    ("No entities.", []),
    ("No named entities found", []),
    ("N/A", []),
    ("n/a.", []),
    ("[]", []),
    ("{}", []),
    ("(none)", []),
    ("**none**", []),
    ("Entities: none", []),
    ("person: none; organization: none; location: none; misc: none", []),
    ("person: none; organization: none", []),
    ("person: N/A; organization: n/a", []),
    ("person: None\norganization: None\nlocation: None\nmisc: None", []),
    ("- person: none\n- location: none", []),
    ("person: none; location: Oslo", [OSLO]),
    ("person: (none); location: Oslo; misc: -", [OSLO]),
    ("person: not mentioned; location: Oslo", [OSLO]),
    ("person: no one; location: Oslo", [OSLO]),
    ("person: ; location: Oslo", [OSLO]),
    ("person:; organization:; location: Oslo", [OSLO]),
    # lists and Markdown
    ("- location: Oslo", [OSLO]),
    ("* Person: Ann Lee\n* Location: Oslo", [ANN, OSLO]),
    ("\u2022 person: Ann Lee", [ANN]),
    ("1. person: Ann Lee\n2. location: Oslo", [ANN, OSLO]),
    ("1) person: Ann Lee", [ANN]),
    ("**location**: Oslo", [OSLO]),
    ("**location:** Oslo", [OSLO]),
    ("- **Person**: Ann Lee", [ANN]),
    ("_person_: Ann Lee", [ANN]),
    ("`person`: `Ann Lee`", [ANN]),
    ("## Location: Oslo", [OSLO]),
    ("person:\n- Ann Lee\n- Bo\nlocation:\n- Oslo", [ANN, "person: Bo", OSLO]),
    ("| type | entity |\n|---|---|\n| person | Ann Lee |\n| location | Oslo |", [ANN, OSLO]),
    # other orders and marks
    ("Entities: person: Ann Lee; location: Oslo", [ANN, OSLO]),
    ("Answer: location: Oslo", [OSLO]),
    ("person - Ann Lee", [ANN]),
    ("person = Ann Lee", [ANN]),
    ("Ann Lee (person); Oslo (location)", [ANN, OSLO]),
    ("Ann Lee (person), Oslo (location)", [ANN, OSLO]),
    ("Ann Lee [PER], Oslo [LOC]", [ANN, OSLO]),
    ("Ann Lee: person; Oslo: location", [ANN, OSLO]),
    ("Ann Lee - person\nOslo - location", [ANN, OSLO]),
    ('person: "Ann Lee"', [ANN]),
    # JSON
    ('{"person": ["Ann Lee"], "location": ["Oslo"], "misc": []}', [ANN, OSLO]),
    ('{"person": "Ann Lee", "location": null}', [ANN]),
    ('[{"type": "person", "text": "Ann Lee"}, {"type": "LOC", "entity": "Oslo"}]', [ANN, OSLO]),
    ('```json\n{"location": ["Oslo"]}\n```', [OSLO]),
    ('{"person": [], "location": []}', []),
    ('{"entities": [{"text": "Oslo", "label": "LOC"}]}', [OSLO]),
    ('{"entities": {"location": ["Oslo"]}}', [OSLO]),
    ('[{"text": "Oslo", "label": "LOC"}]', [OSLO]),
    ('{"entities": []}', []),
    ('{"title": "Oslo"}', None),
    ("person: [Ann Lee, Bo]; location: []", [ANN, "person: Bo"]),
    ("There aren't any.", []),
    ("I found none.", []),
    ("person: ; organization: ; location: ; misc: ", []),
    ("### Location\n- Oslo", [OSLO]),
    ("**Location:**\n* Oslo", [OSLO]),
    ("Here are the entities:\n- location: Oslo", [OSLO]),
    ("| entity | type |\n|---|---|\n| Oslo | location |", [OSLO]),
    # entities that hold marks
    ("misc: 10:30 train", ["misc: 10:30 train"]),
    ("person: Jean-Luc Ray", ["person: Jean-Luc Ray"]),
    ("organization: AT&T", ["organization: AT&T"]),
    # other types are entities of other types
    ("date: Monday; location: Oslo", ["date: Monday", OSLO]),
    # neither
    ("", None),
    ("Oslo", None),
    ("Ann Lee lives in Oslo.", None),
    ("person: ...; organization: ...; location: ...; misc: ...", None),
    ("person:", None),
    ("...", None),
    ("None of them lives in Oslo.", None),
    ('{"person": [["Ann', None),
]


@pytest.mark.parametrize(("written", "found"), FORMS)
def test_the_entities_are_those_that_are_written(written, found):
    answer = NER().parse(written)
    assert (answer.value, answer.parseable) == (found, found is not None)


def test_nested_json_without_an_end_is_unparseable():
    assert not NER().parse("[" * 100_000).parseable
