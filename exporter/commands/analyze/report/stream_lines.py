"""The report's lines of streams at the pace of real time; perf_analyzer has none of them. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from exporter.commands.analyze.report.numbers import number, summary_line
from exporter.core.result import Measurement


def stream_lines(measurement: Measurement, *, verbose: bool) -> Iterator[str]:
    """The figures of a level of streams."""
    streams = measurement.streams
    if streams is None:
        return
    for name, summary in {
        # Under verbose it is a line of every open loop.
        "Step response time, from its deadline": None if verbose else measurement.response_time,
        "Final latency, from the last deadline": streams.final_latency,
        "Sent after the deadline": measurement.send_lag if verbose else None,
    }.items():
        if summary is not None:
            yield summary_line(name, summary)
    if streams.real_time_factor is not None:
        yield f"    Real-time factor: {streams.real_time_factor:.3g}"
    if streams.late_ratio is not None:
        yield f"    Late steps: {streams.late} of {streams.steps} ({number(streams.late_ratio * 100)}%)"
    if streams.on_time_ratio is not None:
        share = number(streams.on_time_ratio * 100)
        yield f"    Streams that kept real time: {streams.on_time} of {streams.streams} ({share}%)"
