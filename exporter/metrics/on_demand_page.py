"""The page of one sweep on demand: as blackbox_exporter's, with the figures of the one level."""

from __future__ import annotations

from exporter.core.result import SweepResult
from exporter.core.units import NS
from exporter.metrics import families as f
from exporter.metrics.exposition import Format, header, number
from exporter.metrics.family import FamilyTable
from exporter.metrics.samples import ProbeExtras, level_blocks, state_blocks
from exporter.state.probe_state import Board

CONTENT_TYPE = Format.TEXT.content_type

_table = FamilyTable("")  # the names are blackbox_exporter's
SUCCESS = _table.family(
    "gauge",
    "probe_success",
    "1 if the sweep got usable data, else 0. Each read of this page causes load: a sweep on its target.",
)
DURATION = _table.family("gauge", "probe_duration_seconds", "Duration of the sweep.")
TIMEOUT = _table.family("gauge", "probe_timeout_seconds", "Time limit of the sweep.")


def on_demand_page(result: SweepResult, limit_seconds: float) -> str:
    """The page in the text format. Gauges alone: a counter that restarts with each page would mean
    nothing."""
    board = Board(None)
    board.configure([result.probe])
    board.sweep_ended(result)
    (view,) = board.probes()
    own = {SUCCESS: float(result.usable), DURATION: result.duration_ns / NS, TIMEOUT: limit_seconds}
    blocks = {family: f"{family.name} {number(value)}\n" for family, value in own.items()} | level_blocks(view)
    blocks[f.PROBE_INFO] = state_blocks(view, ProbeExtras(None, None, results_dropped=False))[f.PROBE_INFO]
    families = (*_table.families, *(family for family in f.PAGE_ORDER if family.kind == "gauge"))
    return "".join(header(family, Format.TEXT) + blocks[family] for family in families if family in blocks)
