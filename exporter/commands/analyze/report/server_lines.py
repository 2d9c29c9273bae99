"""The report's lines of percentiles that the server itself has; perf_analyzer has none of them. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator

from exporter.analysis.averages import microseconds
from exporter.commands.analyze.report.numbers import percentile_name
from exporter.core.result import Measurement, ServerPercentile
from exporter.core.units import NS

_SUMMARY = re.compile(r"(\w+)_seconds_(p[0-9.]+)")


def server_percentile_lines(measurement: Measurement) -> Iterator[str]:
    """By its histograms, over the windows; and by its summaries, as they are."""
    page = measurement.server_metrics
    if page is None:
        return
    for component, values in page.percentiles.items():
        shown = ", ".join(_percentile(each) for each in values)
        yield f"    {_words(component)}, by the server's histogram (all clients): {shown}"
    summaries: dict[str, list[str]] = {}
    for name, seconds in page.gauges.items():
        if (matched := _SUMMARY.fullmatch(name)) is not None:
            summaries.setdefault(matched[1], []).append(f"{matched[2]} {microseconds(seconds * NS)} usec")
    for component, texts in summaries.items():
        yield f"    {_words(component)}, by the server's summary (its own window, all clients): {', '.join(texts)}"


def _words(component: str) -> str:
    return component.replace("_", " ").capitalize()


def _percentile(each: ServerPercentile) -> str:
    name = percentile_name(each.percentile)
    if each.seconds is None:
        return f"{name} above {microseconds(each.low_seconds * NS)} usec"
    return f"{name} {microseconds(each.seconds * NS)} usec"
