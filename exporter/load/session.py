"""What a worker does for one sweep after the other: preflight, levels, the end. Knows nothing of processes.

Owns what lives as long as a sweep: the connection for the slow calls, the data, the readings of the server's metrics,
and the account of abandoned requests.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace

from exporter.errors import InputError, PreflightError
from exporter.load.abandoned import Abandoned
from exporter.load.data import Data
from exporter.load.engine import Level, Publish
from exporter.load.protocol import LevelPlan
from exporter.model import ModelFacts, Reason
from exporter.probe import Probe, Target
from exporter.server.poller import Poller
from exporter.server.readers import open_readers
from exporter.services.base import Control, Service
from exporter.transport.dial import settle

SHOWN_FAULTS = 5
"""Faults of the input that a sweep tells: its text stands in the log, on the page and in the archive."""


class Session:
    """Runs commands one at a time, but for `stop` and `proceed`, which are for the running
    level. `kinds` are the service kinds."""

    def __init__(self, kinds: Mapping[str, Service]) -> None:
        self._kinds = kinds
        self._control: Control | None = None
        self._abandoned = Abandoned()
        self._pollers: list[Poller] | None = None
        self._data = Data()
        self._level: Level | None = None
        self._stopped = False

    async def preflight(self, probe: Probe) -> ModelFacts:
        """Begins a sweep: settles on an address of the target, where its policy is to keep to one, and asks the server
        there whether the probe can run. Raises PreflightError if not."""
        await self.end_sweep()
        address = await settle(probe.target)
        control = self._make_control(replace(probe.target, address=address))
        facts = await control.preflight(probe.model, probe.version, probe.composing_models)
        return replace(facts, address=address)

    async def run_level(self, plan: LevelPlan, publish: Publish) -> None:
        """Runs one level; its events go to `publish`, LevelEnd the last. Raises PreflightError if the input asked for
        does not fit the model."""
        self._stopped = False
        plan = _settled(plan)
        service = self._service(plan.probe.target)
        control = self._control or self._make_control(plan.probe.target)
        try:
            steps = await self._data.requests(plan, control)
            requests = service.encode(plan.probe, plan.facts, [step.inputs for step in steps], plan.sweep_id)
        except InputError as error:
            raise PreflightError(Reason.BAD_INPUT, error.first(SHOWN_FAULTS)) from error
        await self._start_pollers(plan)
        self._level = Level(
            plan,
            service=service,
            control=control,
            requests=requests,
            abandoned=self._abandoned,
            pollers=self._pollers or (),
            publish=publish,
            steps=steps,
        )
        if self._stopped:  # while the data was read
            self._level.stop()
        try:
            await self._level.run()
        finally:
            self._level = None

    def stop(self) -> None:
        """Ends the running level, if there is one."""
        self._stopped = True
        if self._level is not None:
            self._level.stop()

    def proceed(self, at_ns: int) -> None:
        """The running level of a group's member goes on at this moment."""
        if self._level is not None:
            self._level.proceed(at_ns)

    async def end_sweep(self) -> None:
        """Closes what belonged to the sweep."""
        control, self._control = self._control, None
        pollers, self._pollers = self._pollers, None
        self._abandoned = Abandoned()
        for poller in pollers or ():
            poller.close()
        self._data = Data()
        if control is not None:
            await control.close()

    async def _start_pollers(self, plan: LevelPlan) -> None:
        """Begins to read the server's metrics, once a sweep, and by one worker only of those that share a level."""
        if self._pollers is None and plan.member == 0:
            target, facts = plan.probe.target, plan.facts
            readers = await asyncio.to_thread(open_readers, target, facts.name, facts.asked_version)
            self._pollers = [Poller(reader, target.metrics_interval_ns) for reader in readers]

    def _make_control(self, target: Target) -> Control:
        self._control = self._service(target).control(target, target.connect_timeout_ns)
        return self._control

    def _service(self, target: Target) -> Service:
        service = self._kinds.get(target.kind)
        if service is None:
            raise PreflightError(Reason.UNSUPPORTED, f"target {target.name}: no service kind {target.kind!r}")
        return service


def _settled(plan: LevelPlan) -> LevelPlan:
    """The plan for the address that preflight found, whichever worker asked."""
    target = replace(plan.probe.target, address=plan.facts.address)
    return replace(plan, probe=replace(plan.probe, target=target))
