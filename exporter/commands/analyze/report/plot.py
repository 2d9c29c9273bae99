"""Latency against throughput as a picture: one line per percentile, the knee and the threshold marked. For open
loops it shows the response time, from the moment a request was due: there the latency alone hides a growing queue.

Needs the optional extra `plot` (matplotlib, which draws without a display).
"""

from __future__ import annotations

import itertools
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from exporter.commands.analyze.report.numbers import number, percentile_name
from exporter.core.errors import ConfigError
from exporter.core.probe import Mode
from exporter.core.result import LatencySummary, Measurement, SweepResult
from exporter.core.units import MS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_TITLE_WIDTH = 60
_MODE_NAMES = {
    Mode.CONCURRENCY: "concurrency, requests in flight",
    Mode.REQUEST_RATE: "request rate asked for, requests per second",
    Mode.PERIODIC: "periodic concurrency",
    Mode.STREAMS: "streams at once",
    Mode.SESSIONS: "sessions at once",
}

SUFFIXES = (".png", ".svg", ".pdf")
"""File names that mean a picture."""
MIN_KNEE_POINTS = 3
"""Two points are a line: it has no knee."""


def require_plotting() -> None:
    """Raises ConfigError, naming the fix, if nothing can be drawn: before a run, not after it."""
    try:
        import matplotlib  # noqa: F401 - only whether it is there
    except ImportError as error:
        raise ConfigError(
            ["a plot needs matplotlib, which is not installed: pip install 'triton-canary[plot]'"]
        ) from error


def write_plot(path: Path, result: SweepResult) -> bool:
    """Draws the levels into the file, whose ending sets the format. False, with nothing written, if no level had an ok
    request. Raises ConfigError without matplotlib, OSError if the file can't be written."""
    require_plotting()
    if not _drawn(result):
        return False
    draw(result).savefig(path, dpi=120)
    return True


def draw(result: SweepResult) -> Figure:
    """The picture of a result with at least one level that had an ok request."""
    from matplotlib.figure import Figure

    measurements = _drawn(result)
    figure = Figure(figsize=(9, 6), layout="constrained")
    axes = figure.add_subplot()
    for percentile in sorted({p.percentile for _, latency in measurements for p in latency.percentiles}):
        _draw_percentile(axes, measurements, percentile)
    _mark_levels(axes, measurements)
    _mark_knee(axes, result, measurements)
    threshold_ns = result.probe.measurement.latency_threshold_ns
    if threshold_ns:
        axes.axhline(
            threshold_ns / MS, color="tab:red", linestyle="--", label=f"threshold {number(threshold_ns / MS)} ms"
        )
    is_open = any(measurement.level.mode.is_open_loop for measurement, _ in measurements)
    axes.set_xlabel(f"throughput, inferences per second\n{_explanation(measurements)}")
    axes.set_ylabel("response time from the moment due, milliseconds" if is_open else "latency, milliseconds")
    axes.margins(x=0.08, y=0.12)  # space for the labels of the outermost points
    axes.set_xlim(left=0)
    axes.set_ylim(bottom=0)
    title = textwrap.fill(f"{result.probe.model} at {result.probe.target.url}", _TITLE_WIDTH)
    figure.suptitle(title, fontsize="medium")
    axes.grid(alpha=0.3)
    figure.legend(loc="outside right center")
    return figure


def _draw_percentile(axes: Axes, measurements: list[tuple[Measurement, LatencySummary]], percentile: float) -> None:
    """One line per batch size and shape, all in one colour."""
    color, label = None, percentile_name(percentile)
    for _, levels in itertools.groupby(measurements, lambda each: _request_size(each[0])):
        points = [
            (measurement.throughput, entry.value_ns / MS)
            for measurement, latency in levels
            for entry in latency.percentiles
            if entry.percentile == percentile
        ]
        if points:
            (line,) = axes.plot(*zip(*points, strict=True), marker="o", markersize=4, color=color, label=label)
            color, label = line.get_color(), "_"  # which the legend leaves out


def _request_size(measurement: Measurement) -> str:
    """What a matrix of levels varies beside the load, by the label: `b4` of `8@b4`."""
    return measurement.level.label.partition("@")[2]


def _explanation(measurements: list[tuple[Measurement, LatencySummary]]) -> str:
    """What the numbers at the points are."""
    name = _MODE_NAMES.get(measurements[0][0].level.mode, "load level")
    is_matrix = any(_request_size(measurement) for measurement, _ in measurements)
    sizes = "; after @ the batch size (b) or shape" if is_matrix else ""
    unstable = any(not measurement.stable for measurement, _ in measurements)
    return f"numbers at the points: {name}{sizes}{'; ? marks a level that was not stable' if unstable else ''}"


def _drawn(result: SweepResult) -> list[tuple[Measurement, LatencySummary]]:
    """The levels in the order of their load, whatever order a search took; of a matrix, one request size after the
    other."""
    sizes = list(dict.fromkeys(map(_request_size, result.measurements)))
    ordered = sorted(result.measurements, key=lambda each: (sizes.index(_request_size(each)), each.level.value))
    return [(measurement, times) for measurement in ordered if (times := _times(measurement)) is not None]


def _times(measurement: Measurement) -> LatencySummary | None:
    if measurement.latency is not None and measurement.level.mode.is_open_loop:
        return measurement.response_time or measurement.latency
    return measurement.latency


def _mark_levels(axes: Axes, measurements: list[tuple[Measurement, LatencySummary]]) -> None:
    """Each level's load above its highest point; a question mark where it was not stable. The text has a border, since
    lines can cross it."""
    from matplotlib.patheffects import withStroke

    for measurement, latency in measurements:
        highest_ns = max(entry.value_ns for entry in latency.percentiles)
        text = measurement.level.label if measurement.stable else f"{measurement.level.label}?"
        axes.annotate(
            text,
            (measurement.throughput, highest_ns / MS),
            textcoords="offset points",
            xytext=(0, 6),
            ha="center",
            fontsize="small",
            path_effects=[withStroke(linewidth=3, foreground="white")],
        )


def _mark_knee(axes: Axes, result: SweepResult, measurements: list[tuple[Measurement, LatencySummary]]) -> None:
    if len({_request_size(measurement) for measurement, _ in measurements}) > 1:
        return  # each request size has a knee of its own
    percentile = result.probe.measurement.stability_percentile
    latencies = [latency.mean_ns if percentile is None else latency.at(percentile) for _, latency in measurements]
    found = knee([measurement.throughput for measurement, _ in measurements], latencies)
    if found is not None:
        measurement = measurements[found][0]
        axes.axvline(
            measurement.throughput, color="gray", linestyle=":", label=f"knee, at load {measurement.level.label}"
        )


def knee(throughputs: Sequence[float], latencies_ns: Sequence[float]) -> int | None:
    """The knee of a load curve: beyond it, more load buys latency rather than throughput.

    The index of the level with the greatest power, throughput over latency (Kleinrock, ICC 1979); the first of
    equals. None for fewer than three levels, or where the greatest is at either end: then the knee was not visited."""
    if len(throughputs) < MIN_KNEE_POINTS:
        return None
    powers = [throughput / latency for throughput, latency in zip(throughputs, latencies_ns, strict=True)]
    found = powers.index(max(powers))
    return found if 0 < found < len(powers) - 1 else None
