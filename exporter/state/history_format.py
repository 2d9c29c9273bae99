"""The format of the history's files: records of 48 bytes, so that a day of 1000 probes is read in array operations.

A file has sections, one per daemon that wrote to it. A section begins with its mark; then come the sweeps, each with
its levels behind it, and before them the names that they use for the first time: probes, levels, reasons. Numbers are
little-endian. A crash can cut off the last record, which then lacks its last byte; the next section begins behind it,
at a whole one.

Pure: bytes in, arrays out, and the reverse. What a file holds is checked here, and never trusted.
"""

from __future__ import annotations

import itertools
import json
import math
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exporter.state.day_ring import (
    FIGURES,
    MAX_LEVELS,
    RECENT_SWEEPS,
    SWEEP_ROW,
    Conclusion,
    Rows,
    SweepPoint,
    figures_of,
)
from exporter.state.state_file import ProbeKey

RECORD_BYTES = 48
_SECTION, _NAME, _SWEEP, _LEVEL = 1, 2, 3, 4
"""What a record is, by its first byte; 0: nothing."""
_END = ord("\n")
"""The last byte of a record that is whole."""
SECTION_MARK = (bytes([_SECTION]) + b"triton-canary history 2").ljust(RECORD_BYTES - 1, b"\0") + bytes([_END])

_NAME_BYTES = 39
_name_record = struct.Struct(f"<BB2xI{_NAME_BYTES}sB")
_sweep_record = struct.Struct("<BBBxIdqqIII3xB")
_level_record = struct.Struct("<B3xI9f3xB")
_names = np.dtype({"names": ["length", "index"], "formats": ["u1", "<u4"], "offsets": [1, 4], "itemsize": RECORD_BYTES})
_sweeps = np.dtype(
    {
        "names": ["conclusion", "levels", "key", "started", "requests", "bad", "milliseconds", "reason", "text"],
        "formats": ["u1", "u1", "<u4", "<f8", "<i8", "<i8", "<u4", "<u4", "<u4"],
        "offsets": [1, 2, 4, 8, 16, 24, 32, 36, 40],
        "itemsize": RECORD_BYTES,
    }
)
_levels = np.dtype(
    {"names": ["name", "figures"], "formats": ["<u4", "(9,)<f4"], "offsets": [4, 8], "itemsize": RECORD_BYTES}
)

_CONCLUSIONS = (
    Conclusion.OK,
    Conclusion.UNSTABLE,
    Conclusion.OBJECTIVE_MISSED,
    Conclusion.REGRESSED,
    Conclusion.ABORTED,
    Conclusion.FAILED,
)
"""By their number in a file, which stays what it is."""
_SEVERITY = np.array([conclusion.severity for conclusion in _CONCLUSIONS], np.uint8)
_MAX_COUNT = 1 << 62
_MAX_MILLISECONDS = (1 << 32) - 1


class SectionWriter:
    """Makes the records of one section; the first ones begin with its mark."""

    def __init__(self) -> None:
        self._known: dict[str, int] = {}
        self._begun = False

    def encode(self, key: ProbeKey, point: SweepPoint) -> bytes:
        """The records of one sweep. All that was made must be written, in order."""
        records: list[bytes] = [] if self._begun else [SECTION_MARK]
        self._begun = True
        probe = self._name(json.dumps([key.probe, key.target, key.model], separators=(",", ":")), records)
        reason, text = self._name(point.reason, records), self._name(point.text, records)
        levels = point.levels[:MAX_LEVELS]
        names = [self._name(level.level, records) for level in levels]
        counts = (min(count, _MAX_COUNT - 1) for count in (point.slo_requests, point.slo_bad))
        number = _CONCLUSIONS.index(point.conclusion)
        milliseconds = min(max(round(1000 * point.duration_s), 0), _MAX_MILLISECONDS)
        records.append(
            _sweep_record.pack(
                _SWEEP, number, len(levels), probe, point.started_unix_s, *counts, milliseconds, reason, text, _END
            )
        )
        for name, level in zip(names, levels, strict=True):
            records.append(_level_record.pack(_LEVEL, name, *map(_as_float32, figures_of(level)), _END))
        return b"".join(records)

    def _name(self, text: str, records: list[bytes]) -> int:
        index = self._known.get(text)
        if index is None:
            index = self._known[text] = len(self._known)
            encoded = text.encode(errors="replace")
            for at in range(0, len(encoded) or 1, _NAME_BYTES):
                part = encoded[at : at + _NAME_BYTES]
                records.append(_name_record.pack(_NAME, len(part), index, part, _END))
        return index


@dataclass(slots=True)
class _Found:
    """Sweeps and levels of all sections, with names by their number in `HistoryReader`'s table."""

    sweeps: list[NDArray[Any]] = field(default_factory=list)
    owners: list[NDArray[np.int64]] = field(default_factory=list)
    level_names: list[NDArray[np.int64]] = field(default_factory=list)
    figures: list[NDArray[np.float32]] = field(default_factory=list)
    count: int = 0


class HistoryReader:
    """Takes files, oldest first, and gives the days of their probes. `bad` counts what can't be read: sweeps, and
    sections of another version. Sweeps that started before `oldest_unix_s` are left out."""

    def __init__(self, oldest_unix_s: float) -> None:
        self.bad = 0
        self._oldest_unix_s = oldest_unix_s
        self._names: dict[str, int] = {}
        self._found = _Found()

    def add(self, content: bytes) -> None:
        """One file."""
        content += bytes(-len(content) % RECORD_BYTES)
        records = np.frombuffer(content, np.uint8).reshape(-1, RECORD_BYTES)
        kinds, whole = records[:, 0].copy(), records[:, -1] == _END
        begins = np.flatnonzero((kinds == _SECTION) & whole).tolist()
        before = kinds[: begins[0] if begins else len(kinds)]
        # A level that is cut off makes its sweep bad, which is counted there.
        self.bad += int((kinds[~whole] == _SWEEP).sum()) + bool(before.any())
        kinds[~whole] = 0
        for begin, end in itertools.pairwise([*begins, len(kinds)]):
            if records[begin].tobytes() == SECTION_MARK:
                self._add_section(records[begin:end], kinds[begin:end])
            else:
                self.bad += 1

    def days(self) -> Iterator[tuple[ProbeKey, Rows, tuple[SweepPoint, ...]]]:
        """Each probe's day: figures in rows, and the last sweeps, oldest first, without their levels. Ends this
        reader."""
        found, names = self._found, list(self._names)
        self._found = _Found()
        if not found.count:
            return
        sweeps = np.concatenate(found.sweeps)
        by_probe = np.argsort(sweeps["key"], kind="stable")
        place = np.empty(len(sweeps), np.int64)
        place[by_probe] = np.arange(len(sweeps))
        sweeps = sweeps[by_probe]
        owners = place[np.concatenate(found.owners)]
        by_owner = np.argsort(owners, kind="stable")
        owners, level_names = owners[by_owner], np.concatenate(found.level_names)[by_owner]
        figures = np.concatenate(found.figures)[by_owner]
        begins = np.flatnonzero(np.concatenate([[True], sweeps["key"][1:] != sweeps["key"][:-1]])).tolist()
        for begin, end in zip(begins, [*begins[1:], len(sweeps)], strict=True):
            of_probe = slice(*np.searchsorted(owners, [begin, end]).tolist())
            key = _key(names[sweeps["key"][begin]])
            if key is None:
                self.bad += end - begin
                continue
            levels = _by_level(owners[of_probe] - begin, level_names[of_probe], figures[of_probe], end - begin)
            named = {names[number]: values for number, values in levels.items()}
            yield key, Rows(_rows(sweeps[begin:end]), named), _recent(sweeps[begin:end], names)

    def _add_section(self, records: NDArray[np.uint8], kinds: NDArray[np.uint8]) -> None:
        table = self._table(records[kinds == _NAME])
        at_sweeps, at_levels = np.flatnonzero(kinds == _SWEEP), np.flatnonzero(kinds == _LEVEL)
        if not len(at_sweeps):
            return
        sweeps = records[at_sweeps].view(_sweeps).ravel()
        levels = records[at_levels].view(_levels).ravel()
        owners = np.searchsorted(at_sweeps, at_levels) - 1
        claimed = (owners >= 0) & (at_levels - at_sweeps[owners] <= sweeps["levels"][owners])
        known = (levels["name"] < len(table)) & ~np.isinf(levels["figures"]).any(axis=1)
        good = _are_sound(sweeps, len(table)) & (
            np.bincount(owners[claimed & known], minlength=len(sweeps)) == sweeps["levels"]
        )
        self.bad += int((~good).sum())
        good &= sweeps["started"] > self._oldest_unix_s
        taken = claimed & good[owners]
        numbers = self._found.count + np.cumsum(good) - 1
        sweeps, levels, owners = sweeps[good], levels[taken], numbers[owners[taken]]
        for name in ("key", "reason", "text"):
            sweeps[name] = table[sweeps[name]]
        found = self._found
        found.sweeps.append(sweeps)
        found.owners.append(owners)
        found.level_names.append(table[levels["name"]])
        found.figures.append(levels["figures"])
        found.count += len(sweeps)

    def _table(self, records: NDArray[np.uint8]) -> NDArray[np.int64]:
        """A section's names, by their numbers in it, as numbers of this reader's table."""
        heads = records.view(_names).ravel()
        texts: list[bytearray] = []
        lengths = np.minimum(heads["length"], _NAME_BYTES).tolist()
        for record, length, index in zip(records, lengths, heads["index"].tolist(), strict=True):
            if index == len(texts):
                texts.append(bytearray())
            if index == len(texts) - 1:  # others are out of order: not ours
                texts[index] += record[8 : 8 + length].tobytes()
        decoded = [bytes(text).decode(errors="replace") for text in texts]
        return np.array([self._names.setdefault(text, len(self._names)) for text in decoded], np.int64)


def _are_sound(sweeps: NDArray[Any], names: int) -> NDArray[np.bool_]:
    sound = (sweeps["conclusion"] < len(_CONCLUSIONS)) & (sweeps["levels"] <= MAX_LEVELS)
    for name in ("key", "reason", "text"):
        sound &= sweeps[name] < names
    sound &= np.isfinite(sweeps["started"])
    for name in ("requests", "bad"):
        sound &= (sweeps[name] >= 0) & (sweeps[name] < _MAX_COUNT)
    return np.asarray(sound)


def _by_level(
    at: NDArray[np.int64], names: NDArray[np.int64], figures: NDArray[np.float32], rows: int
) -> dict[int, NDArray[np.float32]]:
    """Of each level one row of figures per sweep; the levels seen last, the last one at the end."""
    found, last = np.unique(names[::-1], return_index=True)
    made = {}
    for number in found[np.argsort(-last)][-MAX_LEVELS:].tolist():
        made[number] = np.full((rows, len(FIGURES)), math.nan, np.float32)
        made[number][at[names == number]] = figures[names == number]
    return made


def _rows(sweeps: NDArray[Any]) -> NDArray[Any]:
    made = np.empty(len(sweeps), SWEEP_ROW)
    for name in ("started", "requests", "bad"):
        made[name] = sweeps[name]
    made["severity"] = _SEVERITY[sweeps["conclusion"]]
    return made


def _recent(sweeps: NDArray[Any], names: Sequence[str]) -> tuple[SweepPoint, ...]:
    return tuple(
        SweepPoint(started, milliseconds / 1000, _CONCLUSIONS[number], names[reason], names[text], requests, bad)
        for number, _, _, started, requests, bad, milliseconds, reason, text in sweeps[-RECENT_SWEEPS:].tolist()
    )


def _key(name: str) -> ProbeKey | None:
    try:
        probe, target, model = json.loads(name)
    except (ValueError, TypeError, RecursionError):
        return None
    return ProbeKey(str(probe), str(target), str(model))


def _as_float32(value: float) -> float:
    """What such a number can hold; NaN for what it can't."""
    return value if abs(value) < 3e38 else math.nan
