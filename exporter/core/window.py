"""What the client measured in one window: each request, the client's own health, and the checked responses.

The types are frozen and can be pickled: a worker process sends them. Names carry the unit: `_ns` is integer nanoseconds
on the monotonic clock.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

from exporter.core.facts import ServerReading, ServerSnapshot
from exporter.core.outcome import Reason


@dataclass(frozen=True, slots=True)
class RecordColumns:
    """The requests that ended in one window, one row each, as parallel arrays.

    `intended_ns`, `sent_ns` (first byte written to the socket), `send_done_ns` (last byte written), `first_ns` (first
    response byte) and `last_ns` (last response byte) are int64 monotonic nanoseconds, 0 if it never happened. `last_ns`
    is always set: for a failed request it is when the failure was detected. `outcome` holds `Outcome` codes.
    `sequence_end` is 1 for the last request of a sequence.

    `response_ns` is not one entry per row: for streamed requests it holds the time of each response, `responses`
    entries per row, concatenated. It is empty if requests have at most one response. `sequence_ids` has one entry per
    row, or is empty without sequences.

    The last five columns have one entry per row if the target takes prompts, otherwise they are empty. `opened_ns` is
    when the first event of the response stream came, 0 without one; `first_ns` is then the first event with content,
    and `response_ns` has all events with content. Token counts are -1 if unknown; `cached_tokens` are the prompt tokens
    found in the server's cache. `early_ends` is 1 if the response ended before the requested number of tokens.
    """

    intended_ns: npt.NDArray[np.int64]
    sent_ns: npt.NDArray[np.int64]
    send_done_ns: npt.NDArray[np.int64]
    first_ns: npt.NDArray[np.int64]
    last_ns: npt.NDArray[np.int64]
    responses: npt.NDArray[np.uint32]
    outcome: npt.NDArray[np.uint8]
    bytes_out: npt.NDArray[np.int64]
    bytes_in: npt.NDArray[np.int64]
    sequence_end: npt.NDArray[np.uint8]
    response_ns: npt.NDArray[np.int64]
    sequence_ids: npt.NDArray[np.int64]
    opened_ns: npt.NDArray[np.int64]
    prompt_tokens: npt.NDArray[np.int64]
    output_tokens: npt.NDArray[np.int64]
    cached_tokens: npt.NDArray[np.int64]
    early_ends: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.outcome)

    @classmethod
    def empty(cls, rows: int = 0) -> RecordColumns:
        """Columns of `rows` zeroed rows."""
        return cls(
            intended_ns=np.zeros(rows, np.int64),
            sent_ns=np.zeros(rows, np.int64),
            send_done_ns=np.zeros(rows, np.int64),
            first_ns=np.zeros(rows, np.int64),
            last_ns=np.zeros(rows, np.int64),
            responses=np.zeros(rows, np.uint32),
            outcome=np.zeros(rows, np.uint8),
            bytes_out=np.zeros(rows, np.int64),
            bytes_in=np.zeros(rows, np.int64),
            sequence_end=np.zeros(rows, np.uint8),
            response_ns=np.zeros(0, np.int64),
            sequence_ids=np.zeros(0, np.int64),
            opened_ns=np.zeros(0, np.int64),
            prompt_tokens=np.zeros(0, np.int64),
            output_tokens=np.zeros(0, np.int64),
            cached_tokens=np.zeros(0, np.int64),
            early_ends=np.zeros(0, np.int64),
        )

    @classmethod
    def concatenate(cls, parts: list[RecordColumns]) -> RecordColumns:
        """All rows of `parts`, in order."""
        if not parts:
            return cls.empty()
        return cls(**{f.name: np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(cls)})


CLOCK_LIMIT_RATIO = 0.01
"""Of a window: the largest error of its edges that changes no rate by more than the noise of a stable level."""


@dataclass(frozen=True, slots=True)
class ClientHealth:
    """The client's health during a window, to keep its own delays from being blamed on the server.

    `loop_lag_ns` is the largest delay of the worker's event loop, `cpu_ratio` is cpu time over wall time (1.0 is one
    full core), and `throttled_ns` is the time that the process was throttled by its cgroup. `clock_error_ns` is the
    most by which the window's edges may be elsewhere than stated, since another machine's clock set them; None on this
    one.
    """

    loop_lag_ns: int = 0
    cpu_ratio: float = 0.0
    throttled_ns: int = 0
    clock_error_ns: int | None = None

    def is_clock_uncertain(self, window_ns: int) -> bool:
        """Whether the edges of a window of this length are not known well enough."""
        return self.clock_error_ns is not None and self.clock_error_ns > CLOCK_LIMIT_RATIO * window_ns


def worst_clock_error_ns(parts: Iterable[ClientHealth]) -> int | None:
    """The largest error of several; None if this machine's clock set all edges."""
    return max((part.clock_error_ns for part in parts if part.clock_error_ns is not None), default=None)


@dataclass(frozen=True, slots=True)
class OutputError:
    """How far response values were from the expected ones: the largest absolute and relative difference (relative only
    where the expected value is not 0), and the sums of squares of the expected values (`signal`) and differences
    (`noise`)."""

    absolute: float = 0.0
    relative: float = 0.0
    signal: float = 0.0
    noise: float = 0.0

    def __add__(self, other: OutputError) -> OutputError:
        return OutputError(
            absolute=max(self.absolute, other.absolute),
            relative=max(self.relative, other.relative),
            signal=self.signal + other.signal,
            noise=self.noise + other.noise,
        )

    @property
    def signal_to_noise_db(self) -> float | None:
        """10 log10(signal / noise) in decibels; None if nothing differs or there is no signal."""
        if not 0 < self.noise < math.inf or not 0 < self.signal < math.inf:
            return None
        return 10 * math.log10(self.signal / self.noise)


@dataclass(frozen=True, slots=True)
class Checked:
    """Responses compared with the expected ones, and the first difference as text. `unchecked` responses were skipped
    for lack of time."""

    responses: int = 0
    wrong: int = 0
    error: OutputError | None = None
    difference: str = ""
    unchecked: int = 0

    def __add__(self, other: Checked) -> Checked:
        errors = [error for error in (self.error, other.error) if error is not None]
        return Checked(
            responses=self.responses + other.responses,
            wrong=self.wrong + other.wrong,
            error=sum(errors[1:], errors[0]) if errors else None,
            difference=self.difference or other.difference,
            unchecked=self.unchecked + other.unchecked,
        )


def sum_checked(parts: Iterable[Checked | None]) -> Checked | None:
    """The sum of all checks; None if nothing is checked."""
    given = [part for part in parts if part is not None]
    return sum(given[1:], given[0]) if given else None


@dataclass(frozen=True, slots=True)
class Window:
    """One measurement interval of a level. A level's windows are contiguous: each starts where the last one ended. The
    one window of a request count is the exception: it starts with its first request and ends with its last.

    `columns` has the requests that ended in it. `sent` counts requests sent in it, `unsent` requests that an open loop
    gave up. `backlog_growth` is the change in requests waiting for a place in flight, from start to end. `in_flight`
    counts requests that may be at the server at its end. `before` and `after` are the server's snapshots at its edges,
    None if not available. `warm_up` windows are counted, never measured. `readings` are the readings of metrics page
    and driver, including the ones at both edges. `checked` is None without validation.
    """

    index: int
    start_ns: int
    end_ns: int
    columns: RecordColumns
    sent: int
    unsent: int = 0
    in_flight: int = 0
    before: ServerSnapshot | None = None
    after: ServerSnapshot | None = None
    health: ClientHealth = ClientHealth()
    warm_up: bool = False
    error_text: str = ""
    readings: tuple[ServerReading, ...] = ()
    checked: Checked | None = None
    backlog_growth: int = 0

    @property
    def due(self) -> int:
        """Requests due in this window."""
        return self.sent + self.unsent + self.backlog_growth

    @property
    def duration_ns(self) -> int:
        return self.end_ns - self.start_ns


@dataclass(frozen=True, slots=True)
class LevelEnd:
    """How the worker's part of a level ended: by `stop` (reason none) or by a stop rule.

    `sent` counts all requests of the level, warm-up included. `abandoned` counts given-up requests that the server may
    still be processing; `abandoned_until_ns` is when each is presumed dropped, in order. `spared_until_ns` is the end
    of the pause that the server requested, 0 without one. All times are `time.monotonic_ns`.
    """

    reason: Reason
    text: str
    sent: int
    abandoned: int = 0
    abandoned_until_ns: tuple[int, ...] = ()
    spared_until_ns: int = 0


@dataclass(frozen=True, slots=True)
class ConnectionTimes:
    """Timings of the level's first connection, and the latency of the first request on it. None if it did not happen.
    Never part of a latency."""

    connect_ns: int | None = None
    tls_ns: int | None = None
    cold_first_request_ns: int | None = None
    certificate_expiry_unix_s: float | None = None
