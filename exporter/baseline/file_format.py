"""The baselines of one probe as text: a line with a checksum, and a line of JSON that it is of.

What does not match its checksum, or its own format, is never read as good. Files of version 1 are read by `file_v1`.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
from array import array
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from exporter.baseline import file_v1
from exporter.baseline.baseline import Modes, SignalBaseline, Usual
from exporter.baseline.calendar import HOURS_OF_WEEK, zone
from exporter.baseline.history import SIGNALS, History, Rows
from exporter.baseline.state import LevelState, LoadState, Pin, ProbeBaselines, VersionState
from exporter.baseline.verdict import TierState
from exporter.core.errors import TritonCanaryError
from exporter.core.probe import Signal

FORMAT_VERSION = 2
_HOUR_DECIMALS = 6
_MOST_LOG = 100.0
"""e^100 nanoseconds is no latency."""


class DamagedBaselineError(TritonCanaryError):
    """The text is not what was written; has what is wrong with it."""


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
        raise DamagedBaselineError("its first line has no version and checksum") from error
    read_version = _READERS.get(version) if isinstance(version, int) else None
    if read_version is None:
        raise DamagedBaselineError(f"it has version {version!r}, not {FORMAT_VERSION}")
    body = rest.removesuffix("\n")
    if _digest(body) != digest:
        raise DamagedBaselineError("its checksum does not match")
    try:
        content = json.loads(body)
        found = str(content["probe"])
        loads = {key: _load(value, read_version) for key, value in content["loads"].items()}
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, OverflowError, RecursionError) as error:
        raise DamagedBaselineError(f"its content is not a baseline's: {error!r}") from error
    if found != probe:
        raise DamagedBaselineError(f"it is of probe {found!r}, not of {probe!r}")
    return ProbeBaselines(loads)


def is_old(text: str) -> bool:
    """Whether a text that `decode` took is of an earlier format."""
    return bool(json.loads(text.partition("\n")[0])["triton_canary_baseline"] != FORMAT_VERSION)


def _digest(body: str) -> str:
    return hashlib.sha256(body.encode()).hexdigest()


# --- content, there --------------------------------------------------------------------------------------------------


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
            [signal, tier, kept.sweeps, kept.holds, kept.unjudged, kept.judged_unix_s, kept.began_unix_s]
            for (signal, tier), kept in state.tiers.items()
        ],
        "older": _rows_content(state.history.older),
        "recent": _rows_content(state.history.recent),
        "tail": state.tail,
        "first_token_tail": state.first_token_tail,
        "lower_unix_s": dict(state.lower_unix_s),
        "components": [[round(at), {name: round(ns) for name, ns in parts.items()}] for at, parts in state.components],
    }


def _rows_content(rows: Rows) -> dict[str, Any]:
    """Arrays as base64, least byte first: text of numbers would be three times as long."""
    return {
        "unix_s": _packed(rows.unix_s, "<f8"),
        "unstable": _packed(rows.unstable, "u1"),
        **{
            signal: _packed(rows.logs[:, index], "<f4")
            for index, signal in enumerate(SIGNALS)
            if not signal.is_of_tokens or not np.isnan(rows.logs[:, index]).all()
        },
    }


def _packed(values: npt.NDArray[Any], form: str) -> str:
    return base64.b64encode(np.ascontiguousarray(values, form).tobytes()).decode()


def _pin_content(pin: Pin) -> dict[str, Any]:
    return {
        "pinned_unix_s": pin.pinned_unix_s,
        "began_unix_s": pin.began_unix_s,
        "provisional": pin.provisional,
        "final": pin.final,
        "old_form": pin.old_form,
        "components_ns": dict(pin.components_ns),
        "signals": {signal: _baseline_content(baseline) for signal, baseline in pin.signals.items()},
    }


def _baseline_content(baseline: SignalBaseline) -> dict[str, Any]:
    modes = baseline.modes
    return {
        "hours": [round(hour, _HOUR_DECIMALS) for hour in baseline.hours],
        "noise": baseline.noise,
        "samples": baseline.samples,
        "timezone": baseline.timezone,
        "usual": {tier: [u.middle, u.spread, u.high, u.highest] for tier, u in baseline.usual.items()},
        "unstable_factor": baseline.unstable_factor,
        "modes": [modes.distance, modes.tolerance, modes.upper_part, modes.longest_s] if modes else None,
    }


# --- and back --------------------------------------------------------------------------------------------------------


def _load(content: dict[str, Any], read_version: Callable[[dict[str, Any]], VersionState]) -> LoadState:
    levels = {
        key: LevelState(
            str(level["accepted"]), {name: read_version(state) for name, state in level["versions"].items()}
        )
        for key, level in content["levels"].items()
    }
    return LoadState(levels, _finite(content["used_unix_s"]))


def _version(content: dict[str, Any]) -> VersionState:
    return VersionState(
        history=History.of(_rows(content["older"]), _rows(content["recent"])),
        components=[
            (_finite(at), {name: _finite(ns) for name, ns in parts.items()}) for at, parts in content["components"]
        ],
        pin=_pin(content["pin"]) if content["pin"] is not None else None,
        tiers={
            (Signal(signal), str(tier)): TierState(
                str(sweeps), bool(holds), int(unjudged), _finite(judged), _finite(began)
            )
            for signal, tier, sweeps, holds, unjudged, judged, began in content["tiers"]
        },
        against=str(content["against"]),
        seen_unix_s=_finite(content["seen_unix_s"]),
        tried_unix_s=_finite(content["tried_unix_s"]),
        note=str(content["note"]),
        tail=_tail(content["tail"]),
        first_token_tail=_tail(content.get("first_token_tail", [])),
        lower_unix_s={Signal(name): _finite(at) for name, at in content["lower_unix_s"].items()},
    )


def _tail(content: list[Any]) -> list[tuple[float, float, int]]:
    return [(_finite(at), _finite(log), int(requests)) for at, log, requests in content]


def _rows(content: dict[str, Any]) -> Rows:
    unix_s = _unpacked(content["unix_s"], "<f8").astype(float)
    rows = Rows(unix_s, np.full((len(unix_s), len(SIGNALS)), np.nan, np.float32), np.zeros(len(unix_s), bool))
    rows.unstable[:] = _unpacked(content["unstable"], "u1") != 0
    for index, signal in enumerate(SIGNALS):
        if signal in content or not signal.is_of_tokens:
            rows.logs[:, index] = _unpacked(content[signal], "<f4")
    if not np.all(np.isfinite(unix_s)) or np.any(np.diff(unix_s) < 0):
        raise ValueError("its sweeps are not in order")
    if np.any(np.abs(rows.logs) > _MOST_LOG):
        raise ValueError("a sweep has an impossible figure")
    return rows


def _unpacked(text: str, form: str) -> npt.NDArray[Any]:
    return np.frombuffer(base64.b64decode(text, validate=True), form)


def _pin(content: dict[str, Any]) -> Pin:
    return Pin(
        _finite(content["pinned_unix_s"]),
        bool(content["provisional"]),
        {Signal(name): _baseline(kept) for name, kept in content["signals"].items()},
        {name: _finite(value) for name, value in content["components_ns"].items()},
        _finite(content["began_unix_s"]),
        bool(content["final"]),
        bool(content["old_form"]),
    )


def _baseline(content: dict[str, Any]) -> SignalBaseline:
    hours = array("d", [_finite(hour) for hour in content["hours"]])
    if len(hours) != HOURS_OF_WEEK:
        raise ValueError(f"{len(hours)} hours in a week")
    timezone = str(content["timezone"])
    try:
        zone(timezone)
    except (LookupError, OSError) as error:
        raise ValueError(f"there is no time zone {timezone!r}") from error
    modes = content["modes"]
    return SignalBaseline(
        hours,
        _finite(content["noise"]),
        int(content["samples"]),
        timezone,
        {str(tier): Usual(*(_finite(value) for value in values)) for tier, values in content["usual"].items()},
        _finite(content["unstable_factor"]),
        Modes(*(_finite(value) for value in modes)) if modes else None,
    )


def _finite(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{value!r} where a number should be")
    return float(value)


_READERS: dict[int, Callable[[dict[str, Any]], VersionState]] = {1: file_v1.version_state, FORMAT_VERSION: _version}
