"""The engine computes a model's answers and scores. In float32, an item's result does not depend on its batch.

`Decoding` is here so that the abilities can say how they decode without importing torch.
"""

import re
from dataclasses import dataclass

_THINKING_BEGINS = re.compile(r"\s*(?:<(?:think|thinking|thought|reasoning)>|\[THINK\])")
_THINKING_ENDS = re.compile(r"</(?:think|thinking|thought|reasoning)>|\[/THINK\]")


@dataclass(frozen=True)
class Decoding:
    """Greedy decoding up to `max_new_tokens` or a stop string, whichever comes first.

    Stop strings count only after a thinking block, and those of white space only after the first visible character: an
    answer that begins with an empty line is not an empty answer.
    """

    max_new_tokens: int
    stop: tuple[str, ...] = ("\n",)


def after_thinking(text: str) -> str | None:
    """The text after the last `<think> ... </think>` block; all of it if there is no block, None if one is open."""
    closed = list(_THINKING_ENDS.finditer(text))
    if closed:
        return text[closed[-1].end() :]
    return None if _THINKING_BEGINS.match(text) else text
