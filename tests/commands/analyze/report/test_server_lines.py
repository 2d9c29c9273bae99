"""What the report has of the server's own percentiles."""

from __future__ import annotations

from exporter.commands.analyze.report.server_lines import server_percentile_lines
from exporter.core.result import ServerMetrics, ServerPercentile
from tests.metrics.results import make_measurement


def test_histograms_are_of_the_windows_and_summaries_are_shown_as_such() -> None:
    page = ServerMetrics(
        readings=2,
        failed=0,
        up=True,
        gauges={"queue_seconds_p50": 0.001, "queue_seconds_p99.9": 0.25, "response_cache_entries": 3.0},
        percentiles={
            "first_response": (
                ServerPercentile(50.0, 0.0125, 0.01, 0.02),
                ServerPercentile(99.0, None, 5.0, None),
            )
        },
    )
    assert list(server_percentile_lines(make_measurement(server_metrics=page))) == [
        "    First response, by the server's histogram (all clients): p50 12500 usec, p99 above 5000000 usec",
        "    Queue, by the server's summary (its own window, all clients): p50 1000 usec, p99.9 250000 usec",
    ]
    assert list(server_percentile_lines(make_measurement(server_metrics=None))) == []
