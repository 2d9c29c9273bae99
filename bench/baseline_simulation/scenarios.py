"""What the made-up models do: each scenario draws its parameters per probe, and makes a series of sweeps from them.

A scenario's parameters come from a range. `Draw` takes its middle half for tuning, and what lies outside for the
held-out probes: these are other seeds and other parameters than those that the judge was tuned on.
"""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

HOUR_S, DAY_S = 3_600.0, 86_400.0
MONDAY_UNIX_S = 1_767_571_200.0
"""Monday, 5 January 2026, 0:00 UTC."""
BERLIN = ZoneInfo("Europe/Berlin")


@dataclass(slots=True)
class Draw:
    """Random numbers for one probe."""

    random: np.random.Generator
    held_out: bool

    def between(self, low: float, high: float) -> float:
        """Uniform: in the middle half of the range for tuning, outside of it for held-out probes."""
        quarter = (high - low) / 4
        if not self.held_out:
            return float(self.random.uniform(low + quarter, high - quarter))
        part = float(self.random.uniform(0, 2 * quarter))
        return low + part if part < quarter else high - 2 * quarter + part


@dataclass(slots=True)
class Series:
    """Sweeps of one probe: logarithms of p50 relative to its usual value. `tail` is added for p99. `missing` sweeps
    have no figures; `unstable` ones failed stability. `requests` is what each sweep measured."""

    unix_s: Floats
    logs: Floats
    tail: Floats
    missing: Flags
    unstable: Flags
    versions: npt.NDArray[np.int64]
    timezone: str = "UTC"
    requests: int = 3000
    foreign_ratio: float = 0.0


@dataclass(frozen=True, slots=True)
class Scenario:
    """`noise` is the noise from sweep to sweep; `hard` ones are reported with an aim of their own."""

    name: str
    shape: Callable[[Series, Draw], None]
    noise: tuple[float, float] = (0.02, 0.05)
    correlation: float = 0.7
    heavy: bool = False
    hard: bool = False
    tags: frozenset[str] = field(default_factory=frozenset)


def make_series(scenario: Scenario, draw: Draw, sweeps: int, interval_s: float, weekday: int) -> Series:
    """A probe's series; sweep 0 is at 11:00 UTC of that weekday (0 is Monday)."""
    begin_s = MONDAY_UNIX_S + weekday * DAY_S + 11 * HOUR_S
    jitter = draw.random.uniform(0, 0.02 * interval_s, sweeps)
    series = Series(
        unix_s=begin_s + np.arange(sweeps) * interval_s + jitter,
        logs=noise(scenario, draw, sweeps, interval_s),
        tail=0.4 * noise(scenario, draw, sweeps, interval_s),
        missing=np.zeros(sweeps, bool),
        unstable=np.zeros(sweeps, bool),
        versions=np.ones(sweeps, np.int64),
    )
    scenario.shape(series, draw)
    return series


def noise(scenario: Scenario, draw: Draw, sweeps: int, interval_s: float) -> Floats:
    """Autocorrelated noise: `correlation` is from one 5-minute sweep to the next."""
    sigma = draw.between(*scenario.noise)
    rho = scenario.correlation ** (interval_s / 300.0)
    random = draw.random
    pushes = random.standard_t(3, sweeps) / math.sqrt(3) if scenario.heavy else random.standard_normal(sweeps)
    return sigma * autoregressive(pushes, rho)


def autoregressive(pushes: Floats, rho: float) -> Floats:
    """x[t] = rho x[t-1] + push[t], of the variance of the pushes."""
    if rho <= 1e-6:
        return pushes
    reach = max(1, min(len(pushes), math.ceil(math.log(1e-4) / math.log(rho))))
    weights = math.sqrt(1 - rho**2) * rho ** np.arange(reach)
    size = 1 << (len(pushes) + reach - 1).bit_length()
    spectrum = np.fft.rfft(pushes, size) * np.fft.rfft(weights, size)
    result: Floats = np.fft.irfft(spectrum, size)[: len(pushes)]
    return result


# --- calendars -------------------------------------------------------------------------------------------------------


def local_hours(series: Series, zone: ZoneInfo | None) -> tuple[Floats, npt.NDArray[np.int64]]:
    """Hour of the day with its fraction, and weekday (0 is Monday), in the zone."""
    if zone is None:
        local = series.unix_s
    else:
        hours, index = np.unique(series.unix_s // HOUR_S, return_inverse=True)
        offsets = [
            dt.datetime.fromtimestamp(hour * HOUR_S, zone).utcoffset().total_seconds()  # type: ignore[union-attr]
            for hour in hours.tolist()
        ]
        local = series.unix_s + np.array(offsets)[index]
    return local % DAY_S / HOUR_S, (local // DAY_S + 3).astype(np.int64) % 7


def _flat(series: Series, draw: Draw) -> None:
    """Nothing but noise."""


def _smooth_day(series: Series, draw: Draw) -> None:
    hours, _ = local_hours(series, None)
    height = draw.between(0.1, 0.4)
    heights = np.repeat(1 + 0.2 * draw.random.standard_normal(len(hours) // 24 + 1), 24)[: len(hours)]
    series.logs += height * heights * np.maximum(0.0, np.sin(2 * np.pi * (hours / 24 - 0.3)))


def _weekends(series: Series, draw: Draw) -> None:
    hours, days = local_hours(series, None)
    height = math.log1p(draw.between(0.2, 0.4))
    busy = draw.random.random() < 0.5
    series.logs += np.where(days < 5, height, 0.0) * ((hours >= 7) & (hours < 20) if busy else 1.0)


def _nightly_job(series: Series, draw: Draw) -> None:
    """A job of an hour, a minute or ten sooner or later each night; half of them on full hours."""
    hours, _ = local_hours(series, None)
    begins = draw.random.integers(0, 6) + (0.0 if draw.random.random() < 0.5 else draw.between(0.0, 1.0))
    length = draw.between(0.8, 1.2)
    late = draw.random.normal(0, 3 / 60, int(np.ptp(series.unix_s) // DAY_S) + 2)
    day = ((series.unix_s - series.unix_s[0]) // DAY_S).astype(int)
    since = (hours - begins - late[day]) % 24
    series.logs += np.where(since < length, math.log1p(draw.between(0.45, 0.65)), 0.0)


def _working_hours(series: Series, draw: Draw) -> None:
    hours, days = local_hours(series, BERLIN)
    working = (hours >= 8) & (hours < 18) & (days < 5)
    series.logs += np.where(working, math.log1p(draw.between(0.3, 0.6)), 0.0)


def _daylight_saving(series: Series, draw: Draw) -> None:
    series.timezone = "Europe/Berlin"
    _working_hours(series, draw)


# --- events ----------------------------------------------------------------------------------------------------------


def _events(series: Series, draw: Draw, a_day: float) -> list[float]:
    span_s = float(np.ptp(series.unix_s))
    count = draw.random.poisson(a_day * span_s / DAY_S)
    return sorted((series.unix_s[0] + draw.random.uniform(0, span_s, count)).tolist())


def _bursts(series: Series, draw: Draw) -> None:
    height = draw.between(0.3, 0.7)
    for at in _events(series, draw, draw.between(0.5, 1.5)):
        burst = (series.unix_s >= at) & (series.unix_s < at + draw.random.uniform(10, 60) * 60)
        series.logs[burst] += math.log1p(draw.random.uniform(0.1, height))


def _autoscaler(series: Series, draw: Draw) -> None:
    """Each working hour's load meets another number of replicas: levels change, and stay for one to six hours."""
    hours, days = local_hours(series, None)
    levels = np.log1p([0.0, draw.between(0.1, 0.2), draw.between(0.25, 0.45)])
    now_s, level = series.unix_s[0], 0
    while now_s < series.unix_s[-1]:
        until_s = now_s + draw.random.uniform(1, 6) * HOUR_S
        held = (series.unix_s >= now_s) & (series.unix_s < until_s)
        series.logs[held & (hours >= 7) & (hours < 21) & (days < 5)] += levels[level]
        level, now_s = draw.random.choice(3, p=(0.6, 0.3, 0.1)), until_s


def _deploys(series: Series, draw: Draw) -> None:
    """Each week a deploy: ten minutes of twice the latency, then a level of its own; half of them see versions."""
    spread, versions = draw.between(0.005, 0.02), draw.random.random() < 0.5
    for week, at in enumerate(np.arange(series.unix_s[0] + 3.3 * DAY_S, series.unix_s[-1], 7 * DAY_S)):
        series.logs[(series.unix_s >= at) & (series.unix_s < at + 600)] += math.log(2)
        after = (series.unix_s >= at) & (series.unix_s < at + 7 * DAY_S)
        series.logs[after] += draw.random.normal(0, spread)
        if versions:
            series.versions[after] = week + 2


def _maintenance(series: Series, draw: Draw) -> None:
    """Every four weeks the server is away for one to four hours, and slow for half an hour after."""
    for at in np.arange(series.unix_s[0] + 10.6 * DAY_S, series.unix_s[-1], 28 * DAY_S):
        back_s = at + draw.between(1, 4) * HOUR_S
        series.missing |= (series.unix_s >= at) & (series.unix_s < back_s)
        series.logs[(series.unix_s >= back_s) & (series.unix_s < back_s + 1800)] += math.log1p(draw.between(0.2, 0.8))


def _thermal(series: Series, draw: Draw) -> None:
    """Slow drift over days, and over the year."""
    rho = math.exp(-(series.unix_s[1] - series.unix_s[0]) / (draw.between(0.5, 2.0) * DAY_S))
    slow = autoregressive(draw.random.standard_normal(2 * len(series.logs)), rho)[len(series.logs) :]
    series.logs += draw.between(0.01, 0.03) * slow
    series.logs += draw.between(0.01, 0.03) * np.sin(2 * np.pi * (series.unix_s / (365 * DAY_S) + draw.random.random()))


def _heteroscedastic(series: Series, draw: Draw) -> None:
    hours, _ = local_hours(series, None)
    factor = draw.between(2.0, 4.0)
    series.logs *= np.where((hours >= 8) & (hours < 18), factor, 1.0)
    series.tail *= np.where((hours >= 8) & (hours < 18), factor, 1.0)


def _modes(share: float, dwell: float = 0.0) -> Callable[[Series, Draw], None]:
    """Two modes; the slow one has this share, and a mode stays for `dwell` more sweeps on average."""

    def shape(series: Series, draw: Draw) -> None:
        stay = dwell / (1 + dwell)
        slow, state = np.zeros(len(series.logs), bool), False
        uniform = draw.random.random((2, len(slow)))
        for index in range(len(slow)):
            if uniform[0, index] >= stay:
                state = bool(uniform[1, index] < share)
            slow[index] = state
        series.logs += np.where(slow, math.log(draw.between(1.5, 2.2)), 0.0)

    return shape


def _growth(series: Series, draw: Draw) -> None:
    """Latency grows over the year."""
    series.logs += math.log1p(draw.between(0.02, 0.06)) * (series.unix_s - series.unix_s[0]) / (365 * DAY_S)


def _gaps(series: Series, draw: Draw) -> None:
    series.missing |= draw.random.random(len(series.missing)) < draw.between(0.1, 0.3)
    for at in _events(series, draw, 0.2):
        series.missing |= (series.unix_s >= at) & (series.unix_s < at + draw.random.uniform(1, 12) * HOUR_S)


def _few_requests(series: Series, draw: Draw) -> None:
    """Slow models: a sweep has few requests, and its p99 is noisier."""
    series.requests = round(draw.between(60, 400))
    series.tail += 0.15 * draw.random.standard_normal(len(series.tail))


def _shared_and_unstable(series: Series, draw: Draw) -> None:
    """A fifth of the requests are others', a third of the sweeps are unstable, and these are noisier."""
    series.foreign_ratio = 0.2
    series.unstable |= draw.random.random(len(series.logs)) < draw.between(0.2, 0.5)
    series.logs += np.where(series.unstable, 0.1 * draw.random.standard_normal(len(series.logs)), 0.0)


SCENARIOS = (
    Scenario("quiet", _flat, (0.005, 0.015), 0.5),
    Scenario("heavy tails", _flat, (0.02, 0.04), 0.6, heavy=True),
    Scenario("noise 5-8 %", _flat, (0.05, 0.08)),
    Scenario("smooth days", _smooth_day, heavy=True),
    Scenario("weekends", _weekends),
    Scenario("steep hours", _nightly_job),
    Scenario("daylight saving", _daylight_saving),
    Scenario("the same, zone not set", _working_hours),
    Scenario("bursts", _bursts, hard=True),
    Scenario("autoscaler", _autoscaler, hard=True),
    Scenario("weekly deploys", _deploys),
    Scenario("maintenance", _maintenance),
    Scenario("thermal drift", _thermal),
    Scenario("heteroscedastic", _heteroscedastic, (0.01, 0.02)),
    Scenario("noise 10 %", _flat, (0.1, 0.1), 0.6),
    Scenario("noise 15 %", _flat, (0.15, 0.15), 0.6),
    Scenario("modes 90/10", _modes(0.1)),
    Scenario("modes 70/30", _modes(0.3), hard=True),
    Scenario("modes 50/50", _modes(0.5, 0.5), hard=True),
    Scenario("growth", _growth),
    Scenario("missing sweeps", _gaps),
    Scenario("few requests", _few_requests),
    Scenario("shared, unstable", _shared_and_unstable),
)
