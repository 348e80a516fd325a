"""The engine: makes a model answer and score fast. An item's result does not depend on its batch (float32).

`Decoding` is here so that the abilities can say how they decode without importing torch.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Decoding:
    """Greedy decoding up to `max_new_tokens` or a stop string, whichever comes first."""

    max_new_tokens: int
    stop: tuple[str, ...] = ("\n",)
