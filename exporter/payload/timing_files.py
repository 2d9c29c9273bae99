"""Files with the moments at which requests are sent: gaps (an interval file) or moments (a schedule).

Read where a configuration is checked and again where a level starts, so this knows neither configuration nor load. A
file is known by the digest of its content: what was checked is what runs, or the level does not start.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from exporter.core.units import MS, US

MAX_ENTRIES = 1_000_000
"""Entries of one file. A schedule's requests, one each, then fit into the records of a level."""

TIMESTAMP = "timestamp"
"""The key of a step's moment in a file of input data."""

_DATA_SUFFIX = ".json"
_MAX_MS = 10**12
_MAX_BYTES = 32 * 2**20
_SHOWN_LENGTH = 40
_MICROSECONDS = re.compile(rb"\d{1,12}")
_MILLISECONDS = re.compile(rb"(\d{1,12})(?:\.(\d{1,6}))?")


@dataclass(frozen=True, slots=True)
class TimingFile:
    """A file's name, the digest of its content, and its entries in nanoseconds."""

    path: str
    digest: str
    entries_ns: tuple[int, ...]

    @property
    def stem(self) -> str:
        """The name of its level: `night` of `loads/night.txt`."""
        return Path(self.path).stem


def read_intervals(path: str) -> TimingFile:
    """The gaps between requests: one whole number of microseconds a line, as perf_analyzer's
    `--request-intervals` has them.

    Raises ValueError, with the file's name and the line, if it can't be read or a line is no such number, and if all
    gaps are 0: an endless burst."""
    file = _read(path, _interval_ns)
    if not any(file.entries_ns):
        raise ValueError(f"{path}: all intervals are 0; at least one must be above 0")
    return file


def has_steps(path: str) -> bool:
    """Whether a schedule is a JSON file of input data, whose steps have the moments."""
    return path.endswith(_DATA_SUFFIX)


def read_schedule(path: str) -> TimingFile:
    """The moments of requests: milliseconds after the level's start, one a line, none before the one ahead of it. Of a
    file of input data (.json) they are its steps' `timestamp`, as perf_analyzer's `--fixed-schedule` has them.

    Raises ValueError, with the file's name and the line or step, if it can't be read or a moment is no such number."""
    if has_steps(path):
        return _read_steps(path)
    file = _read(path, _moment_ns)
    earliest_ns = 0
    for number, entry_ns in enumerate(file.entries_ns, 1):
        if entry_ns < earliest_ns:
            found, before = entry_ns / MS, earliest_ns / MS
            raise ValueError(f"{path}:{number}: found {found:g}: is before the line ahead of it, {before:g}")
        earliest_ns = entry_ns
    return file


def _interval_ns(line: bytes) -> int:
    if not _MICROSECONDS.fullmatch(line):
        raise ValueError("must be a whole number of microseconds, 0 or more")
    return int(line) * US


def _moment_ns(line: bytes) -> int:
    match = _MILLISECONDS.fullmatch(line)
    if match is None:
        raise ValueError("must be milliseconds after the start, as 1500 or 0.25")
    whole, part = match.groups()
    return int(whole) * MS + int((part or b"").ljust(6, b"0"))


def _read(path: str, entry_of: Callable[[bytes], int]) -> TimingFile:
    content = _content(path)
    entries = []
    for number, line in enumerate(content.splitlines(), 1):
        try:
            entries.append(entry_of(line.strip()))
        except ValueError as error:
            raise ValueError(f"{path}:{number}: found {_shown(line)}: {error}") from None
    if not 1 <= len(entries) <= MAX_ENTRIES:
        raise ValueError(f"{path}: has {len(entries)} lines; from 1 to {MAX_ENTRIES} are allowed")
    return TimingFile(path, hashlib.sha256(content).hexdigest(), tuple(entries))


def _read_steps(path: str) -> TimingFile:
    content = _content(path)
    try:
        document = json.loads(content)
    except (ValueError, RecursionError):
        raise ValueError(f"{path}: is not JSON") from None
    steps = document.get("data") if isinstance(document, dict) else None
    if not isinstance(steps, list) or not 1 <= len(steps) <= MAX_ENTRIES:
        raise ValueError(f"{path}: must have 'data', a list of 1 to {MAX_ENTRIES} steps")
    moments_ms = [_step_ms(path, index, step) for index, step in enumerate(steps)]
    for index, (before, moment) in enumerate(pairwise(moments_ms), 1):
        if moment < before:
            raise ValueError(f"{path}: step {index}: timestamp {moment} is before that of the step ahead, {before}")
    return TimingFile(path, hashlib.sha256(content).hexdigest(), tuple(MS * each for each in moments_ms))


def _step_ms(path: str, index: int, step: Any) -> int:
    if not isinstance(step, dict):
        raise ValueError(f"{path}: step {index}: a schedule needs steps, not streams of them")
    moment = step.get(TIMESTAMP)
    if isinstance(moment, list) and len(moment) == 1:
        (moment,) = moment  # as perf_analyzer takes it alone
    if not isinstance(moment, int) or isinstance(moment, bool) or not 0 <= moment < _MAX_MS:
        found = "found none" if moment is None else f"found {str(moment)[:_SHOWN_LENGTH]}"
        problem = "must be whole milliseconds after the start"
        raise ValueError(f"{path}: step {index}: '{TIMESTAMP}' {problem}, {found}")
    return moment


def _content(path: str) -> bytes:
    try:
        with Path(path).open("rb") as file:
            content = file.read(_MAX_BYTES + 1)
    except OSError as error:
        raise ValueError(f"{path}: cannot be read: {error.strerror}") from None
    if len(content) > _MAX_BYTES:
        raise ValueError(f"{path}: has more than {_MAX_BYTES // 2**20} MiB")
    return content


def _shown(line: bytes) -> str:
    """A line for a message; this may be any file."""
    text = line.strip()[:_SHOWN_LENGTH].decode("ascii", "replace")
    return repr(text) if text else "an empty line"
