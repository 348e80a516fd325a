"""Finding what makes a whole fail: pure searches over an oracle that says whether some part of it still does.

    first_failing((1, 2, 3, 4), fails=lambda count: count >= 3)            # 3, in two evaluations
    halved(range(64), fails=lambda part: 17 in part)                       # (17,), in six evaluations
    minimized(range(64), fails=lambda part: {3, 40} <= set(part))          # (3, 40)

The whole is known to fail and nothing at all not to. An oracle that errs costs certainty, never termination: whoever
asks confirms what is found on other items.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise

Fails = Callable[[tuple[int, ...]], bool]


def first_failing(allowed: Sequence[int], fails: Callable[[int], bool]) -> int:
    """The smallest of `allowed` (ascending, the last known to fail) that fails, if failing is monotone.

    If it is not: one that fails, while the one before it does not. At most ceil(log2 n) evaluations.
    """
    low, high = -1, len(allowed) - 1  # places: what is at `low` does not fail, what is at `high` does
    while high - low > 1:
        middle = (low + high) // 2
        if fails(allowed[middle]):
            high = middle
        else:
            low = middle
    return allowed[high]


def halved(parts: Sequence[int], fails: Fails) -> tuple[int, ...]:
    """The one part that alone makes the whole fail, if one does: ceil(log2 n) evaluations.

    Of two halves only the first is asked: if it does not fail, the other is taken to. So where no single part is
    responsible, what comes out is no more than a guess.
    """
    left = tuple(parts)
    while len(left) > 1:
        half = left[: len(left) // 2]
        left = half if fails(half) else left[len(left) // 2 :]
    return left


def minimized(parts: Sequence[int], fails: Fails) -> tuple[int, ...]:
    """A part that fails, and no longer does without any single element (Zeller and Hildebrandt 2002: ddmin).

    At most n² + 3n evaluations, and far fewer where few elements are responsible. Nothing is asked twice.
    """
    known: dict[tuple[int, ...], bool] = {}

    def still(some: tuple[int, ...]) -> bool:
        if some not in known:
            known[some] = fails(some)
        return bool(some) and known[some]

    left, pieces = tuple(parts), 2
    while len(left) > 1:
        bounds = [len(left) * number // pieces for number in range(pieces + 1)]
        chunks = [left[start:end] for start, end in pairwise(bounds)]
        alone = next((chunk for chunk in chunks if still(chunk)), None)
        if alone is not None:
            left, pieces = alone, 2
            continue
        rests = (tuple(part for part in left if part not in chunk) for chunk in chunks)
        rest = next((rest for rest in rests if pieces > 2 and still(rest)), None)
        if rest is not None:
            left, pieces = rest, max(pieces - 1, 2)
        elif pieces < len(left):
            pieces = min(2 * pieces, len(left))
        else:
            break
    return left
