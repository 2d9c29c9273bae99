"""Whether a level kept the latency threshold that its probe names, as a user would feel it.

The threshold is `measurement.latency_threshold`, on the figure that stability is judged by; where there is none, that
of the slo, on its percentile.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from exporter.analysis.queueing import queue_of
from exporter.core.outcome import Outcome
from exporter.core.probe import Distribution, Mode, Probe, Slo
from exporter.core.result import LatencySummary, Measurement
from exporter.core.units import NS

EDGE_REQUESTS = 1
"""The moments at which a rate's requests are due and the edges of the windows do not meet: so many requests less than
were asked for are none too few."""


SAMPLING_Z = 1.645
"""A queue before a server that keeps up is longer at the windows' end than at their start by so many standard
deviations in one of 20 levels: those requests are not lost."""


@dataclass(frozen=True, slots=True)
class Threshold:
    """What the times of a level must keep: their `percentile`, or their mean, is at most `limit_ns`. `error_margin` is
    the part of errors that it leaves, whatever must be reached beside it."""

    limit_ns: int
    percentile: float | None
    error_margin: float = 1.0


def threshold_of(probe: Probe) -> Threshold | None:
    """The probe's threshold; None if it names none."""
    if probe.measurement.latency_threshold_ns:
        return Threshold(probe.measurement.latency_threshold_ns, probe.measurement.stability_percentile)
    return None if probe.slo is None else slo_threshold(probe.slo)


def slo_threshold(slo: Slo) -> Threshold:
    """The slo as a threshold: where its percentile is to be kept, as many may fail as may be late."""
    return Threshold(slo.latency_ns, slo.percentile, 1 - slo.percentile / 100)


def keeps_threshold(probe: Probe, measurement: Measurement) -> bool | None:
    """Whether the level kept the threshold and got what was asked of it; None if the probe has no threshold.

    In an open loop it is the response time that must keep it: a server that can't follow shows there, when the latency
    from the actual send does not.
    """
    threshold = threshold_of(probe)
    if threshold is None:
        return None
    if probe.slo is not None and not probe.measurement.latency_threshold_ns:
        within = meets_slo(probe.slo, measurement)
    else:
        within = is_within(threshold, measurement, judged_times(measurement))
    return within and is_reached(measurement, probe.measurement.min_reached_ratio)


def meets_slo(slo: Slo, measurement: Measurement, times: LatencySummary | None = None) -> bool:
    """Whether the level's `times` (by default those that a threshold is judged by) keep the slo. One with limits on
    tokens is kept where enough requests kept all of it, of those that were due."""
    if not slo.is_of_tokens:
        return is_within(slo_threshold(slo), measurement, times or judged_times(measurement))
    judged = sum(count for outcome, count in measurement.outcomes.items() if outcome is not Outcome.CANCELLED)
    if measurement.slo_good is None or not judged:
        return False
    good_ratio = measurement.slo_good / judged * (1 - measurement.unsent_ratio)
    return good_ratio >= slo.percentile / 100 or math.isclose(good_ratio, slo.percentile / 100)


def judged_times(measurement: Measurement) -> LatencySummary | None:
    """The times that must keep a threshold: latency in a closed loop, response time in an open one."""
    return measurement.response_time if measurement.level.mode.is_open_loop else measurement.latency


def is_within(threshold: Threshold, measurement: Measurement, times: LatencySummary | None) -> bool:
    """Whether these times of the level are within the threshold and its errors leave a margin for that. Not so without
    times, or where the percentile was not measured."""
    error_ratio = measurement.error_ratio
    if times is None or error_ratio is None:
        return False
    space = threshold.error_margin
    if error_ratio > space and not math.isclose(error_ratio, space):
        return False
    if threshold.percentile is None:
        return times.mean_ns <= threshold.limit_ns
    values = {entry.percentile: entry.value_ns for entry in times.percentiles}
    return threshold.percentile in values and values[threshold.percentile] <= threshold.limit_ns


def is_reached(measurement: Measurement, min_reached_ratio: float) -> bool:
    """Whether enough of the requests that were asked for were ok:

    - at a constant rate, rate x time were asked for, whatever became of them;
    - in the other open loops, all that were due: those sent and those that could not be;
    - in a closed loop, all that ended.

    In an open loop as many more may be in flight at the end than at the start as chance explains.
    """
    if not measurement.level.mode.is_open_loop:
        return 1 - (measurement.error_ratio or 0.0) >= min_reached_ratio
    ok, seconds = measurement.outcomes.get(Outcome.OK, 0), measurement.duration_ns / NS
    judged = [window for window in measurement.window_summaries if window.judged]
    by_chance = SAMPLING_Z * queue_of(measurement.level, judged).deviation
    return ok + EDGE_REQUESTS + by_chance >= min_reached_ratio * asked_per_second(measurement) * seconds


def asked_per_second(measurement: Measurement) -> float:
    """The requests a second that an open loop asked for."""
    level = measurement.level
    if level.mode is Mode.REQUEST_RATE and level.distribution is Distribution.CONSTANT:
        return level.value
    return measurement.offered / (1 - min(measurement.unsent_ratio, 1 - 1e-9))
