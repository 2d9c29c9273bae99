"""The archive's cells of the server's side. What has many figures by name is one cell of JSON. Pure."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from exporter.archive.columns import Cell, percentile_text
from exporter.core.facts import ModelStatistics
from exporter.core.result import GpuFigures, Measurement, ServerMetrics, ServerPercentile


def server_side_cells(measurement: Measurement) -> dict[str, Cell]:
    """By column; what is not known is an empty cell."""
    page = measurement.server_metrics
    return {
        "server_note": measurement.server_note,
        "composing": _json({f"{part.name}:{part.version}": _part(part) for part in measurement.composing}),
        "server_metrics": _json(_page(page)) if page else "",
        "gpu": _json({f"{gpu.source.value}:{gpu.uuid}": _gpu(gpu) for gpu in measurement.gpu}),
        "energy_per_inference_joules": measurement.energy_per_inference_joules,
    }


def _part(part: ModelStatistics) -> dict[str, Any]:
    return {
        "requests": part.success.count,
        "failed": part.fail.count if part.fail else None,
        "executions": part.execution_count,
        "request_ns": part.success.ns,
        "queue_ns": part.queue.ns,
        "compute_input_ns": part.compute_input.ns,
        "compute_infer_ns": part.compute_infer.ns,
        "compute_output_ns": part.compute_output.ns,
    }


def _page(page: ServerMetrics) -> dict[str, Any]:
    percentiles = {
        part: {f"p{percentile_text(each.percentile)}": _percentile(each) for each in values}
        for part, values in page.percentiles.items()
    }
    return {field.name: getattr(page, field.name) for field in fields(page)} | {"percentiles": percentiles}


def _percentile(value: ServerPercentile) -> dict[str, Any]:
    return {name: getattr(value, name) for name in ("seconds", "low_seconds", "high_seconds")}


def _gpu(gpu: GpuFigures) -> dict[str, Any]:
    return {field.name: getattr(gpu, field.name) for field in fields(gpu) if field.name not in ("uuid", "source")}


def _json(figures: Mapping[str, Any]) -> str:
    """Compact, without what is not known; "" if nothing is."""
    known = _known(figures)
    return json.dumps(known, separators=(",", ":")) if known else ""


def _known(value: Any) -> Any:
    if isinstance(value, Mapping):
        inner = {key: _known(each) for key, each in value.items()}
        return {key: each for key, each in inner.items() if each not in (None, "", {})}
    return None if isinstance(value, float) and not math.isfinite(value) else value
