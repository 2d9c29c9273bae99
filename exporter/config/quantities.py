"""Durations, sizes and ratios as people write them: `1h30m`, `10MiB`, `10%`.

Pure text and numbers. Every parser takes whatever the file held, since a bare number is the commonest mistake, and
raises ValueError with the fix.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

from exporter.config.text import as_number

_DURATION_UNITS = {"d": 86_400 * 10**9, "h": 3_600 * 10**9, "m": 60 * 10**9, "s": 10**9, "ms": 10**6, "us": 10**3}
_DURATION = re.compile("".join(rf"(?:(\d{{1,12}}(?:\.\d{{1,9}})?){unit})?" for unit in _DURATION_UNITS), re.ASCII)
_SIZE_UNITS = {
    "B": 1,
    "kB": 10**3,
    "KB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "TB": 10**12,
    "KiB": 2**10,
    "MiB": 2**20,
    "GiB": 2**30,
    "TiB": 2**40,
}
_SIZE = re.compile(rf"(\d{{1,20}}(?:\.\d{{1,9}})?) ?({'|'.join(_SIZE_UNITS)})", re.ASCII)
_UNITS: dict[str, Mapping[str, int]] = {
    "duration": _DURATION_UNITS,
    "size": {unit: size for unit, size in _SIZE_UNITS.items() if unit == "B" or "i" in unit},
}
_PERCENTAGE = re.compile(r"(\d{1,9}(?:\.\d{1,9})?) ?%", re.ASCII)


def parse_duration(given: object) -> int:
    """Nanoseconds of a duration: numbers with units from large to small, as `90d`, `1h30m`, `1.5s`, `500ms`, `20us`."""
    if isinstance(given, int | float) and not isinstance(given, bool):
        raise ValueError(f"a duration needs a unit; write '{as_number(given)}s'")
    duration_ns = _read_duration(given) if isinstance(given, str) else None
    if duration_ns is None:
        raise ValueError("must be a duration with its unit, as '500ms', '5s', '2m', '1h30m' or '90d'")
    return duration_ns


@functools.lru_cache(maxsize=1024)
def _read_duration(text: str) -> int | None:
    """Kept, since a thousand probes have the same few durations."""
    match = _DURATION.fullmatch(text) if text else None
    if match is None:
        return None
    parts = zip(match.groups(), _DURATION_UNITS.values(), strict=True)
    return int(sum(Decimal(number) * unit for number, unit in parts if number))


def format_duration(duration_ns: int) -> str:
    """The shortest text of whole numbers that `parse_duration` reads as this duration; below a microsecond is lost."""
    text, rest = "", duration_ns
    for unit, unit_ns in _DURATION_UNITS.items():
        count, rest = divmod(rest, unit_ns)
        if count:
            text += f"{count}{unit}"
    return text or "0s"


def parse_size(given: object) -> int:
    """Bytes of a size: `512B`, `10MiB` (powers of 1024) or `1GB` (powers of 1000)."""
    if isinstance(given, int | float) and not isinstance(given, bool):
        raise ValueError(f"a size needs a unit; write '{as_number(given)}B'")
    match = _SIZE.fullmatch(given) if isinstance(given, str) else None
    if match is None:
        raise ValueError("must be a size with its unit, as '512KiB', '10MiB' or '1GB'")
    return int(Decimal(match[1]) * _SIZE_UNITS[match[2]])


def format_size(size_bytes: int) -> str:
    """The text that `parse_size` reads as this size, in the largest unit that divides it."""
    best = max((unit for unit in _SIZE_UNITS if size_bytes % _SIZE_UNITS[unit] == 0), key=_SIZE_UNITS.__getitem__)
    return f"{size_bytes // _SIZE_UNITS[best]}{best}" if size_bytes else "0B"


def parse_ratio(given: object) -> float:
    """A ratio, as `10%` or `0.1`."""
    if isinstance(given, int | float) and not isinstance(given, bool):
        if given > 1:
            raise ValueError(f"a bare number is a ratio from 0 to 1; write '{as_number(given)}%'")
        return float(given)
    match = _PERCENTAGE.fullmatch(given) if isinstance(given, str) else None
    if match is None:
        raise ValueError("must be a ratio, as '10%' or 0.1")
    return float(Decimal(match[1]) / 100)


def format_ratio(ratio: float) -> str:
    """The ratio as a percentage."""
    return f"{as_number(float(Decimal(repr(ratio)) * 100))}%"


def checked_percentile(value: float) -> float:
    """A percentile from 1 to below 100, as 99 or 99.9. Raises ValueError for a ratio: 0.99 meant as the 99th would be
    almost the minimum, and every threshold on it would be kept."""
    if 0 < value < 1:
        meant = as_number(float(Decimal(repr(value)) * 100))
        raise ValueError(f"is a ratio, and percentiles go from 1 to below 100; did you mean {meant}?")
    if not 1 <= value < 100:
        raise ValueError("must be from 1 to below 100")
    return value


@dataclass(frozen=True)
class Quantity:
    """Marks a field as written in units, within bounds. `text` writes a value as the user would."""

    noun: str
    parse: Callable[[object], float]
    text: Callable[[Any], str]
    low: float
    high: float

    def validate(self, given: object) -> float:
        """The value in our own unit. Raises ValueError if it has no meaning or is out of bounds."""
        if isinstance(given, int | float) and not isinstance(given, bool) and (units := _UNITS.get(self.noun)):
            raise ValueError(self._without_unit(as_number(given), units))
        value = self.parse(given)
        if not self.low <= value <= self.high:
            raise ValueError(f"must be from {self.text(self.low)} to {self.text(self.high)}")
        return value

    def _without_unit(self, number: str, units: Mapping[str, int]) -> str:
        """What is wrong with a bare number, and the first way to write it that is within the bounds: as seconds,
        milliseconds, in the unit of the lower bound, in another; a size in the smallest unit."""
        lowest = max((unit for unit, size in units.items() if size <= self.low), key=units.__getitem__, default="s")
        for unit in dict.fromkeys(["s", "ms", lowest, *units] if "s" in units else units):
            try:
                is_allowed = self.low <= self.parse(f"{number}{unit}") <= self.high
            except ValueError:
                continue
            if is_allowed:
                return f"a {self.noun} needs a unit; write '{number}{unit}'"
        return f"a {self.noun} needs a unit, and must be from {self.text(self.low)} to {self.text(self.high)}"

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(self.validate)


def duration(low: str, high: str) -> Quantity:
    """A duration, in nanoseconds."""
    return Quantity("duration", parse_duration, format_duration, parse_duration(low), parse_duration(high))


def size(low: str, high: str) -> Quantity:
    """A size, in bytes."""
    return Quantity("size", parse_size, format_size, parse_size(low), parse_size(high))


def ratio(low: str, high: str) -> Quantity:
    """A ratio, 0.1 for 10 %."""
    return Quantity("ratio", parse_ratio, format_ratio, parse_ratio(low), parse_ratio(high))
