"""When requests are meant to be sent. Pure: no clock, no loop; all times are nanoseconds after the level's start.

A pacer is an iterator over the intended send times of the requests, which never decrease. It never learns when requests
were really sent: that keeps an open loop open and free of drift. (A closed loop needs no pacer: the end of a request
sends the next one.)
"""

from __future__ import annotations

import hashlib
import itertools
import math
import random
from collections.abc import Iterator, Sequence
from fractions import Fraction

from exporter.core.units import NS


def constant(rate_per_second: float) -> Iterator[int]:
    """Evenly spaced requests, without end:

        offset(n) = floor(n * 10^9 / rate),  n = 0, 1, 2, ...

    Each offset is computed from n, not from its predecessor, and with the rate as the exact decimal number configured:
    the error stays below 1 ns however long it runs.

    Raises ValueError if the rate is not a positive finite number.
    """
    rate = Fraction(str(_checked_rate(rate_per_second)))
    return _constant(rate.numerator, rate.denominator * NS)


def _constant(numerator: int, denominator: int) -> Iterator[int]:
    scaled = 0
    while True:
        yield scaled // numerator
        scaled += denominator


def poisson(rate_per_second: float, seed: int) -> Iterator[int]:
    """A Poisson process, without end: independent, exponentially distributed gaps with mean 1/rate; the first gap
    precedes the first request.

        offset(n) = sum of n + 1 gaps,  gap = -ln(1 - U) * 10^9 / rate,  U uniform in [0, 1)

    Whole nanoseconds are summed as integers and only the fraction as a float: precision does not degrade as the sum
    grows. The same seed gives the same offsets.

    Raises ValueError if the rate is not a positive finite number.
    """
    mean_gap_ns = NS / _checked_rate(rate_per_second)
    return _poisson(mean_gap_ns, random.Random(seed))  # noqa: S311 - load, not secrets


def _poisson(mean_gap_ns: float, generator: random.Random) -> Iterator[int]:
    offset_ns, fraction_ns = 0, 0.0
    while True:
        fraction_ns -= math.log(1.0 - generator.random()) * mean_gap_ns
        whole_ns = int(fraction_ns)
        offset_ns += whole_ns
        fraction_ns -= whole_ns
        yield offset_ns


def level_seed(seed: int, label: str) -> int:
    """The seed of one level, derived from the sweep's: levels of a sweep get unrelated schedules, and the same seed
    reproduces each."""
    return int.from_bytes(hashlib.sha256(f"{seed}:{label}".encode()).digest()[:8], "big")


def looped(intervals_ns: Sequence[int]) -> Iterator[int]:
    """The gaps of an interval file, repeated without end. As in perf_analyzer the first request comes after the first
    gap:

        offset(n) = sum of the gaps 0..n,  gap n = intervals[n mod length]

    Raises ValueError if there are none, one is negative, or all are 0 (an endless burst).
    """
    if not any(intervals_ns) or min(intervals_ns) < 0:
        raise ValueError("intervals are 0 or more, and at least one is above 0")
    return itertools.accumulate(itertools.cycle(intervals_ns))


def scheduled(offsets_ns: Sequence[int]) -> Iterator[int]:
    """A fixed schedule, once: it ends after its last request.

    Raises ValueError if it is empty, the first time is negative, or the times decrease.
    """
    if not offsets_ns or offsets_ns[0] < 0 or any(late < early for early, late in itertools.pairwise(offsets_ns)):
        raise ValueError("a schedule is at least one time, from 0 on and never going back")
    return iter(offsets_ns)


def every_nth(offsets_ns: Iterator[int], first: int, step: int) -> Iterator[int]:
    """The share of one of `step` workers: request `first`, and every `step`-th after it. Together the workers send
    exactly what a single one would."""
    return itertools.islice(offsets_ns, first, None, step)


def _checked_rate(rate_per_second: float) -> float:
    if not (math.isfinite(rate_per_second) and rate_per_second > 0):
        raise ValueError(f"a rate is a finite number above 0, not {rate_per_second}")
    return rate_per_second
