"""Questions as a chat model is used to them: a user's turn in the tokenizer's own template, and the answer's beginning.

    InChat(NLI(), tokenizer).prompt(item)  # "<|im_start|>user\n...Answer:<|im_end|>\n<|im_start|>assistant\n"

The template writes its special tokens as text, and `audit.models.tokens` sees to it that there is one BOS, whether the
template writes it, the tokenizer adds it, or both.
"""

from collections.abc import Sequence
from typing import Any

from jinja2 import TemplateError

from audit.abilities.contract import Ability, Item
from audit.abilities.shots import Around, Shot
from audit.errors import AuditError

Tokenizer = Any  # transformers.PreTrainedTokenizerBase, whose call signature is not typed


class InChat(Around):
    """The question as one user turn; worked examples are earlier turns. A template that can think is told not to.

    Decoding and parsing are the ability's own; the token that closes a turn ends an answer as well.
    """

    def __init__(self, ability: Ability, tokenizer: Tokenizer, shots: Sequence[Shot] = ()) -> None:
        super().__init__(ability)
        self._tokenizer = tokenizer
        self._turns = [
            turn for shot in shots for turn in (_said("user", shot.question), _said("assistant", shot.answer))
        ]

    def prompt(self, item: Item) -> str:
        return _rendered(self._tokenizer, [*self._turns, _said("user", super().prompt(item))])


def require_chat_template(tokenizer: Tokenizer, model: str) -> None:
    """Raise `AuditError` when the tokenizer has no chat template, or one that cannot render a question."""
    if not tokenizer.chat_template:
        raise AuditError(
            f"--chat-template: the tokenizer of {model} has no chat template; leave the option out, or choose a model "
            "that was tuned for chat."
        )
    try:
        _rendered(tokenizer, [_said("user", "Question")])
    except (ValueError, TemplateError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise AuditError(
            f"--chat-template: the chat template of {model} renders no question ({reason}); leave the option out."
        ) from error


def _rendered(tokenizer: Tokenizer, turns: list[dict[str, str]]) -> str:
    thinks = "enable_thinking" in tokenizer.get_chat_template()
    options = {"enable_thinking": False} if thinks else {}
    text: str = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True, **options)
    return text


def _said(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}
