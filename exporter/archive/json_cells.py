"""Figures that few levels have, as one cell of JSON each. Pure."""

from __future__ import annotations

import json
from dataclasses import fields
from typing import Any

from exporter.archive.columns import percentile_text
from exporter.core.result import LatencySummary, StreamFigures, TokenFigures


def json_cell(figures: TokenFigures | StreamFigures | None) -> str:
    """The fields that are known, by name; "" where there is none."""
    found = {field.name: _plain(getattr(figures, field.name)) for field in fields(figures)} if figures else {}
    known = {name: value for name, value in found.items() if value is not None}
    return json.dumps(known, separators=(",", ":")) if known else ""


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
