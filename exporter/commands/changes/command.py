"""`triton-canary changes`: reads an archive, and prints when its levels changed."""

from __future__ import annotations

import csv
import datetime as dt
import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from exporter.archive.columns import unescape
from exporter.baseline.change_points import LEAST_RATIO, find_changes
from exporter.core.errors import ConfigError
from exporter.core.result import LevelChange
from exporter.core.units import MS

_LEVELS = ".levels.csv"
_LEAST_SWEEPS = 24

csv.field_size_limit(1 << 24)


@dataclass(frozen=True, slots=True)
class ChangesOptions:
    """What to read and to look for: `column` of the archive's levels, changes by at least `least_ratio`, since a moment
    (0: all). `probe` and `level` "" are all."""

    path: Path
    probe: str = ""
    level: str = ""
    column: str = "p50_ns"
    least_ratio: float = LEAST_RATIO
    timezone: str = "UTC"
    since_unix_s: float = 0.0


@dataclass(frozen=True, slots=True)
class LevelChanges:
    """The changes of one level."""

    target: str
    probe: str
    mode: str
    level: str
    sweeps: int
    changes: tuple[LevelChange, ...]


def run_changes(request: ChangesOptions) -> list[LevelChanges]:
    """The changes of each level of the archive that has sweeps enough. Raises ConfigError."""
    series = _read(request)
    if not series:
        raise ConfigError([f"{request.path}: no level with figures matches"])
    found = []
    for (target, probe, mode, level), rows in series.items():
        rows.sort()
        changes: Sequence[LevelChange] = ()
        if len(rows) >= _LEAST_SWEEPS:
            times, values = zip(*rows, strict=True)
            changes = find_changes(times, values, request.least_ratio, request.timezone)
        found.append(LevelChanges(target, probe, mode, level, len(rows), tuple(changes)))
    return found


def as_text(found: Sequence[LevelChanges]) -> str:
    """A line per change, by level."""
    lines = []
    for each in found:
        name = f"{each.target} / {each.probe}, {each.mode.replace('_', ' ')} {each.level} ({each.sweeps} sweeps)"
        few = "too few sweeps" if each.sweeps < _LEAST_SWEEPS else "no change"
        lines.append(f"{name}: {few}" if not each.changes else f"{name}:")
        for change in each.changes:
            at = dt.datetime.fromtimestamp(change.unix_s, dt.UTC).strftime("%Y-%m-%d %H:%M UTC")
            before, after = change.before / MS, change.after / MS
            lines.append(f"  {at}  {change.ratio - 1:+.1%}  {before:.4g} ms -> {after:.4g} ms")
    return "\n".join(lines)


def as_json(found: Sequence[LevelChanges]) -> str:
    """The same for programs; times in seconds since 1970, latencies in seconds."""
    return json.dumps(
        [
            {
                "target": each.target,
                "probe": each.probe,
                "mode": each.mode,
                "level": each.level,
                "sweeps": each.sweeps,
                "changes": [
                    {
                        "unix_s": change.unix_s,
                        "ratio": change.ratio,
                        "before_seconds": change.before / 1e9,
                        "after_seconds": change.after / 1e9,
                    }
                    for change in each.changes
                ],
            }
            for each in found
        ],
        indent=2,
    )


def _read(request: ChangesOptions) -> dict[tuple[str, str, str, str], list[tuple[float, float]]]:
    series: defaultdict[tuple[str, str, str, str], list[tuple[float, float]]] = defaultdict(list)
    for row in _rows(request.path):
        try:
            value = row[request.column]
            key = unescape(row["target"]), unescape(row["probe"]), row["mode"], unescape(row["level"])
            at = dt.datetime.fromisoformat(row["time"]).timestamp()
        except (KeyError, ValueError) as error:
            raise ConfigError([f"{request.path}: not an archive of this program: {error!r}"]) from error
        asked = request.probe in ("", key[1]) and request.level in ("", key[3]) and at >= request.since_unix_s
        if asked and key[3] and value and float(value) > 0:
            series[key].append((at, float(value)))
    return series


def _rows(path: Path) -> Iterator[Mapping[str, str]]:
    files = sorted(path.rglob(f"*{_LEVELS}")) if path.is_dir() else [path]
    if not files:
        raise ConfigError([f"{path}: not an archive: it has no file named *{_LEVELS}"])
    for file in files:
        try:
            with file.open(encoding="utf-8", newline="") as opened:
                yield from (row for row in csv.DictReader(opened) if None not in row.values())
        except OSError as error:
            raise ConfigError([f"{file}: {error.strerror or error}"]) from error
