"""The baselines of one probe as text: a line with a checksum, and a line of JSON that it is of.

What does not match its checksum, or its own format, is never read as good.
"""

from __future__ import annotations

import hashlib
import json
import math
from typing import Any

from exporter.baseline.baseline import HOURS, SignalBaseline
from exporter.baseline.state import LevelState, LoadState, Pin, ProbeBaselines, Row, VersionState
from exporter.baseline.verdict import TierState
from exporter.core.errors import TritonCanaryError
from exporter.core.probe import Signal

FORMAT_VERSION = 1
_LOG_STEPS = 10_000
"""Logarithms of sweeps are kept as whole numbers of a hundredth of a percent."""


class DamagedBaselineError(TritonCanaryError):
    """The text is not what was written; says what is wrong with it."""


def encode(probe: str, baselines: ProbeBaselines) -> str:
    """The text of a probe's baselines."""
    loads = {
        key: {
            "used_unix_s": load.used_unix_s,
            "levels": {name: _level_content(level) for name, level in load.levels.items()},
        }
        for key, load in baselines.loads.items()
    }
    body = json.dumps({"probe": probe, "loads": loads}, separators=(",", ":"), allow_nan=False)
    return json.dumps({"triton_canary_baseline": FORMAT_VERSION, "sha256": _digest(body)}) + f"\n{body}\n"


def decode(text: str, probe: str) -> ProbeBaselines:
    """The baselines in a text. Raises DamagedBaselineError where it is damaged, or is of another probe."""
    head, _, rest = text.partition("\n")
    try:
        header = json.loads(head)
        version, digest = header["triton_canary_baseline"], header["sha256"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise DamagedBaselineError("it has no first line with a version and a checksum") from error
    if version != FORMAT_VERSION:
        raise DamagedBaselineError(f"it has version {version!r}, not {FORMAT_VERSION}")
    body = rest.removesuffix("\n")
    if _digest(body) != digest:
        raise DamagedBaselineError("its checksum does not match")
    try:
        content = json.loads(body)
        found = str(content["probe"])
        loads = {key: _load(value) for key, value in content["loads"].items()}
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, OverflowError, RecursionError) as error:
        raise DamagedBaselineError(f"its content is not a baseline's: {error!r}") from error
    if found != probe:
        raise DamagedBaselineError(f"it is of probe {found!r}, not of {probe!r}")
    return ProbeBaselines(loads)


def _digest(body: str) -> str:
    return hashlib.sha256(body.encode()).hexdigest()


# --- content, there and back -----------------------------------------------------------------------------------------


def _level_content(level: LevelState) -> dict[str, Any]:
    return {
        "accepted": level.accepted,
        "versions": {name: _version_content(state) for name, state in level.versions.items()},
    }


def _version_content(state: VersionState) -> dict[str, Any]:
    return {
        "seen_unix_s": state.seen_unix_s,
        "tried_unix_s": state.tried_unix_s,
        "against": state.against,
        "note": state.note,
        "pin": _pin_content(state.pin) if state.pin else None,
        "tiers": [
            [signal, tier, kept.sweeps, kept.holds, kept.unjudged, kept.judged_unix_s]
            for (signal, tier), kept in state.tiers.items()
        ],
        "signals": list(Signal),
        "rows": [[round(row.unix_s), *(_steps(row.logs.get(signal)) for signal in Signal)] for row in state.rows],
        "components": [[round(at), {name: round(ns) for name, ns in parts.items()}] for at, parts in state.components],
    }


def _pin_content(pin: Pin) -> dict[str, Any]:
    return {
        "pinned_unix_s": pin.pinned_unix_s,
        "provisional": pin.provisional,
        "components_ns": dict(pin.components_ns),
        "signals": {
            signal: {"hours": baseline.hours, "noise": baseline.noise, "samples": baseline.samples}
            for signal, baseline in pin.signals.items()
        },
    }


def _steps(log: float | None) -> int | None:
    return None if log is None else round(log * _LOG_STEPS)


def _load(content: dict[str, Any]) -> LoadState:
    levels = {
        key: LevelState(str(level["accepted"]), {name: _version(state) for name, state in level["versions"].items()})
        for key, level in content["levels"].items()
    }
    return LoadState(levels, _finite(content["used_unix_s"]))


def _version(content: dict[str, Any]) -> VersionState:
    signals = [Signal(signal) for signal in content["signals"]]
    return VersionState(
        rows=[
            Row(_finite(at), {s: log / _LOG_STEPS for s, log in zip(signals, logs, strict=True) if log is not None})
            for at, *logs in content["rows"]
        ],
        components=[
            (_finite(at), {name: _finite(ns) for name, ns in parts.items()}) for at, parts in content["components"]
        ],
        pin=_pin(content["pin"]) if content["pin"] is not None else None,
        tiers={
            (Signal(signal), str(tier)): TierState(str(sweeps), bool(holds), int(unjudged), _finite(judged))
            for signal, tier, sweeps, holds, unjudged, judged in content["tiers"]
        },
        against=str(content["against"]),
        seen_unix_s=_finite(content["seen_unix_s"]),
        tried_unix_s=_finite(content["tried_unix_s"]),
        note=str(content["note"]),
    )


def _pin(content: dict[str, Any]) -> Pin:
    signals = {}
    for name, kept in content["signals"].items():
        hours = tuple(_finite(hour) for hour in kept["hours"])
        if len(hours) != HOURS:
            raise ValueError(f"{len(hours)} hours in a day")
        signals[Signal(name)] = SignalBaseline(hours, _finite(kept["noise"]), int(kept["samples"]))
    components_ns = _finite_values(content["components_ns"])
    return Pin(_finite(content["pinned_unix_s"]), bool(content["provisional"]), signals, components_ns)


def _finite_values(content: dict[str, Any]) -> dict[str, float]:
    return {name: _finite(value) for name, value in content.items()}


def _finite(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{value!r} where a number should be")
    return float(value)
