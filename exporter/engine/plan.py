"""The messages between conductor and worker process, and the interface that other kinds of workers implement."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

from exporter.core.facts import ModelFacts
from exporter.core.probe import DEFAULT_MAX_TOKENS, LoadLevel, Probe
from exporter.core.window import ConnectionTimes, LevelEnd, Window
from exporter.engine.tally import Tally


@dataclass(frozen=True, slots=True)
class LevelPlan:
    """Everything a worker needs to run one level.

    The worker ends the level by itself after `max_requests` requests, at the error ratio of `probe.stop`, or
    `max_duration_ns` after its start; the conductor ends it by `stop`. It also ends after `max_windows` measured
    windows (0: unlimited), so no limit depends on how fast windows are collected. `abandoned_until_ns` is when each
    request that earlier levels and sweeps gave up is presumed dropped; until then it occupies a place in flight.
    Nothing is sent before `spared_until_ns`, as the server requested.

    `seed` is that of random arrivals. `max_tokens` is the rest of the sweep's token budget, for targets that take
    prompts.

    If several workers share the level (see `group`), this is the part of worker `member` of `members`. It waits for the
    others before it sends and before it measures; only member 0 fetches the server's statistics. The error rules of
    `probe.stop` are then the group's: the member only reports (`LevelTally`).
    """

    sweep_id: str
    probe: Probe
    facts: ModelFacts
    level: LoadLevel
    max_requests: int
    max_duration_ns: int
    max_windows: int = 0
    abandoned_until_ns: tuple[int, ...] = ()
    spared_until_ns: int = 0
    member: int = 0
    members: int = 1
    seed: int = 0
    max_tokens: int = DEFAULT_MAX_TOKENS


@dataclass(frozen=True, slots=True)
class LevelStarted:
    """The level's connections are open and its first request has ended; load and warm-up begin."""

    connection: ConnectionTimes


@dataclass(frozen=True, slots=True)
class LevelWaiting:
    """A member of a group is ready, and waits for the others."""


LevelEvent = LevelStarted | Window | LevelEnd
"""The events of a level, in this order: one start (if it came so far), windows as they end, one end."""


@dataclass(frozen=True, slots=True)
class LevelTally:
    """A member's responses so far: because the group asks (`report_tally`), or as an `alarm`, since by themselves they
    break a rule of the level. After an alarm it sends nothing until `resume_level`."""

    tally: Tally
    alarm: bool = False


MemberEvent = LevelEvent | LevelWaiting | LevelTally
"""The events of a group member's part of a level."""


class Worker(Protocol):
    """Runs the load of one sweep at a time. All methods raise WorkerLostError if the worker is or gets lost; a lost
    worker is unusable."""

    async def preflight(self, probe: Probe) -> ModelFacts:
        """Checks with the server whether the probe can run. Raises PreflightError with the reason if not."""

    def run_level(self, plan: LevelPlan) -> AsyncGenerator[LevelEvent, None]:
        """Runs one level. The iterator ends after LevelEnd; it raises PreflightError for input that does not fit the
        model. Closing the iterator early ends the level."""

    async def served_version(self, probe: Probe) -> str:
        """The model version that the server's next response comes from, for probes without a version; "" if the server
        does not report it, or not in time."""

    async def stop_level(self) -> None:
        """Ends the running level: sends nothing more, waits briefly for the requests in flight, then gives them up. The
        iterator still delivers LevelEnd."""

    @property
    def sent(self) -> int:
        """Requests sent since the worker started, counted when they are sent: known even if the worker is lost."""

    @property
    def asked(self) -> int:
        """The requests among them that went to a reference model; they are in no window."""

    @property
    def tokens(self) -> int:
        """Tokens spent by its requests since the worker started, for targets that take prompts; also known if the
        worker is lost."""

    async def silence(self) -> None:
        """Returns once nothing more is sent: ends the running level, and kills a worker that still continues. `sent` is
        final only then."""

    async def end_sweep(self) -> None:
        """Ends the sweep: closes connections to its target and makes the worker ready for another sweep."""

    async def kill(self) -> None:
        """Kills the worker and waits until it is gone. Never raises."""


Borrow = Callable[[], AbstractAsyncContextManager[Worker]]
"""Lends a worker for one sweep. Raises WorkerLostError if none starts."""
