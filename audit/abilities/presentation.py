"""Prompts of an ability's items, with worked examples and in a chat template.

    ability = present_ability("nli", "standard", source, shots=5)
    ability.prompt(item)  # five prompts with their answers, separated by blank lines, then the item's prompt

With a chat template, the prompt is one user turn and worked examples are earlier turns. The template writes its special
tokens as text; `audit.models.tokens` adds no second BOS.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from jinja2 import TemplateError

from audit.abilities import load_ability
from audit.abilities.contract import Ability, Item, Row, readings_of
from audit.abilities.data import Source
from audit.abilities.data.sources import seeded_order
from audit.abilities.readings.likelihood import CalibratedChoices
from audit.abilities.wrapper import AbilityWrapper
from audit.errors import AuditError
from audit.models.scripts import gap

BETWEEN = "\n\n"  # separates two worked examples

Tokenizer = Any  # transformers.PreTrainedTokenizerBase, whose call signature is not typed


@dataclass(frozen=True)
class Presentation:
    """How an ability's items are put to a model and read.

    Attributes:
        reading: "answers", "choices", "calibrated" or "likelihood"; "" for the ability's first reading.
        shots: the number of worked examples.
        chat: whether prompts use the tokenizer's chat template.
        offset: the label preference that `calibrated` takes out, in nats.
    """

    reading: str = ""
    shots: int = 0
    chat: bool = False
    offset: float = 0.0

    @property
    def prompting(self) -> str:
        """The way of prompting in words: "plain", "4 examples", "chat" or "chat with 4 examples"."""
        examples = f"{self.shots} example{'s' if self.shots > 1 else ''}" if self.shots else ""
        if self.chat:
            return f"chat with {examples}" if examples else "chat"
        return examples or "plain"


def present_ability(name: str, protocol: str, source: Source, **how: Any) -> Ability:
    """The built-in ability of this name as `present` puts it to a model.

    Raises:
        AuditError: as in `present`, or there is no such ability or protocol.
    """
    return present(load_ability(name, protocol), source, **how)


def present(
    ability: Ability,
    source: Source,
    *,
    shots: int = 0,
    seed: int = 0,
    chat_tokenizer: Tokenizer | None = None,
    reading: str = "",
    offset: float = 0.0,
    aside: Sequence[Item] = (),
) -> Ability:
    """An ability with `shots` worked examples; with `chat_tokenizer`, its prompts use the chat template.

    `reading` and `offset` are those of a `Presentation`. Worked examples come from the training split or, without one,
    from the items set `aside`.

    Raises:
        AuditError: the ability has no such reading, or there are too few worked examples.
    """
    ability = read_as(ability, reading, offset)
    drawn = draw_shots(ability, source, shots, seed, aside) if shots else ()
    if chat_tokenizer is not None:
        return ChatAbility(ability, chat_tokenizer, drawn)
    return FewShotAbility(ability, drawn) if drawn else ability


def read_as(ability: Ability, reading: str, offset: float = 0.0) -> Ability:
    """The ability with this reading, "" for its first one.

    Raises:
        AuditError: the ability has no such reading.
    """
    several = readings_of(ability)
    if not reading:
        return several[0]
    found = next((one for one in several if one.reading == reading), None)
    if found is None:
        raise AuditError(
            f"--reading {ability.name}={reading}: {ability.name} under the protocol {ability.protocol} is read by "
            f"{' or '.join(one.reading for one in several)}; give one of these, or auto."
        )
    return found.with_offset(offset) if isinstance(found, CalibratedChoices) else found


@dataclass(frozen=True)
class Shot:
    """A worked example: a prompt and a right answer to it."""

    prompt: str
    answer: str


class FewShotAbility(AbilityWrapper):
    """Ability with worked examples before the prompt. An answer also ends where the next example would begin."""

    def __init__(self, ability: Ability, shots: Sequence[Shot]) -> None:
        super().__init__(ability)
        self._header = "".join(shot.prompt + gap(shot.prompt, shot.answer) + shot.answer + BETWEEN for shot in shots)
        if ability.decoding is not None and not any(stop in BETWEEN for stop in ability.decoding.stop):
            self.decoding = replace(ability.decoding, stop=(*ability.decoding.stop, BETWEEN))

    def prompt(self, item: Item) -> str:
        return self._header + super().prompt(item)


class ChatAbility(AbilityWrapper):
    """Ability whose prompt is a user turn of the chat template, after worked examples as earlier turns.

    Thinking is switched off if the template has `enable_thinking`. Decoding and parsing are unchanged. The engine ends
    an answer at the token that closes a turn where the model or the tokenizer declares it as an end token.
    """

    def __init__(self, ability: Ability, tokenizer: Tokenizer, shots: Sequence[Shot] = ()) -> None:
        super().__init__(ability)
        self._tokenizer = tokenizer
        self._turns = [
            turn for shot in shots for turn in (_message("user", shot.prompt), _message("assistant", shot.answer))
        ]

    def prompt(self, item: Item) -> str:
        """The turns in the template. Raises `AuditError` if there is no template, or it cannot render them."""
        try:
            return _render(self._tokenizer, [*self._turns, _message("user", super().prompt(item))])
        except (ValueError, TemplateError) as error:
            raise AuditError(f"the chat template cannot render a prompt ({_reason(error)}); ask without it") from error


def draw_shots(ability: Ability, source: Source, count: int, seed: int, aside: Sequence[Item] = ()) -> tuple[Shot, ...]:
    """Draw `count` worked examples; they are the same for all items.

    They are the first of the items set `aside`, if any are. Otherwise they come from the training split, in a seeded
    order. Training rows that are also test rows, or share a cluster (passage, premise, article) with one, are left out:
    the splits of real data sets overlap. All test rows count, whatever the limit. Unusable rows are left out as well.

    Raises:
        AuditError: there are fewer than `count` usable examples.
    """
    if aside:
        where, shots = f"the rows set aside from {source.name}", [_shot(ability, item) for item in aside[:count]]
    else:
        where, shots = f"the training split of {source.name}", _training_shots(ability, source, count, seed)
    if len(shots) < count:
        remedy = f"give at most --shots {len(shots)}" if shots else "leave --shots out"
        raise AuditError(
            f"--shots {count}: {ability.name} has only {len(shots)} usable worked examples in {where}; {remedy}"
        )
    return tuple(shots)


def _training_shots(ability: Ability, source: Source, count: int, seed: int) -> list[Shot]:
    rows = source.training_rows(ability.name)
    test = [item for k, row in enumerate(source.rows(ability.name)) if (item := _usable(ability, row, k)) is not None]
    excluded = {item.cluster for item in test} | {ability.prompt(item) for item in test}
    shots: list[Shot] = []
    for index in seeded_order(len(rows), f"{seed}:{ability.name}:training"):
        if len(shots) == count:
            break
        item = _usable(ability, rows[index], f"training {index}")
        if item is not None and item.cluster not in excluded and ability.prompt(item) not in excluded:
            shots.append(_shot(ability, item))
    return shots


def _shot(ability: Ability, item: Item) -> Shot:
    return Shot(ability.prompt(item), ability.gold_answer(item))


def require_chat_template(tokenizer: Tokenizer, model: str, flag: str = "--chat-template") -> None:
    """Raise `AuditError`, which names `flag`, if the tokenizer has no chat template or one that renders no prompt."""
    if not tokenizer.chat_template:
        raise AuditError(
            f"{flag}: the tokenizer of {model} has no chat template; leave the option out, or choose a model "
            "that was tuned for chat."
        )
    try:
        _render(tokenizer, [_message("user", "Question")])
    except (ValueError, TemplateError) as error:
        raise AuditError(
            f"{flag}: the chat template of {model} cannot render a prompt ({_reason(error)}); leave the option out."
        ) from error


def _reason(error: Exception) -> str:
    """The first line of an error, or its kind if it has no text."""
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def _usable(ability: Ability, row: Row, number: int | str) -> Item | None:
    try:
        return ability.item(row, f"{ability.name}/{number}")
    except AuditError:
        return None


def _render(tokenizer: Tokenizer, turns: list[dict[str, str]]) -> str:
    thinks = "enable_thinking" in tokenizer.get_chat_template()
    options = {"enable_thinking": False} if thinks else {}
    text: str = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True, **options)
    # Some templates open the thinking block themselves. It is closed here, so that the answer follows.
    return text + "\n</think>\n\n" if text.rstrip().endswith("<think>") else text


def _message(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}
