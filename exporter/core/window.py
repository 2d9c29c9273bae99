"""What the client saw, in one measurement interval: each request, its own health, the responses that it checked.

The types are frozen, and can be pickled, since they cross the border from the worker process. A name carries its
unit: `_ns` is integer nanoseconds on the monotonic clock.
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

    `intended_ns`, `sent_ns` (first byte given to the socket), `send_done_ns` (last byte given), `first_ns` (first
    byte of the response) and `last_ns` (last byte) are int64 monotonic nanoseconds, 0 where it never happened;
    `last_ns` is always set: for a request that failed, the moment that it was known. `outcome` holds `Outcome` codes.
    `sequence_end` is 1 for the last request of a sequence.

    `response_ns` is no column: of requests over a stream it holds when each response came, `responses` of them a row,
    row after row. It is empty where a request has one response at most. `sequence_ids` has one entry a row, or is empty
    where requests go in no sequences.

    The last five have one entry a row where the target takes prompts, or else are empty. `opened_ns` is when the first
    event of a response's stream came, 0 where none did; `first_ns` is then the first event with content, and
    `response_ns` are all of those. Tokens are -1 where they were not counted; `cached_tokens` are those of the prompt
    that the server had. `early_ends` is 1 where it ended before the tokens that were asked for.
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
        """All rows of `parts`, in their order."""
        if not parts:
            return cls.empty()
        return cls(**{f.name: np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(cls)})


@dataclass(frozen=True, slots=True)
class ClientHealth:
    """How this client fared during a window, so that it is not the client that is blamed on the server.

    `loop_lag_ns` is the largest delay of the worker's event loop, `cpu_ratio` its cpu time over the window's time
    (1.0 is a whole core), and `throttled_ns` what a cgroup limit took away.
    """

    loop_lag_ns: int = 0
    cpu_ratio: float = 0.0
    throttled_ns: int = 0


@dataclass(frozen=True, slots=True)
class OutputError:
    """How far the numbers of responses were from the expected ones: the largest absolute and relative difference (where
    the expected number is not 0), and the sums of squares of expected numbers and of differences."""

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
        """10 log10(signal / noise), decibels; None where nothing differs, or there is no signal."""
        if not 0 < self.noise < math.inf or not 0 < self.signal < math.inf:
            return None
        return 10 * math.log10(self.signal / self.noise)


@dataclass(frozen=True, slots=True)
class Checked:
    """Responses that were compared with what is expected of them, and the first difference in words. `unchecked` are
    those for which there was no time."""

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
    """All checks as one; None where nothing is checked."""
    given = [part for part in parts if part is not None]
    return sum(given[1:], given[0]) if given else None


@dataclass(frozen=True, slots=True)
class Window:
    """One measurement interval inside a level. Windows of a level are contiguous: each starts where the last ended; but
    the one window of a request count starts with its first request and ends with its last.

    `columns` holds the requests that ended inside it; `sent` counts those begun inside it, `unsent` those that an
    open loop gave up in it without sending them, `backlog_growth` how many more wait for a place in flight at its end
    than at its start, `in_flight` those that the server may have at its end.
    `before` and `after` are the server's snapshots at its edges, None where the server gives none. `warm_up` windows
    are counted, never measured. `readings` are those of the server's metrics page and driver, from that at the
    window's start to that at its end, both included. `checked` is None where responses are not validated.
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
        """Requests that fell due inside it."""
        return self.sent + self.unsent + self.backlog_growth

    @property
    def duration_ns(self) -> int:
        return self.end_ns - self.start_ns


@dataclass(frozen=True, slots=True)
class LevelEnd:
    """How the worker's part of a level ended: by `stop` (reason none) or by a stop rule. `sent` is all that the level
    sent, warm-up included; `abandoned` are requests given up on that the server may still be working at, and
    `abandoned_until_ns` until when each is held for that, in order; `spared_until_ns` is until when the server asked to
    be left alone, 0 if it did not. All by `time.monotonic_ns`."""

    reason: Reason
    text: str
    sent: int
    abandoned: int = 0
    abandoned_until_ns: tuple[int, ...] = ()
    spared_until_ns: int = 0


@dataclass(frozen=True, slots=True)
class ConnectionTimes:
    """What it took to open the level's first connection, and the latency of the first request on it.
    None where it did not happen. Never part of a latency."""

    connect_ns: int | None = None
    tls_ns: int | None = None
    cold_first_request_ns: int | None = None
    certificate_expiry_unix_s: float | None = None
