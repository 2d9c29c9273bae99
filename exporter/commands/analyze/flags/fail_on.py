"""Conditions that a measurement must not meet: `p95>50ms`, `throughput<100/s`, `error_ratio>1%`. Pure."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from exporter.commands.analyze.flags.value_parsers import number
from exporter.config.quantities import checked_percentile, parse_duration, parse_ratio
from exporter.config.text import as_number, shown
from exporter.core.units import MS

if TYPE_CHECKING:
    # numpy comes with the core types, and a parser of flags does without it.
    from exporter.core.result import Measurement

_FORM = re.compile(r"\s*(?P<metric>[a-z_]+|p\d{1,2}(\.\d{1,6})?)\s*(?P<sign>[<>]=?)\s*(?P<value>\S.*?)\s*", re.ASCII)
_EXAMPLES = "'p95>50ms', 'mean>=10ms', 'max>1s', 'throughput<100/s' or 'error_ratio>1%'"
_SIGNS: dict[str, Callable[[float, float], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_RATE = re.compile(r"(\d{1,12}(?:\.\d{1,6})?) ?/s", re.ASCII)


@dataclass(frozen=True, slots=True)
class Condition:
    """One condition. `metric` is mean, max, throughput (inferences a second), error_ratio, or latency, which has a
    `percentile`; `limit` is in nanoseconds for latencies. In an open loop these are judged by response time, as a
    threshold is: a server that can't follow shows there."""

    text: str
    metric: str
    percentile: float | None
    sign: str
    limit: float

    def finding(self, measurement: Measurement) -> str | None:
        """What is wrong with a level, in words; None if the condition is not met. A level without a figure meets it:
        who asks for a figure is not content with none."""
        value = self._value(measurement)
        if value is None:
            return f"{self.text}: level {measurement.level.label} has no such figure, since no request was ok"
        if not _SIGNS[self.sign](value, self.limit):
            return None
        return f"{self.text}: level {measurement.level.label} has {self._shown(value, measurement)}"

    def _value(self, measurement: Measurement) -> float | None:
        if self.metric == "throughput":
            return measurement.throughput
        if self.metric == "error_ratio":
            return measurement.error_ratio
        if measurement.latency is None:
            return None
        times = measurement.response_time or measurement.latency
        if self.percentile is not None:
            return times.at(self.percentile)
        return times.mean_ns if self.metric == "mean" else times.max_ns

    def _shown(self, value: float, measurement: Measurement) -> str:
        if self.metric == "throughput":
            return f"{value:.6g}/s"
        if self.metric == "error_ratio":
            return f"{100 * value:.3g}%"
        return f"{value / MS:.6g}ms{' (response time)' if measurement.response_time else ''}"


def parse_condition(given: str) -> Condition:
    """Reads `metric`, a comparison, and a value with its unit. Raises ValueError with what is allowed."""
    match = _FORM.fullmatch(given)
    metric = match["metric"] if match else ""
    if match is None or not (metric in ("mean", "max", "throughput", "error_ratio") or metric[1:2].isdigit()):
        raise ValueError(f"found {shown(given)}: must be a figure, a comparison and a value, as {_EXAMPLES}")
    try:
        limit = _limit(metric, match["value"])
        percentile = _percentile(metric)
    except ValueError as error:
        raise ValueError(f"found {shown(given)}: {error}") from None
    name = "latency" if percentile is not None else metric
    return Condition(given.strip(), name, percentile, match["sign"], limit)


def _percentile(metric: str) -> float | None:
    if not metric[1:2].isdigit():
        return None
    percentile = float(metric[1:])
    if percentile <= 0:
        raise ValueError(f"p{as_number(percentile)} is not a percentile; it must be between 0 and 100")
    try:
        return checked_percentile(percentile)
    except ValueError as error:
        raise ValueError(f"p{as_number(percentile)} {error}") from None


def _limit(metric: str, value: str) -> float:
    if metric == "error_ratio":
        return parse_ratio(value if value.endswith("%") else number(value))
    if metric != "throughput":
        return parse_duration(value)
    rate = _RATE.fullmatch(value)
    if rate is None:
        raise ValueError("a throughput is inferences a second, as 100/s")
    return float(rate[1])
