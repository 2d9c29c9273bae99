"""Reads what `compare` compares: results (`--json`) and the CSV archive, files or whole folders."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from exporter.archive.columns import PERCENTILES, percentile_text, unescape
from exporter.commands.compare.comparison import Figures, LevelSample, reported
from exporter.core.errors import ConfigError
from exporter.core.result import SCHEMA, SCHEMA_VERSION
from exporter.core.units import NS

_LEVELS, _WINDOWS = ".levels.csv", ".windows.csv"

csv.field_size_limit(1 << 24)


@dataclass(frozen=True, slots=True)
class StoredLevel:
    """One measured level with what it is selected by. Its sample's subject is still empty."""

    target: str
    probe: str
    model: str
    model_config_hash: str
    probe_config_hash: str
    started_unix_s: float
    sample: LevelSample


def read_source(path: Path) -> list[StoredLevel]:
    """The measured levels in a result, an archive's file, or a folder of archive files, in the order of their time.
    Raises ConfigError, naming the file, for what is none of these."""
    try:
        if path.is_dir():
            files = sorted(path.rglob(f"*{_LEVELS}"))
            if not files:
                raise ConfigError([f"{path}: not an archive: it has no file named *{_LEVELS}"])
            levels = [level for file in files for level in _read_archive(file)]
        elif path.name.endswith((_LEVELS, _WINDOWS)):
            levels = _read_archive(path.with_name(path.name.removesuffix(_LEVELS).removesuffix(_WINDOWS) + _LEVELS))
        elif path.suffix == ".csv":
            raise ConfigError([f"{path}: a report's CSV file holds no windows; give the run's --json file instead"])
        else:
            levels = _read_result(path)
    except OSError as error:
        raise ConfigError([f"{error.filename or path}: {error.strerror or error}"]) from error
    return sorted(levels, key=lambda level: level.started_unix_s)


# --- the archive ------------------------------------------------------------------------------------------------------


def _read_archive(path: Path) -> list[StoredLevel]:
    windows: dict[tuple[str, ...], list[Figures]] = {}
    windows_path = path.with_name(path.name.removesuffix(_LEVELS) + _WINDOWS)
    if windows_path.exists():
        for row in _rows(windows_path):
            if row["judged"] == "1":
                windows.setdefault(_level_key(row), []).append(_figures(row, "throughput_per_second"))
    try:
        return [_stored_level(row, windows) for row in _rows(path) if row["level"]]
    except (KeyError, ValueError) as error:
        raise ConfigError([f"{path}: not an archive of this program: {error!r}"]) from error


def _rows(path: Path) -> Iterator[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            # A row that is being written, or was torn by a crash, has not all of its cells.
            if None not in row.values():
                yield row


def _level_key(row: Mapping[str, str]) -> tuple[str, ...]:
    return row["sweep_id"], row["mode"], row["level"]


def _stored_level(row: Mapping[str, str], windows: Mapping[tuple[str, ...], list[Figures]]) -> StoredLevel:
    return StoredLevel(
        target=unescape(row["target"]),
        probe=unescape(row["probe"]),
        model=unescape(row["model"]),
        model_config_hash=row["model_config_hash"],
        probe_config_hash=row["probe_config_hash"],
        started_unix_s=datetime.fromisoformat(row["time"]).timestamp(),
        sample=LevelSample(
            subject="",
            mode=row["mode"],
            label=unescape(row["level"]),
            stable=row["stable"] == "1",
            figures=_reported(_figures(row, "Inferences/Second"), int(row["request_count"] or 0)),
            windows=tuple(windows.get(_level_key(row), ())),
        ),
    )


def _figures(row: Mapping[str, str], throughput: str) -> Figures:
    percentiles = {p: float(cell) for p in PERCENTILES if (cell := row[f"p{percentile_text(p)}_ns"])}
    if row["percentiles"]:
        others = json.loads(row["percentiles"]).get("latency", {})
        percentiles |= {float(p): float(entry["value_ns"]) for p, entry in others.items()}
    return Figures(float(row[throughput] or 0), percentiles)


def _reported(figures: Figures, requests: int) -> Figures:
    return reported(figures.throughput, figures.percentiles_ns, requests)


# --- results ----------------------------------------------------------------------------------------------------------


def _read_result(path: Path) -> list[StoredLevel]:
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(result, dict) or result.get("schema") != SCHEMA:
            raise ConfigError([f"{path}: neither a result (--json) of this program nor an archive's file"])
        if result["schema_version"] != SCHEMA_VERSION:
            raise ConfigError(
                [f"{path}: schema version {result['schema_version']}, this program reads {SCHEMA_VERSION}"]
            )
        return [_result_level(result, each) for each in result["measurements"]]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ConfigError([f"{path}: not a result (--json) of this program: {error!r}"]) from error


def _result_level(result: Mapping[str, Any], measurement: Mapping[str, Any]) -> StoredLevel:
    probe, level = result["probe"], measurement["level"]
    return StoredLevel(
        target=probe["target"]["name"],
        probe=probe["name"],
        model=probe["model"],
        model_config_hash=(result["facts"] or {}).get("config_hash", ""),
        probe_config_hash=probe["config_hash"],
        started_unix_s=result["started_unix_seconds"],
        sample=LevelSample(
            subject="",
            mode=level["mode"],
            label=level["label"],
            stable=measurement["stable"],
            figures=_reported(_result_figures(measurement), (measurement["latency"] or {"count": 0})["count"]),
            windows=tuple(_result_figures(each) for each in measurement["window_summaries"] if each["judged"]),
        ),
    )


def _result_figures(part: Mapping[str, Any]) -> Figures:
    entries = part["latency"]["percentiles"] if part["latency"] else ()
    return Figures(
        part["inferences_per_second"], {entry["percentile"]: entry["value_seconds"] * NS for entry in entries}
    )
