"""The engine: makes a model answer and score fast. An item's result does not depend on its batch (float32).

`Decoding` is here so that the abilities can say how they decode without importing torch.
"""

import re
from dataclasses import dataclass

_THINKING_BEGINS = re.compile(r"\s*(?:<(?:think|thinking|thought|reasoning)>|\[THINK\])")
_THINKING_ENDS = re.compile(r"</(?:think|thinking|thought|reasoning)>|\[/THINK\]")


@dataclass(frozen=True)
class Decoding:
    """Greedy decoding up to `max_new_tokens` or a stop string, whichever comes first.

    Stop strings count from the end of a thinking block on, and line breaks from the first visible character on: an
    answer that begins with an empty line is not an empty answer.
    """

    max_new_tokens: int
    stop: tuple[str, ...] = ("\n",)


def after_thinking(text: str) -> str | None:
    """The answer behind a `<think> ... </think>` block, or the whole text without one; None while the block is open."""
    closed = list(_THINKING_ENDS.finditer(text))
    if closed:
        return text[closed[-1].end() :]
    return None if _THINKING_BEGINS.match(text) else text
