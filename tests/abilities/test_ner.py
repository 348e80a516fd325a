import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audit.abilities.ner import NER, entities
from audit.errors import AuditError

ABILITY = NER()
TOKENS = ["Mara", "Lind", "of", "ORG", "met", "Mara", "Lind", "in", "Velden"]
TAGS = [1, 2, 0, 3, 0, 1, 2, 0, 5]
GOLD = "person: Mara Lind; organization: ORG; person: Mara Lind; location: Velden"


def item(tokens=TOKENS, tags=TAGS):
    return ABILITY.item({"tokens": tokens, "ner_tags": tags}, "ner/0")


def score(said: str, **row):
    return ABILITY.score(item(**row), ABILITY.parse(said))


def test_the_prompt_is_exact():
    assert ABILITY.prompt(item()) == (
        "Text: Mara Lind of ORG met Mara Lind in Velden\n"
        'Entities as "person: ...; organization: ...; location: ...; misc: ...", or none:'
    )


def test_the_gold_line_is_right():
    assert "; ".join(item().gold) == GOLD
    assert score(GOLD).counts == (4, 0, 0)
    assert score(GOLD).value == 1.0


@pytest.mark.parametrize(
    ("said", "counts"),
    [
        (
            "person: Mara Lind; organization: ORG; location: Velden",
            (3, 0, 1),
        ),  # once in the answer, twice in the sentence
        ("location: Velden; location: Velden", (1, 1, 3)),
        ("person: Mara Lind, Mara Lind; organization: ORG; location: Velden", (4, 0, 0)),
        ("person: Mara Lind; Mara Lind; organisation: ORG; Locations: velden", (4, 0, 0)),
        ("location: Mara Lind", (0, 1, 4)),  # the wrong type costs twice
        ("person: Mara", (0, 1, 4)),  # a part is not the entity
        ("date: Monday; location: Velden", (1, 1, 3)),  # an invented type is spurious
        ("none", (0, 0, 4)),
        ("", (0, 0, 4)),
    ],
)
def test_entities_are_matched_as_a_multiset(said, counts):
    got = score(said)
    assert got.counts == counts
    hits, spurious, missed = counts
    assert got.value == pytest.approx(2 * hits / (2 * hits + spurious + missed))


def test_surfaces_are_compared_by_their_words():
    row = {"tokens": ["Santa", "Fe", ",", "N.M."], "tags": ["B-LOC", "I-LOC", "I-LOC", "I-LOC"]}
    assert item(**row).gold == ("location: Santa Fe , N.M.",)
    quoted = {"tokens": ["St.", "Ives"], "tags": [5, 6]}
    assert score("location: st Ives.", **quoted).counts == (1, 0, 0)


def test_a_sentence_without_entities_wants_none():
    empty = {"tokens": ["It", "rained", "."], "tags": [0, 0, 0]}
    right = score(" none", **empty)
    assert (right.value, right.counts) == (1.0, (0, 0, 0))
    spurious = score("person: It", **empty)
    assert (spurious.value, spurious.counts) == (0.0, (0, 1, 0))
    assert score("It rained", **empty).value == 0.0  # unparseable is wrong, even without gold entities


@pytest.mark.parametrize(
    ("said", "value"),
    [
        ("none", []),
        (" None.", []),
        ("person: none; location: Velden", ["location: Velden"]),
        ("person: ...; organization: ...", None),  # the prompt's own pattern, echoed
        ("Velden", None),
        ("", None),
    ],
)
def test_parsing(said, value):
    answer = ABILITY.parse(said)
    assert (answer.value, answer.parseable) == (value, value is not None)


@pytest.mark.parametrize(
    ("tags", "found"),
    [
        (["B-PER", "B-PER"], [("person", "a"), ("person", "b")]),
        (["I-PER", "I-PER"], [("person", "a b")]),  # conlleval: an I- tag without its B- tag starts an entity
        (["B-PER", "I-LOC"], [("person", "a"), ("location", "b")]),
        (["O", "B-MISC"], [("misc", "b")]),  # the last token counts
    ],
)
def test_spans_follow_conlleval(tags, found):
    assert entities(["a", "b"], tags) == found


def test_every_token_needs_a_tag():
    with pytest.raises(AuditError, match="9 tokens and 2 ner_tags"):
        item(tags=[0, 0])
    with pytest.raises(AuditError, match="column 'ner_tags'"):
        item(tags=[9] * 9)


@pytest.mark.parametrize("tags", [None, 3, "O", b"O", {"a": 1}])
def test_tags_that_are_no_list_are_refused(tags):
    with pytest.raises(AuditError, match=r"row ner/0 has .* in column 'ner_tags'; give a list of labels"):
        item(tags=tags)


def test_a_missing_column_of_tags_is_named():
    with pytest.raises(AuditError, match=r"row ner/0 has no column 'ner_tags' \(it has tokens\)"):
        ABILITY.item({"tokens": TOKENS}, "ner/0")


def test_tag_names_and_their_numbers_agree():
    names = ["B-PER", "I-PER", "O", "B-ORG", "O", "B-PER", "I-PER", "O", "B-LOC"]
    assert item(tags=names) == item()


def test_the_floor_is_0():
    assert ABILITY.floor([item()]) == 0.0


KINDS = st.sampled_from(["person", "organization", "location", "misc"])
ENTITIES = st.lists(st.tuples(KINDS, st.sampled_from(["Mara Lind", "ORG", "Velden", "Kelm"])), max_size=6)


@settings(max_examples=30, deadline=None)
@given(ENTITIES)
def test_counts_add_up(said):
    line = "; ".join(f"{kind}: {surface}" for kind, surface in said) or "none"
    hits, spurious, missed = score(line).counts
    assert hits + missed == 4
    assert hits + spurious == len(said)
    assert 0 <= score(line).value <= 1
