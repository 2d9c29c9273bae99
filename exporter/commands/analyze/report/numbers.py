"""How the report's lines show figures. Pure."""

from __future__ import annotations

from exporter.analysis.averages import microseconds
from exporter.core.result import LatencySummary


def number(value: float) -> str:
    """As a C++ stream prints it: six significant digits."""
    return f"{value:g}"


def percentile_name(percentile: float) -> str:
    """95.0 as "p95"."""
    return f"p{number(percentile)}"


def summary_line(name: str, summary: LatencySummary) -> str:
    """The mean and all percentiles of a sample of durations."""
    figures = [f"avg {microseconds(summary.mean_ns)} usec"]
    figures += [f"{percentile_name(p.percentile)} {microseconds(p.value_ns)} usec" for p in summary.percentiles]
    return f"    {name}: {', '.join(figures)}"
