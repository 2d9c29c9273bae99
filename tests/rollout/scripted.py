"""A measuring that follows a script: what each side shows, beside noise that both share."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from exporter.core.outcome import Outcome, Reason, SweepStatus
from exporter.core.probe import MeasurementOptions, Probe
from exporter.core.result import LatencySummary, Measurement, PercentileValue, SweepResult
from exporter.core.units import MS, NS
from exporter.core.window import ClientHealth
from tests.builders import make_facts, make_probe, make_target

STABLE = make_probe(name="old", model="old", target=make_target(name="server"))
CANDIDATE = make_probe(name="new", model="new", target=make_target(name="other", port=8001))


def result_of(
    probe: Probe,
    latency_ms: float = 10.0,
    *,
    count: int = 400,
    outcomes: dict[Outcome, int] | None = None,
    reason: Reason = Reason.NONE,
    version: str = "1",
    **changes: Any,
) -> SweepResult:
    """A sweep of one window in which every request took as long as reported; a reason that no window can have leaves it
    out."""
    value = round(latency_ms * MS)
    percentiles = tuple(PercentileValue(p, value, None, None) for p in probe.measurement.percentiles)
    latency = LatencySummary(count, value, 0.0, value, value, percentiles)
    outcomes = outcomes or {Outcome.OK: count}
    values: dict[str, Any] = {
        "level": probe.levels[0],
        "stable": True,
        "reason": reason,
        "reason_text": "",
        "windows_run": 1,
        "windows_merged": 1,
        "duration_ns": 2 * NS,
        "throughput": 1000 / latency_ms,
        "offered": 1000 / latency_ms,
        "unsent_ratio": 0.0,
        "latency": latency if count else None,
        "response_time": None,
        "send_lag": None,
        "outcomes": outcomes,
        "responses": count,
        "spread_ratio": None,
        "breakdown_ns": {"queue": 1.0 * MS, "compute_infer": value - 2.0 * MS, "network": 1.0 * MS},
        "negative_remainder_ns": 0.0,
        "client_send_ns": 0.0,
        "client_receive_ns": 0.0,
        "server": None,
        "foreign_requests": None,
        "health": ClientHealth(),
        "client_limited": False,
        "window_summaries": (),
    }
    measured = reason in (Reason.NONE, Reason.UNSTABLE)
    return SweepResult(
        id="1",
        probe=probe,
        status=SweepStatus.OK if measured else SweepStatus.FAILED,
        reason=reason,
        reason_text="" if measured else "as the script states",
        started_unix_s=0.0,
        duration_ns=2 * NS,
        facts=replace(make_facts(), version=version) if version else None,
        measurements=(Measurement(**(values | changes)),) if measured else (),
        outcomes=outcomes if measured or reason is Reason.ERROR_RATIO else {},
        sent=count,
    )


@dataclass
class Script:
    """Measures by a function of the probe and of how often its side was measured before; remembers the probes."""

    shows: Callable[[Probe, int], SweepResult | str]
    asked: list[Probe] = field(default_factory=list)

    async def __call__(self, probe: Probe) -> SweepResult | str:
        before = sum(other.name == probe.name for other in self.asked)
        self.asked.append(probe)
        return self.shows(probe, before)


def coins(bits: Iterable[int]) -> Callable[[int], int]:
    """One-bit coins that fall as reported, again and again; other random numbers count up."""
    falls, numbers = itertools.cycle(bits), itertools.count(1)
    return lambda count: next(falls) if count == 1 else next(numbers)


def times(factor: float, noise: float = 0.0) -> Callable[[Probe, int], SweepResult]:
    """The candidate takes so many times as long; windows differ by the noise, in a fixed order."""

    def shows(probe: Probe, before: int) -> SweepResult:
        wave = 1 + noise * ((before * 7) % 11 - 5) / 5 * (1 if probe.name == "new" else -1)
        return result_of(probe, 10 * wave * (factor if probe.name == "new" else 1.0))

    return shows


SHORT = MeasurementOptions(window_ns=NS)
