"""The load levels of a probe as a user writes them: one, a list, or a range `start:end[:step]` as in perf_analyzer,
to be run whole or to be searched; or a file of gaps or moments.

Raises ValueError with what is allowed. Pure, but for the files.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal

from exporter.config import text
from exporter.config.text import as_number
from exporter.core.probe import MAX_REQUEST_RATE, LoadLevel
from exporter.payload.timing_files import TimingFile, read_intervals, read_schedule

MAX_LEVELS = 1024
"""As many as anyone runs in a row; a slip of the pen has more. `check-config` prints what they cost in series."""
MAX_CONCURRENCY = 65_536
MIN_REQUEST_RATE = 0.001

_DECIMAL = r"(\d{1,9}(?:\.\d{1,6})?)"
_RANGE = re.compile(f"{_DECIMAL}:{_DECIMAL}(?::{_DECIMAL})?", re.ASCII)
_PERIODIC = re.compile(r"(\d{1,9}):(\d{1,9}):(\d{1,9})", re.ASCII)
_FORMS = "must be a number, a list of numbers, or a range 'start:end[:step]'"


@dataclass(frozen=True, slots=True)
class Span:
    """A range as it was written; `end` 0 leaves it open."""

    start: float
    end: float
    step: float


@dataclass(frozen=True, slots=True)
class Levels:
    """The levels' numbers. In a search they are the declared start and end of its `span`."""

    values: tuple[float, ...]
    span: Span | None = None


def parse_concurrency(given: object, kind: str = "every") -> Levels:
    """The concurrencies of `4`, `[1, 2, 4]` or `"1:8:1"`; `kind` is what is to be done with a range: see
    `load.search`."""
    return _parse_whole(given, kind, "a concurrency", "concurrencies")


def parse_streams(given: object, kind: str = "every") -> Levels:
    """The numbers of streams of `64`, `[16, 32, 64]` or `"16:128:16"`; `kind` as for concurrencies."""
    return _parse_whole(given, kind, "a number of streams", "numbers of streams")


def parse_request_rate(given: object, kind: str = "every") -> Levels:
    """The requests per second of `100`, `[50, 100]` or `"100:500:100"`; `kind` as for concurrencies."""
    levels = _parse(given, kind)
    for value in levels.values:
        if not MIN_REQUEST_RATE <= value <= MAX_REQUEST_RATE:
            allowed = f"from {as_number(MIN_REQUEST_RATE)} to {as_number(MAX_REQUEST_RATE)}"
            raise ValueError(f"a request rate must be {allowed} a second")
    return levels


def matrix(
    levels: Sequence[LoadLevel], batch_sizes: Sequence[int], shapes: Sequence[Mapping[str, Sequence[int]]]
) -> tuple[LoadLevel, ...]:
    """Each level with each batch size and each of the shapes; the levels as they are where neither is given. A label
    has what the level differs by: `8@b4@1x320000`, of several inputs `8@16+64` in the order of their names."""
    found = tuple(levels)
    if batch_sizes:
        found = tuple(
            replace(level, batch_size=size, label=f"{level.label}@b{size}") for size in batch_sizes for level in found
        )
    if not shapes:
        return found
    return tuple(
        replace(level, shapes=named, label=f"{level.label}@{'+'.join('x'.join(map(str, each)) for _, each in named)}")
        for named in (tuple(sorted((name, tuple(each)) for name, each in entry.items())) for entry in shapes)
        for level in found
    )


def parse_periodic(given: object) -> tuple[int, int, int]:
    """Start, end and step of `"4:16:4"`: the step leads from the start to the end exactly."""
    match = _PERIODIC.fullmatch(given) if isinstance(given, str) else None
    if match is None:
        raise ValueError("must be 'start:end:step'")
    start, end, step = (int(part) for part in match.groups())
    if not 1 <= start < end <= MAX_CONCURRENCY or step < 1:
        raise ValueError(f"goes up, from 1 on, in steps above 0, to {MAX_CONCURRENCY} at most")
    if (end - start) % step:
        raise ValueError(f"steps of {step} do not lead from {start} to {end}")
    return start, end, step


def parse_intervals_file(given: object) -> TimingFile:
    """The file of this path, with one gap a line."""
    return _labelled(read_intervals(_path(given)))


def parse_schedule_file(given: object) -> TimingFile:
    """The file of this path, with one moment a line."""
    return _labelled(read_schedule(_path(given)))


def _path(given: object) -> str:
    if not isinstance(given, str):
        raise ValueError("must be a file's path")
    return text.filled_path_text(given)


def _labelled(file: TimingFile) -> TimingFile:
    try:
        text.filled_label_value(file.stem)
    except ValueError as error:
        raise ValueError(f"the file's name, less its ending, names the level: {error}") from None
    return file


def _parse_whole(given: object, kind: str, one: str, several: str) -> Levels:
    levels = _parse(given, kind)
    if levels.span and levels.span.step != int(levels.span.step):
        raise ValueError(f"the step between {several} must be a whole number")
    for value in levels.values:
        if value != int(value) or not 1 <= value <= MAX_CONCURRENCY:
            raise ValueError(f"{one} must be a whole number from 1 to {MAX_CONCURRENCY}")
    return levels


def _parse(given: object, kind: str) -> Levels:
    if kind == "every":
        return Levels(_expand(given))
    if not isinstance(given, str):
        raise ValueError(f"a {kind} search needs a range 'start:end[:step]'")
    start, end, step = _bounds(given)
    if end == 0 and kind == "binary":
        raise ValueError("a binary search needs an end; with an open one, as in 'start:0', the search must be linear")
    declared = (start,) if end in (0, start) else (start, end)
    return Levels(tuple(map(float, declared)), Span(float(start), float(end), float(step)))


def _expand(given: object) -> tuple[float, ...]:
    if isinstance(given, str):
        values = _range(given)
    elif isinstance(given, list):
        values = tuple(_number(entry) for entry in given)
    else:
        values = (_number(given),)
    if not 1 <= len(values) <= MAX_LEVELS:
        raise ValueError(f"gives {len(values)} levels; from 1 to {MAX_LEVELS} are allowed")
    seen: set[float] = set()
    for value in values:
        if value in seen:
            raise ValueError(f"level {as_number(value)} is there twice")
        seen.add(value)
    return values


def _number(given: object) -> float:
    if isinstance(given, bool) or not isinstance(given, int | float):
        raise ValueError(_FORMS)
    return float(given)


def _bounds(given: str) -> tuple[Decimal, Decimal, Decimal]:
    """Start, end and step of a range; the end is 0 where it is open."""
    match = _RANGE.fullmatch(given)
    if match is None:
        raise ValueError(_FORMS)
    start, end, step = (Decimal(part or 1) for part in match.groups())
    if 0 < end < start or step == 0:
        raise ValueError("a range 'start:end[:step]' goes up, in steps above 0")
    return start, end, step


def _range(given: str) -> tuple[float, ...]:
    """The levels of a range, its end included. Counted in decimal: 0.1:0.5:0.1 has five levels, 0.3 among them."""
    start, end, step = _bounds(given)
    if end == 0:
        raise ValueError("an open end, as in 'start:0', needs search: linear")
    count = int((end - start) / step) + 1
    if count > MAX_LEVELS:
        raise ValueError(f"gives {count} levels; from 1 to {MAX_LEVELS} are allowed")
    return tuple(float(start + step * index) for index in range(count))
