"""The page of one sweep on demand: as blackbox_exporter's, with the figures of the one level."""

from __future__ import annotations

from prometheus_client.core import GaugeMetricFamily

from exporter.core.result import SweepResult
from exporter.core.units import NS
from exporter.metrics import families as f
from exporter.metrics.exposition import Format, header
from exporter.metrics.samples import ProbeExtras, level_blocks, state_blocks
from exporter.state.probe_state import Board

CONTENT_TYPE = Format.TEXT.content_type
_WARNING = "This page causes load each time that it is read: a sweep on its target."


def on_demand_page(result: SweepResult, limit_seconds: float) -> str:
    """The page in the text format. Gauges alone: a counter that begins anew with each page would say nothing."""
    board = Board(None)
    board.configure([result.probe])
    board.sweep_ended(result)
    (view,) = board.probes()
    blocks = {**level_blocks(view)}
    blocks[f.PROBE_INFO] = state_blocks(view, ProbeExtras(None, None, results_dropped=False))[f.PROBE_INFO]
    parts = [
        header(family, Format.TEXT) + blocks[family]
        for family in f.PAGE_ORDER
        if family in blocks and family.kind == "gauge"
    ]
    return Format.TEXT.encode(_probe_metrics(result, limit_seconds)) + "".join(parts)


def _probe_metrics(result: SweepResult, limit_seconds: float) -> list[GaugeMetricFamily]:
    return [
        GaugeMetricFamily("probe_success", f"1 if the sweep got usable data, else 0. {_WARNING}", value=result.usable),
        GaugeMetricFamily("probe_duration_seconds", "How long the sweep took.", value=result.duration_ns / NS),
        GaugeMetricFamily("probe_timeout_seconds", "How long it might have taken.", value=limit_seconds),
    ]
