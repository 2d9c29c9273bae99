"""What a worker does for one sweep after the other: preflight, levels, the end. Knows nothing of processes.

Owns what lives as long as a sweep: the connection for the slow calls, and the account of abandoned requests.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping

from exporter.errors import InputError, PreflightError
from exporter.load.abandoned import Abandoned
from exporter.load.engine import Level, Publish, places_in_flight
from exporter.load.protocol import LevelPlan
from exporter.model import ModelFacts, Reason
from exporter.payload import make_steps
from exporter.probe import NS, Probe, Target
from exporter.services.base import Control, Service, SharedRequests

UNSHARE_LIMIT_NS = 10 * NS
"""How long the end of a level with shared memory waits at most for requests that were given up."""


class Session:
    """Runs commands one at a time, but for `stop` and `proceed`, which are for the running
    level. `kinds` are the service kinds."""

    def __init__(self, kinds: Mapping[str, Service]) -> None:
        self._kinds = kinds
        self._control: Control | None = None
        self._abandoned = Abandoned()
        self._level: Level | None = None

    async def preflight(self, probe: Probe) -> ModelFacts:
        """Begins a sweep: asks the server whether the probe can run. Raises PreflightError if not."""
        await self.end_sweep()
        control = self._make_control(probe.target)
        facts = await control.preflight(probe.model, probe.version)
        if probe.input.shared_memory != "none":
            await self._service(probe.target).check_shared_memory(probe)
        return facts

    async def run_level(self, plan: LevelPlan, publish: Publish) -> None:
        """Runs one level; its events go to `publish`, LevelEnd the last. Raises PreflightError if the input asked for
        does not fit the model."""
        service = self._service(plan.probe.target)
        control = self._control or self._make_control(plan.probe.target)
        shared: SharedRequests | None = None
        try:
            steps = make_steps(plan.facts, plan.probe.input)
            if plan.probe.input.shared_memory != "none":
                shared = await service.share(plan.probe, plan.facts, steps, plan.sweep_id, places_in_flight(plan))
                requests, by_place = shared.by_place[0], shared.by_place
            else:
                requests, by_place = service.encode(plan.probe, plan.facts, steps, plan.sweep_id), []
            level = Level(
                plan,
                service=service,
                control=control,
                requests=requests,
                streams=[range(len(requests))],
                by_place=by_place,
                abandoned=self._abandoned,
                publish=publish,
            )
            self._level = level
            await level.run()
        except InputError as error:
            raise PreflightError(Reason.BAD_INPUT, str(error)) from error
        finally:
            self._level = None
            if shared is not None:
                await self._unshare(shared)

    def stop(self) -> None:
        """Ends the running level, if there is one."""
        if self._level is not None:
            self._level.stop()

    def proceed(self, at_ns: int) -> None:
        """The running level of a group's member goes on at this moment."""
        if self._level is not None:
            self._level.proceed(at_ns)

    async def end_sweep(self) -> None:
        """Closes what belonged to the sweep."""
        control, self._control = self._control, None
        self._abandoned = Abandoned()
        if control is not None:
            await control.close()

    async def _unshare(self, shared: SharedRequests) -> None:
        """Takes shared memory back, once the server can't be writing to it any more: requests that were given up are
        waited for until they are presumed dropped."""
        now_ns = time.monotonic_ns()
        last_ns = min(self._abandoned.last_expiry_ns() or now_ns, now_ns + UNSHARE_LIMIT_NS)
        await asyncio.sleep((last_ns - now_ns) / NS)
        await shared.close()

    def _make_control(self, target: Target) -> Control:
        self._control = self._service(target).control(target, target.connect_timeout_ns)
        return self._control

    def _service(self, target: Target) -> Service:
        service = self._kinds.get(target.kind)
        if service is None:
            raise PreflightError(Reason.UNSUPPORTED, f"target {target.name}: no service kind {target.kind!r}")
        return service
