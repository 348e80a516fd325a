"""What a run asks: an ability as the settings want it asked, and its items; the same for base and edited model."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from audit.abilities.contract import Ability, Item
from audit.abilities.data import Source
from audit.abilities.data.sources import items
from audit.abilities.presentation import Tokenizer, present_ability
from audit.settings.options import AuditSettings

if TYPE_CHECKING:
    from audit.models.language_model import LanguageModel


def questions_of(
    name: str, source: Source, lm: "LanguageModel", wanted: AuditSettings
) -> tuple[Ability, Sequence[Item]]:
    """The ability of this name and at most `wanted.limit` items, drawn by the seed.

    Raises:
        AuditError: there is no such ability, its data cannot be had, or a column is missing or empty.
    """
    return drawn_questions(name, source, wanted, lm.tokenizer if wanted.chat_template else None)


def drawn_questions(
    name: str, source: Source, wanted: AuditSettings, chat_tokenizer: Tokenizer | None = None
) -> tuple[Ability, Sequence[Item]]:
    """The same with no model at hand; without `chat_tokenizer` no chat template stands around the questions."""
    ability = present_ability(
        name, wanted.protocol, source, shots=wanted.shots, seed=wanted.seed, chat_tokenizer=chat_tokenizer
    )
    return ability, items(ability, source, wanted.limit, wanted.seed)


def data_revisions(source: Source, abilities: Iterable[str]) -> dict[str, str]:
    """Which state of its data set each of these abilities is asked from, where the source can tell."""
    origins = {name: source.origin(name) for name in abilities}
    return {f"data {name}": f"{o.place}: {o.revision}" for name, o in origins.items() if o.revision is not None}
