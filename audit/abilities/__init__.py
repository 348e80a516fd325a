"""The eight built-in abilities, one file each, in two protocols."""

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

# The prompts, parsers and metrics of each protocol: our own, and those of Gu et al. (2024).
PROTOCOLS: dict[str, dict[str, str]] = {
    "standard": ABILITIES,
    "gu2024": {
        "reasoning": "audit.abilities.gu2024.reasoning:Reasoning",
        "nli": "audit.abilities.gu2024.nli:NLI",
        "open_qa": "audit.abilities.gu2024.open_qa:OpenQA",
        "closed_qa": "audit.abilities.gu2024.closed_qa:ClosedQA",
        "dialogue": "audit.abilities.gu2024.dialogue:Dialogue",
        "summarization": "audit.abilities.gu2024.summarization:Summarization",
        "ner": "audit.abilities.gu2024.ner:NER",
        "sentiment": "audit.abilities.gu2024.sentiment:Sentiment",
    },
}


def load_ability(name: str, protocol: str = "standard") -> Ability:
    """Return a new ability object. Raises `AuditError` for an unknown name or protocol, and lists the known ones."""
    if protocol not in PROTOCOLS:
        raise AuditError(f"there is no protocol {protocol!r}; choose from {', '.join(PROTOCOLS)}")
    table = PROTOCOLS[protocol]
    if name not in table:
        raise AuditError(f"there is no ability {name!r}; choose from {', '.join(table)}")
    module, class_name = table[name].split(":")
    ability: Ability = getattr(import_module(module), class_name)()
    return ability


def data_name(ability_name: str) -> str:
    """The data set of a built-in ability; the name of any other is taken for that of its data."""
    return load_ability(ability_name).data_name if ability_name in ABILITIES else ability_name
