"""`triton-canary baseline show` as a table: what each level's next sweeps are compared with. Pure."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping
from typing import Any

_HEAD = ("level", "version", "signal", "baseline", "noise", "sweeps", "pinned", "state")
_RIGHT = frozenset({"baseline", "noise", "sweeps"})


def baseline_table(shown: Mapping[str, Any]) -> str:
    """What the daemon reports of a probe's baselines, as lines for people; regressions and notes come last."""
    rows: list[tuple[str, ...]] = []
    notes: list[str] = []
    for label, level in shown["levels"].items():
        for version, state in level["versions"].items():
            rows += _rows(label, level, version, state)
            notes += [f"{label}, version {version}: regressed: {text}" for text in state["regressions"]]
            if state["note"]:
                notes.append(f"{label}, version {version}: {state['note']}")
    if not rows:
        return f"probe {shown['probe']}: no baseline yet; the first sweeps make it"
    head = f"probe {shown['probe']}: what its next sweeps are compared with"
    return "\n".join([head, "", *_lines([_HEAD, *rows]), *([""] if notes else []), *notes])


def _rows(label: str, level: Mapping[str, Any], version: str, state: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    role = "accepted" if version == level["accepted_version"] else ""
    served = "served" if version == level["served_version"] else ""
    words = [word for word in (role, served) if word]
    if state["pinned_unix_s"] is None:
        yield (label, version, "-", "-", "-", str(state["sweeps_remembered"]), "not yet", ", ".join(words))
        return
    words.append("provisional" if state["provisional"] else "final" if state["final"] else "full")
    pinned = dt.datetime.fromtimestamp(state["pinned_unix_s"], dt.UTC).strftime("%Y-%m-%d %H:%M UTC")
    for signal, baseline in state["signals"].items():
        more = [*words, *(["bimodal"] if baseline["bimodal"] else [])]
        if baseline["worse_than_accepted"] and not role:
            more.append(f"{baseline['worse_than_accepted'] - 1:+.1%} worse than the accepted version")
        yield (
            *(label, version, signal.replace("_", " "), _values(signal, baseline["by_hour_of_week"])),
            *(f"{baseline['noise_ratio']:.1%}", str(baseline["sweeps"]), pinned, ", ".join(more)),
        )


def _values(signal: str, values: list[float]) -> str:
    """One value, or the range over the hours of the week."""
    is_rate = signal == "throughput"
    unit, scale = ("/s", 1.0) if is_rate else (" ms", 1000.0)
    low, high = f"{min(values) * scale:.4g}", f"{max(values) * scale:.4g}"
    return f"{low}{unit}" if low == high else f"{low} to {high}{unit} by hour"


def _lines(rows: list[tuple[str, ...]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.rjust(width) if name in _RIGHT else cell.ljust(width)
            for cell, width, name in zip(row, widths, _HEAD, strict=True)
        ).rstrip()
        for row in rows
    ]
