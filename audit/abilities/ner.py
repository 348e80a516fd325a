"""Named entity recognition: persons, organizations, locations, misc (CoNLL-2003). Metric: entity-level corpus F1."""

import re
from collections import Counter
from collections.abc import Sequence

from audit.abilities.contract import Answer, Item, Row, Score
from audit.abilities.data import columns
from audit.engine import Decoding
from audit.errors import AuditError

_TAGS = ("O", "B-PER", "I-PER", "B-ORG", "I-ORG", "B-LOC", "I-LOC", "B-MISC", "I-MISC")
_TYPES = {"PER": "person", "ORG": "organization", "LOC": "location", "MISC": "misc"}
_SPELLINGS = {
    "per": "person", "persons": "person", "people": "person",
    "org": "organization", "organizations": "organization", "organisation": "organization",
    "organisations": "organization", "loc": "location", "locations": "location", "miscellaneous": "misc",
}  # fmt: skip


class NER:
    """CoNLL-2003; the prompt asks for all entities of a sentence in one line.

    An entity is a (type, surface) pair. Predicted and gold entities are matched as multisets, so spurious, missed and
    mistyped entities all lower the score. `counts` are the true positives, false positives and misses of the sentence;
    the ability's score is F1 = 2 TP / (2 TP + FP + FN) of the summed counts. `value` is the F1 of the sentence, for
    flips and examples.
    """

    name = "ner"
    title = "Named entities"
    data_name = "conll2003"
    metric = "entity-level F1"
    protocol = "standard"
    decoding: Decoding | None = Decoding(48)

    def item(self, row: Row, key: str) -> Item:
        tokens = columns.texts(row, "tokens", key)
        tags = [columns.class_name(tag, _TAGS, "ner_tags", key) for tag in row.get("ner_tags", ())]
        if len(tags) != len(tokens):
            raise AuditError(f"row {key} has {len(tokens)} tokens and {len(tags)} ner_tags; give every token one tag")
        fields = {"tokens": list(tokens), "ner_tags": tags}
        gold = tuple(f"{kind}: {surface}" for kind, surface in entities(tokens, tags))
        # Sentences of one document form a cluster where the copy has a document column (the hub's copy has none).
        cluster = f"document {row['document_id']}" if "document_id" in row else key
        return Item(key, self.name, fields, gold, cluster)

    def prompt(self, item: Item) -> str:
        text = " ".join(item.fields["tokens"])
        return f'Text: {text}\nEntities as "person: ...; organization: ...; location: ...; misc: ...", or none:'

    def parse(self, text: str) -> Answer:
        """Entities as ["type: surface", ...]; "none" is the empty list. A text with neither is unparseable.

        "person: A, B" is the same as "person: A; person: B", so a surface with a comma is split.
        """
        if re.fullmatch(r"none\W*", text.strip(), re.IGNORECASE):
            return Answer(text, [], True)
        predicted: list[str] = []
        kind = ""
        for part in text.split(";"):
            head, colon, rest = part.partition(":")
            if colon:
                kind = head.strip().lower()
                kind = _SPELLINGS.get(kind, kind)
            surfaces = [surface.strip() for surface in (rest if colon else part).split(",")]
            predicted += [f"{kind}: {surface}" for surface in surfaces if kind and _is_surface(surface)]
        return Answer(text, predicted, True) if predicted else Answer(text, None, False)

    def score(self, item: Item, answer: Answer) -> Score:
        gold = Counter(map(_normalized, item.gold))
        predicted = Counter(map(_normalized, answer.value if answer.parseable else ()))
        hits = sum((gold & predicted).values())
        counts = (hits, predicted.total() - hits, gold.total() - hits)
        if not gold and not predicted:
            return Score(float(answer.parseable), counts)  # "none" is right
        return Score(2 * hits / (gold.total() + predicted.total()), counts)

    def gold_answer(self, item: Item) -> str:
        """ "person: Ann Lee, Bo; location: Oslo": every type once, in the order of the sentence."""
        by_type: dict[str, list[str]] = {}
        for entity in item.gold:
            kind, _, surface = entity.partition(": ")
            by_type.setdefault(kind, []).append(surface)
        return "; ".join(f"{kind}: {', '.join(surfaces)}" for kind, surfaces in by_type.items()) or "none"

    def floor(self, items: Sequence[Item]) -> float:
        """0: a constant list of entities does not match those of other sentences."""
        return 0.0


def entities(tokens: Sequence[str], tags: Sequence[str]) -> list[tuple[str, str]]:
    """(type, surface) of every entity, as in conlleval: an I- tag without its B- tag starts an entity too."""
    found: list[tuple[str, list[str]]] = []
    previous = "O"
    for token, tag in zip(tokens, tags, strict=True):
        if tag != "O":
            continues = tag.startswith("I-") and previous[2:] == tag[2:]
            if continues:
                found[-1][1].append(token)
            else:
                found.append((_TYPES[tag[2:]], [token]))
        previous = tag
    return [(kind, " ".join(words)) for kind, words in found]


def _is_surface(surface: str) -> bool:
    return bool(re.search(r"\w", surface)) and surface.lower() != "none"


def _normalized(entity: str) -> str:
    # The tokens "Washington , D.C." are written "Washington, D.C." in text, so only words and their order count.
    kind, _, surface = entity.partition(": ")
    return kind + ": " + " ".join(re.findall(r"\w+", surface.casefold()))
