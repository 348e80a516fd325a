"""Named entities: people, organizations, locations and the rest (CoNLL-2003)."""

from audit.verdicts import PASS

MAX_DROP = 0.05  # in points of entity-level F1, over all sentences together


def test_entity_f1_is_retained(degradation):
    assert degradation("ner", max_drop=MAX_DROP) == PASS
