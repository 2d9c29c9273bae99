"""The archive's cell of a level's figures in tokens: one of JSON, since other levels have none. Pure."""

from __future__ import annotations

import json
from dataclasses import fields
from typing import Any

from exporter.archive.columns import Cell, percentile_text
from exporter.core.result import LatencySummary, Measurement


def token_cells(measurement: Measurement) -> dict[str, Cell]:
    """By column; empty where the target takes no prompts, or the level is none of the slo's."""
    tokens = measurement.tokens
    found = {field.name: _plain(getattr(tokens, field.name)) for field in fields(tokens)} if tokens else {}
    known = {name: value for name, value in found.items() if value is not None}
    return {
        "tokens": json.dumps(known, separators=(",", ":")) if known else "",
        "goodput_requests_per_second": measurement.goodput,
    }


def _plain(value: Any) -> Any:
    if not isinstance(value, LatencySummary):
        return value
    return {
        "count": value.count,
        "mean_ns": float(value.mean_ns),
        "stddev_ns": float(value.stddev_ns),
        "min_ns": value.min_ns,
        "max_ns": value.max_ns,
        **{f"p{percentile_text(entry.percentile)}_ns": int(entry.value_ns) for entry in value.percentiles},
    }
