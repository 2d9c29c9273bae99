"""This project's own load as the daemon makes it: a worker process, a level plan, its windows.

The one thing left out is the judging: as many windows as asked for are measured, stable or not.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass

import numpy as np

from bench.programs import BenchError
from exporter.core.errors import PreflightError
from exporter.core.facts import ModelFacts
from exporter.core.outcome import Outcome, Reason
from exporter.core.probe import (
    Distribution,
    InputOptions,
    LoadLevel,
    MeasurementOptions,
    Mode,
    Probe,
    Schedule,
    StopRules,
)
from exporter.core.target import Target
from exporter.core.units import NS
from exporter.core.window import LevelEnd, RecordColumns, Window
from exporter.demo.triton import ADDRESS
from exporter.engine.plan import LevelEvent, LevelPlan, Worker
from exporter.payload import make_steps
from exporter.services import SERVICES
from exporter.transport.call import EncodedRequest

NO_LIMIT = 1 << 50
"""The bench's own lengths bound a level: no budget of requests or of nanoseconds (13 days) does."""


@dataclass(frozen=True, slots=True)
class OwnRun:
    """The measured windows of one level, and the cpu time of each watched process between the first edge and the
    last."""

    windows: tuple[Window, ...]
    cpu_ns: tuple[int, ...]

    @property
    def columns(self) -> RecordColumns:
        """All requests that ended in the windows."""
        return RecordColumns.concatenate([window.columns for window in self.windows])

    @property
    def seconds(self) -> float:
        """The windows' length."""
        return sum(window.duration_ns for window in self.windows) / NS

    @property
    def throughput(self) -> float:
        """Responses a second."""
        return sum(len(window.columns) for window in self.windows) / self.seconds

    @property
    def sent_per_second(self) -> float:
        """Sends a second."""
        return sum(window.sent for window in self.windows) / self.seconds

    @property
    def unsent(self) -> int:
        """Requests that were due and could not be sent."""
        return sum(window.unsent for window in self.windows)

    @property
    def cpu_us_per_request(self) -> float:
        """Microseconds, of all watched processes."""
        return sum(self.cpu_ns) / 1000 / sum(len(window.columns) for window in self.windows)

    @property
    def mean_latency_ns(self) -> float:
        """From the first byte sent to the last byte read."""
        columns = self.columns
        return float(np.mean(columns.last_ns - columns.sent_ns))


def make_probe(
    *, endpoint: str, port: int, model: str, level: LoadLevel, window_seconds: float, elements: int | None = None
) -> Probe:
    """A probe of one level at an endpoint of the embedded server; all else is as by default, which is as in
    perf_analyzer. `elements` is the length of the tensor INPUT0, for models that leave it open."""
    target = Target(name=endpoint, kind="triton", scheme=endpoint, host=ADDRESS, port=port, group=ADDRESS)
    return Probe(
        name="bench",
        target=target,
        model=model,
        version="",
        schedule=Schedule(interval_ns=60 * NS),
        levels=(level,),
        measurement=MeasurementOptions(window_ns=round(window_seconds * NS)),
        input=InputOptions(shapes=(("INPUT0", (elements,)),) if elements else ()),
        stop=StopRules(max_requests=NO_LIMIT, max_duration_ns=NO_LIMIT),
    )


def concurrency(value: int) -> LoadLevel:
    """A closed loop with so many requests in flight."""
    return LoadLevel(Mode.CONCURRENCY, float(value), str(value))


def request_rate(per_second: float) -> LoadLevel:
    """An open loop."""
    return LoadLevel(Mode.REQUEST_RATE, per_second, f"{per_second:g}")


def poisson_rate(per_second: float, seed: int) -> LoadLevel:
    """An open loop with exponential gaps."""
    return LoadLevel(Mode.REQUEST_RATE, per_second, f"{per_second:g}", Distribution.POISSON, seed)


async def run_level(worker: Worker, pids: Sequence[int], probe: Probe, windows: int) -> OwnRun:
    """Runs the probe's one level until so many windows are measured, and watches the cpu time of these processes.
    Raises BenchError if the level ends by itself or a request of theirs fails."""
    measured: list[Window] = []
    first_cpu_ns = last_cpu_ns = [0] * len(pids)
    async with level_events(worker, probe) as events:
        async for event in events:
            if isinstance(event, LevelEnd) and (event.reason is not Reason.NONE or len(measured) < windows):
                raise BenchError(f"our level ended early: {event.reason} {event.text}")
            if not isinstance(event, Window) or len(measured) == windows:
                continue
            last_cpu_ns = [process_cpu_ns(pid) for pid in pids]
            if event.warm_up:
                first_cpu_ns = last_cpu_ns
                continue
            raise_if_failed(event)
            measured.append(event)
            if len(measured) == windows:
                await worker.stop_level()
    cpu_ns = tuple(last - first for first, last in zip(first_cpu_ns, last_cpu_ns, strict=True))
    return OwnRun(tuple(measured), cpu_ns)


@asynccontextmanager
async def level_events(worker: Worker, probe: Probe) -> AsyncIterator[AsyncIterator[LevelEvent]]:
    """What the probe's one level reports, as a sweep of its own. Raises BenchError if it can't run."""
    try:
        facts = await worker.preflight(probe)
        level = probe.levels[0]
        limits = NO_LIMIT, probe.stop.max_duration_ns
        plan = LevelPlan("bench", probe, facts, level, *limits, seed=level.seed or 0)
        async with aclosing(worker.run_level(plan)) as events:
            yield events
        await worker.end_sweep()
    except PreflightError as error:
        raise BenchError(f"our load could not run: {error}") from error


def raise_if_failed(window: Window) -> None:
    """Raises BenchError if a request of the window failed."""
    failed = sorted({Outcome(code).label for code in np.unique(window.columns.outcome)} - {Outcome.OK.label})
    if failed:
        raise BenchError(f"our load had requests that ended as {', '.join(failed)}: {window.error_text}")


def encode(probe: Probe, facts: ModelFacts) -> EncodedRequest:
    """The request that the probe sends, as bytes."""
    return SERVICES[probe.target.kind]().encode(probe, facts, make_steps(facts, probe.input), "bench")[0]


def process_cpu_ns(pid: int) -> int:
    """User and system time of all threads of a process, to the nanosecond: its CPU clock, whose number is made as in
    clock_getcpuclockid(3)."""
    return time.clock_gettime_ns((~pid << 3) | 2)
