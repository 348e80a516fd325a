"""The eight abilities, one file each, and the one table that names them."""

from importlib import import_module

from audit.abilities.contract import Ability
from audit.errors import AuditError

ABILITIES: dict[str, str] = {
    "reasoning": "audit.abilities.reasoning:Reasoning",
    "nli": "audit.abilities.nli:NLI",
    "open_qa": "audit.abilities.open_qa:OpenQA",
    "closed_qa": "audit.abilities.closed_qa:ClosedQA",
    "dialogue": "audit.abilities.dialogue:Dialogue",
    "summarization": "audit.abilities.summarization:Summarization",
    "ner": "audit.abilities.ner:NER",
    "sentiment": "audit.abilities.sentiment:Sentiment",
}


def load_ability(name: str) -> Ability:
    """A fresh ability object (it owns its caches), or `AuditError` that lists the names there are."""
    if name not in ABILITIES:
        raise AuditError(f"there is no ability {name!r}; choose from {', '.join(ABILITIES)}")
    module, class_name = ABILITIES[name].split(":")
    ability: Ability = getattr(import_module(module), class_name)()
    return ability
