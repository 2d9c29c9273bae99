"""The terminal report of one run, in perf_analyzer's layout, written to a text stream as the run proceeds."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TextIO

from exporter.commands.analyze.report.lines import (
    ReportOptions,
    level_lines,
    level_rate,
    of_matrix,
    stabilizing_latency_us,
)
from exporter.commands.analyze.report.numbers import number, percentile_name
from exporter.commands.analyze.report.settings_lines import settings_lines
from exporter.core.facts import ModelFacts
from exporter.core.probe import LoadLevel, Mode, Probe
from exporter.core.result import Measurement, SweepResult
from exporter.core.units import MS


class Report:
    """Call `print_settings` once, `level_ended` after each level, `finish` at the end. A stream that can't be written
    raises its own OSError: the report is what was asked for."""

    def __init__(self, stream: TextIO, probe: Probe, options: ReportOptions | None = None) -> None:
        self._stream = stream
        self._probe = probe
        self._options = options or ReportOptions()

    def print_settings(self, facts: ModelFacts | None = None) -> None:
        """The settings block. `facts` where the server has been asked already: they add the model's description."""
        self._print(settings_lines(self._probe, facts, self._options))

    def level_ended(self, measurement: Measurement, facts: ModelFacts | None = None) -> None:
        """The level's block, of unstable levels too: these are flagged. Without `facts` the model is taken for a plain
        one, with no cache and one response a request."""
        self._print(level_lines(self._probe, facts, measurement, self._options))

    def finish(self, result: SweepResult) -> None:
        """The summary of all levels in their order; under verbose also the first connection's times."""
        self._print(self._summary_lines(result))

    def _summary_lines(self, result: SweepResult) -> Iterator[str]:
        if self._options.verbose:
            yield from _connection_lines(result)
        if not result.measurements:
            return
        percentile = self._probe.measurement.stability_percentile
        judged = "Average" if percentile is None else percentile_name(percentile)
        yield f"Inferences/Second vs. Client {judged} Batch Latency"
        for measurement in result.measurements:
            yield _summary_line(measurement, percentile)
        limit_ns = self._probe.measurement.latency_threshold_ns
        if limit_ns:
            best = "no level" if result.best is None else _load(result.best.level)
            yield f"Best within {number(limit_ns / MS)} msec: {best}"

    def _print(self, lines: Iterable[str]) -> None:
        for line in lines:
            self._stream.write(f"{line}\n")
        self._stream.flush()


def _summary_line(measurement: Measurement, percentile: float | None) -> str:
    latency_us = stabilizing_latency_us(measurement, percentile)
    latency = "latency unknown: no request was ok" if latency_us is None else f"latency {latency_us} usec"
    line = f"{_load(measurement.level)}, throughput: {number(measurement.throughput)} infer/sec, {latency}"
    return line if measurement.stable else f"{line} (not stable)"


def _load(level: LoadLevel) -> str:
    return f"{_number(level)}{of_matrix(level)}"


def _number(level: LoadLevel) -> str:
    if level.mode is Mode.CONCURRENCY:
        return f"Concurrency: {number(level.value)}"
    if level.mode is Mode.PERIODIC:
        return f"Periodic concurrency: {level.label}"
    if level.mode is Mode.STREAMS:
        return f"Streams: {number(level.value)}"
    if level.mode is Mode.SESSIONS:
        return f"Session concurrency: {level.label}"
    return f"Request Rate: {number(level_rate(level))}"


def _connection_lines(result: SweepResult) -> Iterator[str]:
    """Part of no latency, so perf_analyzer's users find them nowhere."""
    times = result.connection
    parts = [
        f"{name} {ns // 1000} usec"
        for name, ns in (
            ("connect", times.connect_ns),
            ("TLS handshake", times.tls_ns),
            ("first request", times.cold_first_request_ns),
        )
        if ns is not None
    ]
    if parts:
        yield f"First connection: {', '.join(parts)}"
