"""Items that ask for an edited fact: their right answer is what the edit replaces, so losing it is no side effect.

    facts = EditedFacts(requests)
    facts.asked_by(item)   # EditedFact("open_qa/12", "Mara Lind", "baker"): the item asks what Mara Lind was

An item asks for the fact of a request if it mentions the subject and one of its right answers is the old target. Such
items are set aside: they are listed in the report and not judged.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from audit.abilities.contract import Item
from audit.edits.requests import EditRequest
from audit.measures.mentions import Phrases, item_text, phrase_words


@dataclass(frozen=True)
class EditedFact:
    """An item, by its key, that asks for a fact that was edited: the subject and the old target, if they are kept."""

    key: str
    subject: str = ""
    target: str = ""


class EditedFacts:
    """Finds the items that ask for a fact of edit requests; requests without an old target are not looked for."""

    def __init__(self, requests: Iterable[EditRequest]) -> None:
        self._targets: dict[str, dict[tuple[str, ...], str]] = {}  # subject -> words of an old target -> old target
        for request in requests:
            if words := phrase_words(request.target_true or ""):
                self._targets.setdefault(request.subject, {}).setdefault(words, request.target_true or "")
        self._subjects = Phrases(self._targets)

    def asked_by(self, item: Item) -> EditedFact | None:
        """The edited fact that the item asks for, None if there is none; case, spacing and punctuation do not count."""
        golds = {phrase_words(gold) for gold in item.gold}
        for subject in self._subjects.in_text(item_text(item)):
            for words, target in self._targets[subject].items():
                if words in golds:
                    return EditedFact(item.key, subject, target)
        return None
