"""How an answer is decoded."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Decoding:
    """Greedy decoding up to `max_new_tokens` or a stop string, whichever comes first."""

    max_new_tokens: int
    stop: tuple[str, ...] = ("\n",)
