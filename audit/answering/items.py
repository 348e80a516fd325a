"""The items of a run: an ability with the settings' protocol, shots and chat template, and the items drawn for it."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from audit.abilities.contract import Ability, Item
from audit.abilities.data import Source
from audit.abilities.data.sources import items
from audit.abilities.presentation import Tokenizer, present_ability
from audit.settings.options import AuditSettings

if TYPE_CHECKING:
    from audit.models.language_model import LanguageModel


def items_of(name: str, source: Source, lm: "LanguageModel", wanted: AuditSettings) -> tuple[Ability, Sequence[Item]]:
    """The ability of this name and at most `wanted.limit` items, drawn by the seed.

    Raises:
        AuditError: the ability is unknown, its data cannot be loaded, or a column is missing or empty.
    """
    return drawn_items(name, source, wanted, lm.tokenizer if wanted.chat_template else None)


def drawn_items(
    name: str, source: Source, wanted: AuditSettings, chat_tokenizer: Tokenizer | None = None
) -> tuple[Ability, Sequence[Item]]:
    """The same without a model; prompts get a chat template only if `chat_tokenizer` is given."""
    ability = present_ability(
        name, wanted.protocol, source, shots=wanted.shots, seed=wanted.seed, chat_tokenizer=chat_tokenizer
    )
    return ability, items(ability, source, wanted.limit, wanted.seed)


def data_revisions(source: Source, abilities: Iterable[str]) -> dict[str, str]:
    """The revision of each ability's data set, for those whose source knows it."""
    origins = {name: source.origin(name) for name in abilities}
    return {f"data {name}": f"{o.place}: {o.revision}" for name, o in origins.items() if o.revision is not None}
