"""Reads what releases up to 0.1 wrote of a served version: seven days of sweeps, and a baseline by hour of the day.

The hours of the day become those of each day of the week. The pin is marked as of the old form: it is made again, at
the level that it has, as soon as a week of sweeps is there.
"""

from __future__ import annotations

import math
from array import array
from typing import Any

import numpy as np

from exporter.baseline.baseline import SignalBaseline
from exporter.baseline.calendar import HOURS_OF_DAY
from exporter.baseline.history import SIGNALS, History, Rows
from exporter.baseline.state import Pin, VersionState
from exporter.baseline.verdict import TierState
from exporter.core.probe import Signal

_LOG_STEPS = 10_000


def version_state(content: dict[str, Any]) -> VersionState:
    """The state of a version in a file of format 1. Raises ValueError, KeyError or TypeError where it is none."""
    rows = _rows(content)
    pin = content["pin"]
    return VersionState(
        history=History.of(rows, Rows.empty()),
        components=[
            (_finite(at), {name: _finite(ns) for name, ns in parts.items()}) for at, parts in content["components"]
        ],
        pin=_pin(pin, float(rows.unix_s[0]) if len(rows) else 0.0) if pin is not None else None,
        tiers={
            (Signal(signal), str(tier)): TierState(
                str(sweeps), bool(holds), int(unjudged), _finite(judged), _finite(judged)
            )
            for signal, tier, sweeps, holds, unjudged, judged in content["tiers"]
        },
        against=str(content["against"]),
        seen_unix_s=_finite(content["seen_unix_s"]),
        tried_unix_s=_finite(content["tried_unix_s"]),
        note=str(content["note"]),
    )


def _rows(content: dict[str, Any]) -> Rows:
    signals = [Signal(signal) for signal in content["signals"]]
    kept = content["rows"]
    rows = Rows.empty(len(kept))
    for index, (at, *logs) in enumerate(kept):
        rows.unix_s[index] = _finite(at)
        for signal, log in zip(signals, logs, strict=True):
            if log is not None:
                rows.logs[index, SIGNALS.index(signal)] = _finite(log) / _LOG_STEPS
    if np.any(np.diff(rows.unix_s) < 0):
        raise ValueError("its sweeps are not in order")
    return rows


def _pin(content: dict[str, Any], first_unix_s: float) -> Pin:
    signals = {}
    for name, kept in content["signals"].items():
        hours = [_finite(hour) for hour in kept["hours"]]
        if len(hours) != HOURS_OF_DAY:
            raise ValueError(f"{len(hours)} hours in a day")
        signals[Signal(name)] = SignalBaseline(array("d", hours * 7), _finite(kept["noise"]), int(kept["samples"]))
    pinned_unix_s = _finite(content["pinned_unix_s"])
    return Pin(
        pinned_unix_s,
        bool(content["provisional"]),
        signals,
        {name: _finite(value) for name, value in content["components_ns"].items()},
        min(first_unix_s, pinned_unix_s),
        old_form=not content["provisional"],
    )


def _finite(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{value!r} where a number should be")
    return float(value)
