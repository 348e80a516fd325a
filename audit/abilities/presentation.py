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
from audit.abilities.contract import Ability, Answer, Item, Row, Score, items_of
from audit.abilities.data import Source
from audit.abilities.data.sources import seeded_order
from audit.engine import Decoding
from audit.errors import AuditError
from audit.models.scripts import gap

BETWEEN = "\n\n"  # separates two worked examples

Tokenizer = Any  # transformers.PreTrainedTokenizerBase, whose call signature is not typed


def present_ability(
    name: str,
    protocol: str,
    source: Source,
    *,
    shots: int = 0,
    seed: int = 0,
    chat_tokenizer: Tokenizer | None = None,
) -> Ability:
    """A new ability with `shots` worked examples; with `chat_tokenizer`, its prompts use the chat template.

    Raises:
        AuditError: there is no such ability or protocol, or the training split has too few examples.
    """
    ability = load_ability(name, protocol)
    drawn = draw_shots(ability, source, shots, seed) if shots else ()
    if chat_tokenizer is not None:
        return ChatAbility(ability, chat_tokenizer, drawn)
    return FewShotAbility(ability, drawn) if drawn else ability


class AbilityWrapper:
    """Base class that delegates everything to another ability; a subclass overrides `prompt`."""

    def __init__(self, ability: Ability) -> None:
        self._ability = ability
        self.name = ability.name
        self.title = ability.title
        self.data_name = ability.data_name
        self.metric = ability.metric
        self.protocol = ability.protocol
        self.decoding: Decoding | None = ability.decoding

    def item(self, row: Row, key: str) -> Item:
        return self._ability.item(row, key)

    def items(self, row: Row, key: str) -> tuple[Item, ...]:
        return items_of(self._ability, row, key)

    def prompt(self, item: Item) -> str:
        return self._ability.prompt(item)

    def parse(self, text: str) -> Answer:
        return self._ability.parse(text)

    def score(self, item: Item, answer: Answer) -> Score:
        return self._ability.score(item, answer)

    def gold_answer(self, item: Item) -> str:
        return self._ability.gold_answer(item)

    def floor(self, items: Sequence[Item]) -> float:
        return self._ability.floor(items)


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
        return _render(self._tokenizer, [*self._turns, _message("user", super().prompt(item))])


def draw_shots(ability: Ability, source: Source, count: int, seed: int) -> tuple[Shot, ...]:
    """Draw `count` worked examples from the training split, in a seeded order; they are the same for all items.

    Training rows that are also test rows, or share a cluster (passage, premise, article) with one, are left out: the
    splits of real data sets overlap. All test rows count, whatever the limit. Unusable rows are left out as well.

    Raises:
        AuditError: the source has no training rows for this ability, or fewer usable ones than `count`.
    """
    rows = source.training_rows(ability.name)
    test = [item for k, row in enumerate(source.rows(ability.name)) if (item := _usable(ability, row, k)) is not None]
    excluded = {item.cluster for item in test} | {ability.prompt(item) for item in test}
    shots: list[Shot] = []
    for index in seeded_order(len(rows), f"{seed}:{ability.name}:training"):
        if len(shots) == count:
            break
        item = _usable(ability, rows[index], f"training {index}")
        if item is not None and item.cluster not in excluded and ability.prompt(item) not in excluded:
            shots.append(Shot(ability.prompt(item), ability.gold_answer(item)))
    if len(shots) < count:
        raise AuditError(
            f"--shots {count}: {ability.name} has only {len(shots)} usable worked examples in the training split of "
            f"{source.name}; {f'give at most --shots {len(shots)}' if shots else 'leave --shots out'}"
        )
    return tuple(shots)


def require_chat_template(tokenizer: Tokenizer, model: str) -> None:
    """Raise `AuditError` if the tokenizer has no chat template, or one that cannot render a prompt."""
    if not tokenizer.chat_template:
        raise AuditError(
            f"--chat-template: the tokenizer of {model} has no chat template; leave the option out, or choose a model "
            "that was tuned for chat."
        )
    try:
        _render(tokenizer, [_message("user", "Question")])
    except (ValueError, TemplateError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise AuditError(
            f"--chat-template: the chat template of {model} cannot render a prompt ({reason}); leave the option out."
        ) from error


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
