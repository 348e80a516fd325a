"""The three distributions that the limits need, without scipy: normal, Student's t, binomial."""

import math
from statistics import NormalDist


def normal_quantile(probability: float) -> float:
    """The standard normal's quantile; 1.645 at 0.95."""
    return NormalDist().inv_cdf(probability)


def t_quantile(probability: float, freedom: float) -> float:
    """Student's quantile with `freedom` > 0 degrees of freedom, to 1e-10; infinite for none."""
    if freedom <= 0:
        return math.copysign(math.inf, probability - 0.5)
    if probability < 0.5:
        return -t_quantile(1 - probability, freedom)
    low, high = 0.0, 1.0
    while t_upper_tail(high, freedom) > 1 - probability:
        low, high = high, 2 * high
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if t_upper_tail(middle, freedom) > 1 - probability else (low, middle)
        if high - low <= 1e-12 * high:
            break
    return high


def t_upper_tail(value: float, freedom: float) -> float:
    """P(T >= value) for Student's T with `freedom` degrees of freedom."""
    tail = 0.5 * incomplete_beta(freedom / 2, 0.5, freedom / (freedom + value * value))
    return tail if value >= 0 else 1 - tail


def binomial_upper_tail(least: int, trials: int, probability: float = 0.5) -> float:
    """P(X >= least) for X of `trials` at `probability`, exact."""
    if least <= 0:
        return 1.0
    if least > trials:
        return 0.0
    return incomplete_beta(least, trials - least + 1, probability)


def incomplete_beta(a: float, b: float, x: float) -> float:
    """The regularized incomplete beta function I_x(a, b), by Lentz's continued fraction (DLMF 8.17.22)."""
    if x <= 0 or x >= 1:
        return 0.0 if x <= 0 else 1.0
    if x > (a + 1) / (a + b + 2):  # the fraction converges fast on the other side
        return 1 - incomplete_beta(b, a, 1 - x)
    log_front = a * math.log(x) + b * math.log1p(-x) + math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b)
    tiny = 1e-300
    numerator, denominator = 1.0, 1 - (a + b) * x / (a + 1)
    denominator = 1 / (denominator if abs(denominator) > tiny else tiny)
    fraction = denominator
    for m in range(1, 10_000):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        for step in (even, odd):
            denominator = 1 + step * denominator
            denominator = 1 / (denominator if abs(denominator) > tiny else tiny)
            numerator = 1 + step / numerator
            numerator = numerator if abs(numerator) > tiny else tiny
            fraction *= denominator * numerator
        if abs(denominator * numerator - 1) < 1e-15:
            break
    return math.exp(log_front) * fraction / a
