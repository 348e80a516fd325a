"""A share with its sample size and its interval: no number leaves the measures without them."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

Z_95 = 1.959963984540054  # two-sided 95 %


@dataclass(frozen=True)
class Rate:
    """The mean over `n` edit requests of each request's share of its probes, in [0, 1].

    `lower` and `upper` are the 95 % Wilson limits for `n` requests. Probes of one request stand or fall together, so
    the interval counts requests; `probes` says how many questions there were in all. Where a request's share lies
    strictly between 0 and 1 the interval is wider than need be, never narrower.
    """

    value: float
    n: int
    lower: float
    upper: float
    probes: int

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.lower:.3f}, {self.upper:.3f}], n = {self.n}"


def wilson_interval(successes: float, n: int, z: float = Z_95) -> tuple[float, float]:
    """Wilson's score interval for a proportion (Wilson 1927); `successes` may be a sum of shares.

    Raises:
        ValueError: `n` is not positive or `successes` does not lie in [0, n].
    """
    if n < 1 or not 0 <= successes <= n:
        raise ValueError(f"{successes} successes in {n} trials are impossible")
    share = successes / n
    scale = 1 + z * z / n
    center = (share + z * z / (2 * n)) / scale
    half = z / scale * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    # At the ends the limit is the end itself; rounding must not leave it beyond or short of it.
    return (0.0 if successes == 0 else max(0.0, center - half)), (1.0 if successes == n else min(1.0, center + half))


def rate_by_request(scores: Iterable[tuple[str, float]]) -> Rate | None:
    """The rate of (case id, score in [0, 1]) pairs; None when there are none: absent is not zero."""
    by_request: dict[str, list[float]] = {}
    for case_id, score in scores:
        by_request.setdefault(case_id, []).append(score)
    if not by_request:
        return None
    n = len(by_request)
    successes = min(math.fsum(_mean(shares) for shares in by_request.values()), float(n))
    lower, upper = wilson_interval(successes, n)
    return Rate(successes / n, n, lower, upper, probes=_total(by_request))


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def _total(by_request: Mapping[str, Sequence[float]]) -> int:
    return sum(len(shares) for shares in by_request.values())
