"""At which numbers of edits to look: doubling, then halving the gaps where a verdict changes. Pure.

next_count({1: "PASS", 2: "FAIL"}, allowed=(1, 2, 3, 4))     # 4: doubling goes on to the end
largest_passing((1, 2, 3, 4), passes=lambda count: count < 4).largest       # 3
"""

import bisect
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise


def doubling(allowed: Sequence[int]) -> tuple[int, ...]:
    """1, 2, 4, ... and the last of `allowed` (ascending); each the next number that is allowed."""
    found: dict[int, None] = {}
    count = 1
    while count < allowed[-1]:
        found[allowed[bisect.bisect_left(allowed, count)]] = None
        count *= 2
    found[allowed[-1]] = None
    return tuple(found)


def between(allowed: Sequence[int], low: int, high: int) -> int | None:
    """The middle one of the allowed numbers strictly between, or None."""
    inside = allowed[bisect.bisect_right(allowed, low) : bisect.bisect_left(allowed, high)]
    return inside[len(inside) // 2] if inside else None


def next_count(seen: Mapping[int, Hashable], allowed: Sequence[int]) -> int | None:
    """Where to look next: the first of the doubling not seen, then the middle of the widest gap with a change in it.

    `seen` holds what was found at each number so far; two equal neighbors leave nothing to look for between them. A
    gap is as wide as the ratio of its ends, as on a logarithmic axis. None: no gap is left.
    """
    for count in doubling(allowed):
        if count not in seen:
            return count
    counts = sorted(seen)
    gaps = [(low, high) for low, high in pairwise(counts) if seen[low] != seen[high]]
    for low, high in sorted(gaps, key=lambda gap: -gap[1] / gap[0]):
        middle = between(allowed, low, high)
        if middle is not None:
            return middle
    return None


@dataclass(frozen=True)
class LargestPassing:
    """`looks` in the order in which they were taken; `largest` is 0 where not even the fewest edits pass."""

    largest: int
    looks: tuple[tuple[int, bool], ...]

    @property
    def first_failing(self) -> int | None:
        """The smallest number that did not pass."""
        return min((count for count, passed in self.looks if not passed), default=None)


def largest_passing(allowed: Sequence[int], passes: Callable[[int], bool], recheck: int = 0) -> LargestPassing:
    """The largest number such that it and every smaller one that was tried pass, with no allowed number between it and
    one that was tried and did not.

    Passing need not be monotone. After doubling up to the first failure and bisection, `recheck` numbers from the half
    of what was found up to it are tried as well; one that fails lowers the result, and its own gap is bisected.
    """
    looks: dict[int, bool] = {}

    def look(count: int) -> bool:
        if count not in looks:
            looks[count] = passes(count)
        return looks[count]

    def largest() -> int:
        failing = min((count for count, passed in looks.items() if not passed), default=allowed[-1] + 1)
        low = max((count for count in looks if count < failing), default=0)
        while failing <= allowed[-1] and (middle := between(allowed, low, failing)) is not None:
            if look(middle):
                low = middle
            else:
                failing = middle
        return low

    for count in doubling(allowed):
        if not look(count):
            break
    found = largest()
    left = recheck
    while left > 0:
        band = [count for count in allowed if found / 2 <= count < found and count not in looks]
        if not band:
            break
        left -= 1
        chosen = band[len(band) * left // max(1, recheck)] if left else band[0]
        if not look(chosen):
            found = largest()
    return LargestPassing(found, tuple(looks.items()))
