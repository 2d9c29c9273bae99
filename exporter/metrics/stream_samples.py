"""From the view of a probe to its samples of streams, converted to base units. Pure."""

from __future__ import annotations

from exporter.core.result import Measurement
from exporter.metrics import stream_families as f
from exporter.metrics.exposition import Lines, add_percentiles


def add_streams(lines: Lines, level_labels: str, measurement: Measurement) -> None:
    """The figures of one level."""
    streams = measurement.streams
    if streams is None:
        return
    add_percentiles(lines, f.FINAL_LATENCY, level_labels, streams.final_latency)
    for family, value in (
        (f.REAL_TIME_FACTOR, streams.real_time_factor),
        (f.LATE_RATIO, streams.late_ratio),
        (f.ON_TIME_RATIO, streams.on_time_ratio),
    ):
        if value is not None:
            lines.add(family, level_labels, value)
