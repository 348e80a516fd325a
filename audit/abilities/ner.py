"""Named entity recognition: persons, organizations, locations, misc (CoNLL-2003). Metric: entity-level corpus F1."""

import json
import re
from collections import Counter
from collections.abc import Sequence

from audit.abilities.contract import Ability, Answer, Item, Row, Score, Scorer
from audit.abilities.data import columns
from audit.abilities.readings.likelihood import TextLikelihood
from audit.engine import Decoding
from audit.errors import AuditError

_TAGS = ("O", "B-PER", "I-PER", "B-ORG", "I-ORG", "B-LOC", "I-LOC", "B-MISC", "I-MISC")
_TYPES = {"PER": "person", "ORG": "organization", "LOC": "location", "MISC": "misc"}
_SPELLINGS = {
    "per": "person", "persons": "person", "people": "person",
    "org": "organization", "organizations": "organization", "organisation": "organization",
    "organisations": "organization", "loc": "location", "locations": "location", "miscellaneous": "misc",
}  # fmt: skip
_NONE = re.compile(
    r"(?:there (?:are|is)(?:n't)? |i (?:found|see|find) )?"
    r"(?:none|any|n/?a|nil|null|no ?one|nobody|nothing|"
    r"not (?:mentioned|applicable|present|specified)|"
    r"no (?:named )?(?:entit(?:y|ies)|persons?|organi[sz]ations?|locations?|misc)\b.*)",
    re.IGNORECASE,
)
_LEAD = re.compile(r"\s*(?:(?:named )?entities|answer|output)\s*:", re.IGNORECASE)
_BULLET = re.compile(r"^\s*(?:[-*\u2022>#]+\s+|\d+[.)]\s+)", re.MULTILINE)
_TYPED = re.compile(r"(.+?)\s*[(\[]\s*(\w+)\s*[)\]]\W*")  # "Oslo (location)"


class NER:
    """CoNLL-2003; the prompt asks for all entities of a sentence in one line.

    An entity is a (type, surface) pair; case and punctuation of the surface are ignored. Predicted and gold entities
    are matched as multisets, so spurious, missed and mistyped entities all lower the score. `Score.counts` are the true
    positives, false positives and misses of the sentence; the ability's score is F1 = 2 TP / (2 TP + FP + FN) of the
    summed counts. `Score.value` is the F1 of the sentence, for flips and examples.
    """

    name = "ner"
    title = "Named entities"
    data_name = "conll2003"
    metric = "entity-level F1"
    protocol = "standard"
    reading = "answers"
    decoding: Decoding | None = Decoding(48)
    scorer: Scorer | None = None

    def readings(self) -> tuple[Ability, ...]:
        """Written answers, and the likelihood of the right one."""
        return self, TextLikelihood(self)

    def item(self, row: Row, key: str) -> Item:
        tokens = columns.texts(row, "tokens", key)
        tags = list(columns.labels(row, "ner_tags", _TAGS, key))
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
        """Parse entities as ["type: surface", ...]; "none" is the empty list. A text with neither is unparseable.

        "person: A, B" is the same as "person: A; person: B", so a surface with a comma is split. Lists, Markdown, JSON,
        "A (person)" and "A: person" are read too, and "person: none" is the empty list.
        """
        in_json = re.match(r"\s*(?:```\w*\s*)?(?:\{|\[[{\[])[^}]", text)
        found = _entities_in_json(text) if in_json else _entities_in_lines(text)
        return Answer(text, found, found is not None)

    def score(self, item: Item, answer: Answer) -> Score:
        gold = Counter(map(_normalized, item.gold))
        predicted = Counter(map(_normalized, answer.value if answer.parseable else ()))
        hits = sum((gold & predicted).values())
        counts = (hits, predicted.total() - hits, gold.total() - hits)
        if not gold and not predicted:
            return Score(float(answer.parseable), counts)  # "none" is right
        return Score(2 * hits / (gold.total() + predicted.total()), counts)

    def gold_answer(self, item: Item) -> str:
        """The gold entities as "person: Ann Lee, Bo; location: Oslo", types in the order of the sentence; or "none"."""
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


def _entities_in_lines(text: str) -> list[str] | None:
    """The entities of "type: surface, surface" parts; None if there are neither entities nor a word for none."""
    plain = _BULLET.sub("", re.sub(r"\*\*|__|`|(?<!\w)_|_(?!\w)", "", text))
    plain = _LEAD.sub("", re.sub(r"^\s*\||\|\s*$", "", plain, flags=re.MULTILINE), count=1)
    found: list[str] = []
    nothing, kind, blank = bool(_is_none(plain)), "", set[str]()
    for part in re.split(r"[;\n]", plain):
        head, mark, rest = (piece.strip() for piece in _split(part))
        if mark and not _type_of(head) and _type_of(rest):  # "Oslo: location"
            head, rest = rest, head
        if mark:
            kind = _type_of(head) or head.lower()
        if not mark and _type_of(part):  # a heading
            kind, part = _type_of(part), ""
        blank.update([kind] if mark and not rest else [])
        for surface in (rest if mark else part).split(","):
            typed = _TYPED.fullmatch(surface.strip())
            one, name = (_type_of(typed.group(2)), typed.group(1)) if typed else ("", "")
            if one:
                found.append(f"{one}: {name.strip()}")
            elif _is_none(surface):
                nothing = nothing or _type_of(kind) != ""
            elif kind and re.search(r"\w", surface):
                found.append(kind + ": " + surface.strip(' "[]').removesuffix("."))
    return found if found or nothing or blank >= set(_TYPES.values()) else None


def _split(part: str) -> tuple[str, str, str]:
    """Split a part at its colon if words come before it, or at another mark if a type is on either side of it."""
    head, colon, rest = part.partition(":")
    if colon and re.fullmatch(r"\W*[^\W\d]+(?:[ -][^\W\d]+){0,3}\W*", head):
        return head, colon, rest
    for mark in ("|", " - ", " \u2013 ", "="):
        head, found, rest = part.partition(mark)
        if found and (_type_of(head) or _type_of(rest)):
            return head, found, rest
    return "", "", part


def _type_of(text: str) -> str:
    """The type that a word names, or "" if it names none."""
    word = text.strip(" *_`#\"'()[].").casefold()
    word = _SPELLINGS.get(word, word)
    return word if word in _TYPES.values() else ""


def _is_none(text: str) -> bool:
    text = text.strip()
    return text in ("[]", "{}", "-", "--") or bool(_NONE.fullmatch(text.strip(" *_`()[].!\"'")))


def _entities_in_json(text: str) -> list[str] | None:
    """The entities of {"type": [surface, ...]} or [{"type": ..., "text": ...}]; None if the text is not such JSON."""
    try:
        plain = json.loads(re.sub(r"^\s*```\w*|```\s*$", "", text))
    except (ValueError, RecursionError):
        return None
    if isinstance(plain, dict) and len(plain) == 1 and not _type_of(next(iter(plain))):  # {"entities": ...}
        plain = next(iter(plain.values()))
    if isinstance(plain, list) and all(isinstance(one, dict) for one in plain):
        names = ("text", "entity", "name", "surface", "value", "word")
        kinds = ("type", "label", "entity_type", "category", "entity_group", "tag")
        pairs = [tuple(next((one[key] for key in keys if key in one), "") for keys in (kinds, names)) for one in plain]
    elif isinstance(plain, dict):
        pairs = [(kind, one) for kind, some in plain.items() for one in (some if isinstance(some, list) else [some])]
        if not any(_type_of(kind) for kind in plain):
            return None
    else:
        return None
    return [
        f"{_type_of(str(kind)) or str(kind).lower()}: {surface}"
        for kind, surface in pairs
        if isinstance(surface, str) and surface.strip() and not _is_none(surface)
    ]


def _normalized(entity: str) -> str:
    # The tokens "Washington , D.C." become "Washington, D.C." in an answer, so only words and their order count.
    kind, _, surface = entity.partition(": ")
    return kind + ": " + " ".join(re.findall(r"\w+", surface.casefold()))
