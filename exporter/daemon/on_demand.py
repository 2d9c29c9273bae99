"""Sweeps on demand: one short level, now, for who asks and waits. Under the same locks and limits as scheduled ones.

Their requests count like all others; their results go to who asked alone, and to no baseline. It must not know HTTP.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace

from exporter.core.outcome import Reason, SkipReason
from exporter.core.probe import BaselineOptions, Probe, WindowMode
from exporter.core.result import Sink, SweepResult, WindowCounts
from exporter.core.units import NS
from exporter.engine.plan import Borrow
from exporter.logs import fields
from exporter.schedule.ledger import Ledger
from exporter.schedule.scheduler import Scheduler
from exporter.sweep.conductor import Sweep
from exporter.sweep.leftovers import Leftovers
from exporter.sweep.preflight import Pins
from exporter.web.probe_routes import NoSweep

_log = logging.getLogger("exporter.on_demand")

_WINDOW_PART = 0.4
_WARM_UP_PART = 0.1
"""Of the time that there is. The rest is for the preflight, the connections, and the last responses."""


def shortened(probe: Probe, seconds: float) -> Probe:
    """The probe's first level alone, in one window, within about so many seconds."""
    time_ns = round(seconds * NS)
    window_ns = min(probe.measurement.window_ns, round(time_ns * _WINDOW_PART))
    measurement = replace(
        probe.measurement,
        window_mode=WindowMode.TIME,
        window_ns=window_ns,
        stability_windows=1,
        max_windows=1,
        repeats=1,
        request_count=0,
        warm_up_requests=0,
        warm_up_ns=min(probe.measurement.warm_up_ns, round(time_ns * _WARM_UP_PART)),
        request_timeout_ns=min(probe.measurement.request_timeout_ns, window_ns),
    )
    stop = replace(probe.stop, max_duration_ns=min(probe.stop.max_duration_ns, time_ns))
    return replace(
        probe,
        levels=probe.levels[:1],
        search=None,
        measurement=measurement,
        stop=stop,
        baseline=BaselineOptions(enabled=False),
    )


class OnDemand:
    """Runs sweeps for who waits for them. `probes` gives those that run now; `sinks` hear of the windows alone."""

    def __init__(
        self,
        scheduler: Scheduler,
        probes: Callable[[], Sequence[Probe]],
        lend: Callable[[Probe, str], Borrow],
        sinks: Sequence[Sink],
        *,
        pins: Pins,
        ledger: Ledger,
        leftovers: Leftovers | None = None,
    ) -> None:
        self._scheduler = scheduler
        self._probes = probes
        self._lend = lend
        self._sinks = sinks
        self._pins = pins
        self._leftovers = leftovers
        self._ledger = ledger

    def find(self, target: str, name: str) -> Probe | None:
        """The configured probe of these names."""
        return next((p for p in self._probes() if (p.target.name, p.name) == (target, name)), None)

    async def run(self, probe: Probe, seconds: float) -> SweepResult | NoSweep:
        """A short sweep of the probe, which takes at most so many seconds; or why it may not run now."""
        return await self.sweep(probe, shortened(probe, seconds), seconds)

    async def sweep(self, probe: Probe, short: Probe, seconds: float) -> SweepResult | NoSweep:
        """A sweep of what was made of the probe, within so many seconds; or why the probe may not run now."""
        sink = _OnDemandSink(self._sinks)
        allowed = self._ledger.allowed(probe)
        sweep = Sweep(short, [sink], self._pins, allowed=allowed, leftovers=self._leftovers)

        async def work(_: Probe) -> None:
            await sweep.run(self._lend(short, sweep.id))

        started = self._scheduler.run_extra(probe, work)
        if isinstance(started, SkipReason):
            return self._no_sweep(probe, started)
        try:
            _, running = await asyncio.wait({started}, timeout=seconds)
            if running:
                started.cancel(f"not done within {seconds:g} s")
                await asyncio.wait({started})
        except asyncio.CancelledError:
            started.cancel("its caller has ended")
            await asyncio.wait({started})
            raise
        finally:
            result = sink.result or sweep.result(Reason.SHUTDOWN, "it was cancelled before it started")
            self._ledger.charge(result)
            self._notify(result)
        return result

    def _no_sweep(self, probe: Probe, reason: SkipReason) -> NoSweep:
        if reason is not SkipReason.OVERLAP:
            return NoSweep[reason.name]
        return NoSweep.GROUP_BUSY if self._scheduler.is_busy(probe.target.group) else NoSweep.ALL_BUSY

    def _notify(self, result: SweepResult) -> None:
        _log.info(
            "sweep on demand",
            extra=fields(
                target=result.probe.target.name,
                probe=result.probe.name,
                status=result.status.value,
                reason=result.reason.value,
                detail=result.reason_text,
                duration_seconds=round(result.duration_ns / NS, 3),
                requests=sum(result.outcomes.values()),
            ),
        )


class _OnDemandSink:
    """A `Sink` in front of others: they get the windows' counts and no sweep; the result stays here."""

    def __init__(self, sinks: Sequence[Sink]) -> None:
        self._sinks = sinks
        self.result: SweepResult | None = None

    def sweep_started(self, probe: Probe, started_unix_s: float) -> None:
        """Not a scheduled one."""

    def window_ended(self, probe: Probe, counts: WindowCounts) -> None:
        for sink in self._sinks:
            sink.window_ended(probe, counts)

    def sweep_ended(self, result: SweepResult) -> None:
        self.result = result

    def sweep_skipped(self, probe: Probe, reason: SkipReason) -> None:
        """Never offered."""
