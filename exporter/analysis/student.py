"""Student's t distribution and the binomial one, as far as confidence intervals need them. Pure."""

from __future__ import annotations

import math

_TINY = 1e-300
_TERMS = 20_000


def t_quantile(probability: float, degrees: float) -> float:
    """The value that Student's t with so many degrees of freedom (fractions too) stays below with this probability,
    which is above 0.5 and below 1. By halving, to 1e-7 of it."""
    low, high = 0.0, 1.0
    while _cdf(high, degrees) < probability:
        low, high = high, high * 2.0
    while high - low > 1e-7 * high:
        middle = (low + high) / 2.0
        low, high = (middle, high) if _cdf(middle, degrees) < probability else (low, middle)
    return high


def t_two_sided(value: float, degrees: float) -> float:
    """How likely a value so far from 0, or further, is."""
    return 2.0 * (1.0 - _cdf(abs(value), degrees))


def binomial_low(events: int, trials: int, chance: float) -> float:
    """The lower bound of a probability that gave so many events in so many trials, which misses it with at most this
    chance: the probability at which so many events, or more, are that rare (Clopper and Pearson, Biometrika 26, 1934).
    By halving, to 1e-7 of it."""
    if events == 0:
        return 0.0
    low, high = 0.0, events / trials
    while high - low > 1e-7 * high:
        middle = (low + high) / 2.0
        rare = _incomplete_beta(middle, float(events), trials - events + 1.0) < chance
        low, high = (middle, high) if rare else (low, middle)
    return low


def _cdf(value: float, degrees: float) -> float:
    """For values not below 0 (Abramowitz and Stegun, 26.7.1 with 26.5.2)."""
    return 1.0 - 0.5 * _incomplete_beta(degrees / (degrees + value * value), degrees / 2.0, 0.5)


def _incomplete_beta(x: float, a: float, b: float) -> float:
    """The regularised incomplete beta function I_x(a, b), by its continued fraction (A. and S., 26.5.8) where that
    converges fast, else by I_x(a, b) = 1 - I_(1-x)(b, a)."""
    if x <= 0.0 or x >= 1.0:
        return min(max(x, 0.0), 1.0)
    if x > (a + 1.0) / (a + b + 2.0):
        return 1.0 - _incomplete_beta(1.0 - x, b, a)
    log_front = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    return math.exp(log_front) / (a * _continued_fraction(x, a, b))


def _continued_fraction(x: float, a: float, b: float) -> float:
    """1 + d1/(1 + d2/(1 + ...)), evaluated forwards by Lentz's method."""
    c, d, value = 1.0, 0.0, 1.0
    for term in range(1, _TERMS):
        half = term // 2
        if term % 2:
            numerator = -(a + half) * (a + b + half) * x / ((a + 2 * half) * (a + 2 * half + 1))
        else:
            numerator = half * (b - half) * x / ((a + 2 * half - 1) * (a + 2 * half))
        d = 1.0 / (1.0 + numerator * d or _TINY)
        c = 1.0 + numerator / c or _TINY
        value *= c * d
        if abs(c * d - 1.0) < 1e-14:
            break
    return value
