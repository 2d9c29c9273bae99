"""perf_analyzer's profile export (`--profile-export-file`): every request of the measured windows, in its JSON schema.

Written as a stream, window by window, so that no more than one window's rows are held however long a run is. What JSON
has no word for is written as protobuf's JSON mapping has it: NaN and the infinities are the strings "NaN", "Infinity"
and "-Infinity". (perf_analyzer stops writing at the first of them.)
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from exporter import __version__
from exporter.commands.analyze.report.lines import level_rate
from exporter.core.errors import ConfigError, InputError
from exporter.core.facts import ModelFacts
from exporter.core.outcome import Outcome
from exporter.core.probe import LoadLevel, Probe
from exporter.core.result import Measurement
from exporter.core.window import RecordColumns, Window
from exporter.engine.plan import LevelPlan
from exporter.payload import make_steps
from exporter.sweep.watcher import Watcher

MAX_ELEMENTS = 1024
"""Inputs with more elements are left out: they would be written again for every request."""

_ROWS = 8192
"""Requests that are made into text at once."""


class ProfileExport(Watcher):
    """The file. Opened when made, as a new one: raises ConfigError if it exists already or can't be made.

    Between `level_started` and `level_ended` come the level's windows. A write that fails (disk full) is kept for
    `close`, which raises it; the run continues meanwhile, since its measurement is worth more than the file.
    """

    def __init__(self, path: Path, wall_clock_ahead_ns: int | None = None) -> None:
        """`wall_clock_ahead_ns` is what turns monotonic stamps into those of the wall clock. It is one number for the
        whole file, so that durations stay what they were."""
        if wall_clock_ahead_ns is None:
            wall_clock_ahead_ns = time.time_ns() - time.monotonic_ns()
        self._ahead_ns = wall_clock_ahead_ns
        self._path = path
        self._error: OSError | None = None
        self._levels = self._rows = 0
        self._inputs = "{}"
        self._boundaries: list[int] = []
        self._failed: dict[str, int] = {}
        try:
            self._file = path.open("x", encoding="utf-8")
        except FileExistsError as error:
            raise ConfigError([f"{path}: exists already; a profile export is never overwritten"]) from error
        except OSError as error:
            raise ConfigError([f"{path}: {error.strerror or error}"]) from error
        self._write('{"experiments":[')

    def level_started(self, plan: LevelPlan) -> None:
        """See `Watcher`."""
        self._inputs = _inputs(plan.probe, plan.facts)
        self._rows = 0
        self._boundaries = []
        self._failed = {}
        mode, value = _experiment(plan.level)
        comma = "," if self._levels else ""
        self._levels += 1
        self._write(f'{comma}{{"experiment":{{"mode":"{mode}","value":{value}}},"requests":[')

    def window_measured(self, window: Window) -> None:
        """Writes the window's ok requests and counts the others."""
        if not self._boundaries:
            self._boundaries.append(window.start_ns + self._ahead_ns)
        self._boundaries.append(window.end_ns + self._ahead_ns)
        for outcome, count in zip(*np.unique(window.columns.outcome, return_counts=True), strict=True):
            if outcome != Outcome.OK:
                label = Outcome(int(outcome)).label
                self._failed[label] = self._failed.get(label, 0) + int(count)
        for text in self._requests(window.columns):
            self._write(text)

    def level_ended(self, _measurement: Measurement | None = None) -> None:
        """No more windows of this level. `failed_requests`, by outcome, is ours; it is there only if there are any."""
        failed = f',"failed_requests":{json.dumps(self._failed)}' if self._failed else ""
        self._write(f'],"window_boundaries":{json.dumps(self._boundaries)}{failed}}}')

    def close(self, service_kind: str = "triton") -> None:
        """Ends the file, or takes it away where no level was started: an empty one would only bar the next run. Raises
        the first OSError that writing it met."""
        self._write(f'],"version":{json.dumps(__version__)},"service_kind":{json.dumps(service_kind)},"endpoint":""}}')
        try:
            self._file.close()
        except OSError as error:
            self._error = self._error or error
        if not self._levels:
            self._path.unlink(missing_ok=True)
        elif self._error is not None:
            raise OSError(self._error.errno, self._error.strerror, str(self._path)) from self._error

    def _requests(self, columns: RecordColumns) -> Iterator[str]:
        """The ok requests, in the order in which they ended."""
        ok = columns.outcome == Outcome.OK
        sent_ns = columns.sent_ns[ok] + self._ahead_ns
        response_ns, first, count = _responses(columns, ok)
        response_ns = response_ns + self._ahead_ns
        sequence_ids = columns.sequence_ids[ok] if len(columns.sequence_ids) else np.zeros(len(sent_ns), np.int64)
        for start in range(0, len(sent_ns), _ROWS):
            part = slice(start, start + _ROWS)
            numbers = (each[part].tolist() for each in (sent_ns, sequence_ids, first, count))
            rows = [
                self._request(sent, sequence_id, response_ns[at : at + many].tolist())
                for sent, sequence_id, at, many in zip(*numbers, strict=True)
            ]
            yield ("," if self._rows else "") + ",".join(rows)
            self._rows += len(rows)

    def _request(self, sent_ns: int, sequence_id: int, response_ns: list[int]) -> str:
        sequence = f'"sequence_id":{sequence_id},' if sequence_id else ""
        outputs = json.dumps([{}] * len(response_ns))
        return (
            f'{{"timestamp":{sent_ns},{sequence}"request_inputs":{self._inputs},'
            f'"response_timestamps":{json.dumps(response_ns)},"response_outputs":{outputs}}}'
        )

    def _write(self, text: str) -> None:
        if self._error is None:
            try:
                self._file.write(text)
            except OSError as error:
                self._error = error


def _responses(
    columns: RecordColumns, ok: npt.NDArray[np.bool_]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """When responses came, and for each ok request where among them its own begin and how many they are. Without a
    stream each has one, when the request ended."""
    counts = columns.responses.astype(np.int64)
    if len(columns.response_ns) != counts.sum():
        last_ns = columns.last_ns[ok]
        return last_ns, np.arange(len(last_ns)), np.ones(len(last_ns), np.int64)
    return columns.response_ns, (np.cumsum(counts) - counts)[ok], counts[ok]


def _experiment(level: LoadLevel) -> tuple[str, str]:
    """Mode and value as perf_analyzer has them: every load but a concurrency is a request rate."""
    if not level.mode.is_open_loop:
        return "concurrency", str(int(level.value))
    return "request_rate", json.dumps(level_rate(level))


# --- tensors ----------------------------------------------------------------------------------------------------------


def _inputs(probe: Probe, facts: ModelFacts) -> str:
    """What every request of a level carries, as JSON: `{}` unless all carry the same. Prompts are never written."""
    if probe.input.source == "files" or facts.takes_prompts:
        return "{}"
    try:
        steps = make_steps(facts, probe.input)
    except InputError:  # the level itself will report it
        return "{}"
    if len(steps) != 1:
        return "{}"
    tensors = {name: tensor_value(tensor) for name, tensor in steps[0].items() if tensor.size <= MAX_ELEMENTS}
    return json.dumps(tensors, separators=(",", ":"), allow_nan=False)


def tensor_value(tensor: npt.NDArray[np.generic]) -> object:
    """A tensor as perf_analyzer writes it: one element by itself, else a flat array, "" if it is empty. Unlike there,
    each string of a BYTES tensor is one."""
    values = [_element(each) for each in tensor.reshape(-1).tolist()]
    if not values:
        return ""
    return values[0] if len(values) == 1 else values


def _element(value: object) -> object:
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, (bool, int, str)):
        return value
    number = float(value)  # type: ignore[arg-type]  # of half and bfloat16 numpy gives its own scalars
    if math.isfinite(number):
        return number
    return "NaN" if math.isnan(number) else "Infinity" if number > 0 else "-Infinity"
