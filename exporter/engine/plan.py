"""What crosses the border to a worker process, and the seam at which workers of another kind can be used."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

from exporter.core.facts import ModelFacts
from exporter.core.probe import DEFAULT_MAX_TOKENS, LoadLevel, Probe
from exporter.core.window import ConnectionTimes, LevelEnd, Window


@dataclass(frozen=True, slots=True)
class LevelPlan:
    """All that a worker must know to run one level. The worker ends it by itself when `max_requests` have been sent,
    at the error ratio of `probe.stop`, or `max_duration_ns` after its start; the conductor ends it by `stop`. It also
    ends after `max_windows` measured windows (0: as many as come), so that no limit depends on how fast windows are
    taken up. `abandoned_until_ns` are requests that earlier levels and sweeps gave up on, each with the moment at which
    it is presumed dropped: they take places in flight till then. Nothing is sent before `spared_until_ns`, by the
    server's wish.

    `seed` is of random arrivals. `max_tokens` is what is left of the sweep's, of a target that takes prompts.

    Where several workers share the level (see `group`), this is the part of worker `member` of `members`: it meets the
    others before it begins to send and before it begins to measure, and only member 0 asks for the server's statistics.
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
    """The level's connections are open and its first request has ended; the load begins, and warms up."""

    connection: ConnectionTimes


@dataclass(frozen=True, slots=True)
class LevelWaiting:
    """A member of a group is as far as it can come alone, and waits for the others."""


LevelEvent = LevelStarted | Window | LevelEnd
"""What a level reports, in this order: once started (if it came so far), windows as they end, once its end."""

MemberEvent = LevelEvent | LevelWaiting
"""What the part of a level reports that is a group member's."""


class Worker(Protocol):
    """Runs the load of one sweep after the other. All methods raise WorkerLostError if the worker is gone or is lost
    meanwhile; a lost worker is of no more use."""

    async def preflight(self, probe: Probe) -> ModelFacts:
        """Asks the server whether the probe can run. Raises PreflightError with the reason if not."""

    def run_level(self, plan: LevelPlan) -> AsyncGenerator[LevelEvent, None]:
        """Runs one level. The iterator ends after LevelEnd; input that does not fit the model raises PreflightError.
        Closing the iterator early ends the level."""

    async def served_version(self, probe: Probe) -> str:
        """The version of the probe's model that the server's next response comes from, where the probe names none; ""
        where the server does not report it, or not in time."""

    async def stop_level(self) -> None:
        """Asks the running level to end: nothing more is sent, what is in flight is awaited for a short while, then
        given up. The iterator still delivers LevelEnd."""

    @property
    def sent(self) -> int:
        """Requests that it has sent so far in its life, counted where they are sent: known of a lost one, too."""

    @property
    def asked(self) -> int:
        """Those of them that went to a reference model: they are in no window."""

    @property
    def tokens(self) -> int:
        """Tokens that its requests have spent so far in its life, of targets that take prompts: likewise."""

    async def silence(self) -> None:
        """Returns once nothing more is sent: ends the level that runs, and kills a worker that continues nevertheless.
        Only then is `sent` the last word."""

    async def end_sweep(self) -> None:
        """The sweep is over: connections to its target are closed, the worker is ready for another."""

    async def kill(self) -> None:
        """Ends the worker at once and waits until it is gone. Never raises."""


Borrow = Callable[[], AbstractAsyncContextManager[Worker]]
"""Lends a worker for the time of one sweep. Raises WorkerLostError if none comes up."""
