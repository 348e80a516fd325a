"""An ability as it is really asked: by its protocol, after worked examples, in a chat."""

from audit.abilities import load_ability
from audit.abilities.chat import InChat, Tokenizer
from audit.abilities.contract import Ability
from audit.abilities.data.origin import Source
from audit.abilities.shots import WithShots, draw_shots


def asked_ability(
    name: str,
    protocol: str,
    source: Source,
    *,
    shots: int = 0,
    seed: int = 0,
    chat_tokenizer: Tokenizer | None = None,
) -> Ability:
    """A fresh ability; `chat_tokenizer` renders its questions as turns of a chat, None leaves them as they are.

    Raises:
        AuditError: there is no such ability or protocol, or not enough examples in the source's training split.
    """
    ability = load_ability(name, protocol)
    drawn = draw_shots(ability, source, shots, seed) if shots else ()
    if chat_tokenizer is not None:
        return InChat(ability, chat_tokenizer, drawn)
    return WithShots(ability, drawn) if drawn else ability
