"""Named entities: people, organizations, locations and the rest (CoNLL-2003)."""

from audit.verdicts import PASS

MAX_DROP = 0.05  # in points of entity-level F1, over all sentences together
KEEP = "90%"  # by likelihood: the likelihood of 200 lists of entities is known to 1 or 2 %


def test_entity_f1_is_retained(degradation):
    assert degradation("ner", max_drop=MAX_DROP, keep=KEEP) == PASS
