"""The history's files of 0.2: one JSON line per kept sweep. They are read for a day after an upgrade, never written.

Pure: bytes in, points out.
"""

from __future__ import annotations

import json
import math

from exporter.state.day_ring import FIGURES, MAX_LEVELS, Conclusion, LevelPoint, SweepPoint
from exporter.state.state_file import ProbeKey

_FORMAT_VERSION = 1


def decode(line: bytes) -> tuple[ProbeKey, SweepPoint] | None:
    """The sweep of a line; None for a line that can't be read."""
    try:
        version, key, started, duration, conclusion, reason, text, requests, bad, levels = json.loads(line)
        if version != _FORMAT_VERSION:
            return None
        point = SweepPoint(
            started_unix_s=_finite(started),
            duration_s=_finite(duration),
            conclusion=Conclusion(conclusion),
            reason=str(reason),
            text=str(text),
            slo_requests=_count(requests),
            slo_bad=_count(bad),
            levels=tuple(_decode_level(*level) for level in levels[:MAX_LEVELS]),
        )
        return ProbeKey(*map(str, key)), point
    except (ValueError, TypeError, OverflowError, RecursionError):
        return None


def _decode_level(level: object, *figures: float | None) -> LevelPoint:
    known = [figure for figure in figures if figure is not None]
    if len(figures) != len(FIGURES) or not all(map(math.isfinite, known)):
        raise ValueError("not the figures of a level")
    if len(known) == len(figures):
        return LevelPoint(str(level), *known)
    return LevelPoint(str(level), *(math.nan if figure is None else figure for figure in figures))


def _finite(value: float) -> float:
    if not math.isfinite(value):
        raise ValueError("no number")
    return float(value)


def _count(value: int) -> int:
    if not 0 <= value < 1 << 62:
        raise ValueError("no count")
    return int(value)
