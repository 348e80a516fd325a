"""Means over edit requests with their intervals: rates of success, and differences in nats or in probability.

    rate_by_request([("case-1", 1.0), ("case-1", 0.0), ("case-2", 1.0)]).value          # 0.75
    difference_by_request([("case-1", 2.0), ("case-1", 1.0), ("case-2", -0.5)]).value   # 0.5

A request counts once, however many probes it has, because its probes are dependent.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

Z_95 = 1.959963984540054  # two-sided 95 %
# Two protocols of edit scores: shares and differences of probabilities, and changes of a mean log-probability.
LIKELIHOOD, NATS_PER_TOKEN = "likelihood", "likelihood, nats per token"
MAGNITUDE = ", magnitude"  # ends the names of differences of probabilities


@dataclass(frozen=True)
class Rate:
    """The mean over `n` edit requests of each request's share of successful probes, in [0, 1].

    `lower` and `upper` are the 95 % Wilson limits for `n` requests. Probes of one request are dependent, so the
    interval counts requests; `probes` is the number of probes of all requests. If a request's share is strictly between
    0 and 1, the interval is conservative (too wide).
    """

    value: float
    n: int
    lower: float
    upper: float
    probes: int

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.lower:.3f}, {self.upper:.3f}], n = {self.n}"


@dataclass(frozen=True)
class Difference:
    """The mean over `n` edit requests of the mean of each request's probes: of a difference, in the measure's unit.

    `lower` and `upper` are the two-sided 95 % limits of Student's t for the mean of `n` requests; None for one request
    or if `value` is NaN (a model whose logits are not finite). `probes` is the number of probes of all requests.
    """

    value: float
    n: int
    lower: float | None
    upper: float | None
    probes: int

    def __str__(self) -> str:
        limits = "" if self.lower is None else f" [{self.lower:+z.3f}, {self.upper:+z.3f}]"
        return f"{self.value:+z.3f}{limits}, n = {self.n}"


def wilson_interval(successes: float, n: int, z: float = Z_95) -> tuple[float, float]:
    """Wilson score interval of a proportion (Wilson 1927); `successes` may be a sum of shares.

    Raises:
        ValueError: `n` is not positive, or `successes` is not in [0, n].
    """
    if n < 1 or not 0 <= successes <= n:
        raise ValueError(
            f"{successes} successes in {n} trials are impossible; give a count between 0 and the number of trials"
        )
    share = successes / n
    scale = 1 + z * z / n
    center = (share + z * z / (2 * n)) / scale
    half = z / scale * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    # At 0 and n the limit is exactly 0 or 1; rounding must not change that.
    return (0.0 if successes == 0 else max(0.0, center - half)), (1.0 if successes == n else min(1.0, center + half))


def rate_by_request(scores: Iterable[tuple[str, float]]) -> Rate | None:
    """The `Rate` over (case id, score in [0, 1]) pairs; None if there are none."""
    by_request = _by_request(scores)
    if not by_request:
        return None
    n = len(by_request)
    successes = min(math.fsum(_mean(shares) for shares in by_request.values()), float(n))
    lower, upper = wilson_interval(successes, n)
    return Rate(successes / n, n, lower, upper, probes=_total(by_request))


def difference_by_request(differences: Iterable[tuple[str, float]]) -> Difference | None:
    """The `Difference` over (case id, finite difference or NaN) pairs; None if there are none."""
    from audit.verdicts.intervals import t_quantile  # this imports numpy, and reports import this module

    by_request = _by_request(differences)
    if not by_request:
        return None
    means = [_mean(values) for values in by_request.values()]
    n, mean = len(means), _mean(means)
    if n < 2 or math.isnan(mean):
        return Difference(mean, n, None, None, probes=_total(by_request))
    error = math.sqrt(math.fsum((one - mean) ** 2 for one in means) / (n - 1) / n)
    half = t_quantile(0.975, n - 1) * error
    return Difference(mean, n, mean - half, mean + half, probes=_total(by_request))


def _by_request(values: Iterable[tuple[str, float]]) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    for case_id, value in values:
        found.setdefault(case_id, []).append(value)
    return found


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def _total(by_request: Mapping[str, Sequence[float]]) -> int:
    return sum(len(shares) for shares in by_request.values())
