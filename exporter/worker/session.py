"""What a worker does for one sweep after the other: preflight, levels, the end. Knows nothing of processes.

Owns what lives as long as a sweep: the connection for the slow calls, the data, and the readings of the server's
metrics.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace

from exporter.core.errors import InputError, PreflightError
from exporter.core.facts import ModelFacts
from exporter.core.outcome import Reason
from exporter.core.probe import Probe
from exporter.core.target import Target
from exporter.core.units import NS
from exporter.engine.abandoned import Abandoned
from exporter.engine.guard import Stop
from exporter.engine.level import Level, Publish
from exporter.engine.level_setup import places_in_flight
from exporter.engine.plan import LevelPlan
from exporter.engine.tally import Allowance
from exporter.payload import Step
from exporter.payload.input_errors import NOT_SEEN
from exporter.server.poller import Poller, open_readers
from exporter.services.base import Control, Service, SharedRequests
from exporter.services.bounded import BoundedControl
from exporter.services.connectivity import no_response
from exporter.storage.account import Account
from exporter.transport.dial import settle
from exporter.worker.data import Data

SHOWN_PROBLEMS = 5
"""Errors of the input that a sweep's text reports: it is in the log, on the page and in the archive."""

UNSHARE_LIMIT_NS = 10 * NS
"""How long the end of a level with shared memory waits at most for requests that were given up."""


class Session:
    """Runs commands one at a time, but for `stop` and `proceed`, which are for the running
    level. `kinds` are the service kinds."""

    def __init__(self, kinds: Mapping[str, Service], account: Account | None = None) -> None:
        """What is sent is counted in the `account`."""
        self._kinds = kinds
        self._account = account or Account()
        self._control: Control | None = None
        self._abandoned = Abandoned()
        self._pollers: list[Poller] | None = None
        self._data = Data()
        self._level: Level | None = None
        self._stopped: Stop | None = None

    async def preflight(self, probe: Probe) -> ModelFacts:
        """Begins a sweep: settles on an address of the target, where its policy is to keep to one, and asks the server
        there whether the probe can run. Raises PreflightError if not."""
        await self.end_sweep()
        address = await settle(probe.target)
        probe = replace(probe, target=replace(probe.target, address=address))
        control = self._make_control(probe.target)
        facts = await control.preflight(probe.model, probe.version, probe.composing_models, probe.input)
        if probe.input.shared_memory != "none":
            await self._service(probe.target).check_shared_memory(probe)
        return replace(facts, address=address)

    async def ready_models(self, target: Target) -> tuple[str, ...]:
        """The server's models that are ready; no part of a sweep. Raises PreflightError."""
        control = self._bounded_control(target)
        try:
            async with asyncio.timeout(target.connect_timeout_ns / NS):
                return await control.ready_models()
        except TimeoutError as error:
            raise await no_response(target, target.connect_timeout_ns) from error
        finally:
            await control.close()

    async def served_version(self, probe: Probe) -> str:
        """The version of the model that responds now, "" if the server does not report it in time. Asked over the
        connection of the sweep."""
        if self._control is not None:
            with contextlib.suppress(PreflightError, TimeoutError):
                async with asyncio.timeout(probe.target.connect_timeout_ns / NS):
                    return await self._control.served_version(probe.model)
        return ""

    async def run_level(self, plan: LevelPlan, publish: Publish) -> None:
        """Runs one level; its events go to `publish`, LevelEnd the last. Raises PreflightError if the input asked for
        does not fit the model."""
        self._stopped = None
        plan = _settled(plan)
        self._abandoned = Abandoned(plan.abandoned_until_ns)
        service = self._service(plan.probe.target)
        control = self._control or self._make_control(plan.probe.target)
        shared: SharedRequests | None = None
        try:
            before = self._account.asked
            data = await self._data.requests(plan, control, self._may_ask)
            plan = replace(plan, max_requests=plan.max_requests - (self._account.asked - before))
            inputs = [step.inputs for step in data.steps]
            if plan.probe.input.shared_memory != "none":
                _refuse_expected(data.steps)
                shared = await service.share(plan.probe, plan.facts, inputs, plan.sweep_id, places_in_flight(plan))
                by_place = shared.by_place
            else:
                by_place = [service.encode(plan.probe, plan.facts, inputs, plan.sweep_id)]
            await self._start_pollers(plan)
            level = Level(
                plan,
                service=service,
                control=control,
                by_place=by_place,
                steps=data.steps,
                streams=data.streams,
                abandoned=self._abandoned,
                pollers=self._pollers or (),
                publish=publish,
                account=self._account,
            )
            self._level = level
            self._stop_if_asked(level)
            await level.run()
        except InputError as error:
            raise PreflightError(Reason.BAD_INPUT, error.first(SHOWN_PROBLEMS), problems=error.lines) from error
        finally:
            self._level = None
            if shared is not None:
                await self._unshare(shared)

    def _may_ask(self) -> bool:
        """Counts a request to a reference model, unless the level was stopped, or the lease is over."""
        if self._stopped is not None or self._account.is_lease_over():
            return False
        self._account.ask()
        return True

    def stop(self, stop: Stop | None = None) -> None:
        """Ends the running level, if there is one, as its conductor wishes or for this reason."""
        self._stopped = stop or Stop()
        if self._level is not None:
            self._level.stop(stop)

    def _stop_if_asked(self, level: Level) -> None:
        """It may have been while the data was read."""
        if self._stopped is not None:
            level.stop(self._stopped)

    def proceed(self, at_ns: int) -> None:
        """The running level of a group's member continues at this moment."""
        if self._level is not None:
            self._level.proceed(at_ns)

    def report_tally(self) -> None:
        """The running level of a group's member reports its responses so far."""
        if self._level is not None:
            self._level.report_tally()

    def resume(self, allowed: Allowance) -> None:
        """The running level of a group's member continues after its alarm."""
        if self._level is not None:
            self._level.resume(allowed)

    async def end_sweep(self) -> None:
        """Closes what belonged to the sweep."""
        control, self._control = self._control, None
        pollers, self._pollers = self._pollers, None
        await asyncio.gather(*(poller.close() for poller in pollers or ()))
        self._data = Data()
        if control is not None:
            await control.close()

    async def _start_pollers(self, plan: LevelPlan) -> None:
        """Begins to read the server's metrics, once a sweep, and by one worker only of those that share a level."""
        if self._pollers is None and plan.member == 0:
            target, facts = plan.probe.target, plan.facts
            readers = await asyncio.to_thread(open_readers, target, facts.name, facts.asked_version)
            self._pollers = [Poller(reader, target.metrics_interval_ns) for reader in readers]

    async def _unshare(self, shared: SharedRequests) -> None:
        """Takes shared memory back, once the server can't be writing to it any more: requests that were given up are
        waited for until they are presumed dropped."""
        now_ns = time.monotonic_ns()
        last_ns = min(self._abandoned.last_expiry_ns() or now_ns, now_ns + UNSHARE_LIMIT_NS)
        await asyncio.sleep((last_ns - now_ns) / NS)
        await shared.close()

    def _make_control(self, target: Target) -> Control:
        self._control = self._bounded_control(target)
        return self._control

    def _bounded_control(self, target: Target) -> Control:
        return BoundedControl(self._service(target).control(target, target.connect_timeout_ns), target)

    def _service(self, target: Target) -> Service:
        service = self._kinds.get(target.kind)
        if service is None:
            raise PreflightError(Reason.UNSUPPORTED, f"target {target.name}: no service kind {target.kind!r}")
        return service


def _settled(plan: LevelPlan) -> LevelPlan:
    """The plan for the address that preflight found, whichever worker asked."""
    target = replace(plan.probe.target, address=plan.facts.address)
    return replace(plan, probe=replace(plan.probe, target=target))


def _refuse_expected(steps: Sequence[Step]) -> None:
    """Raises InputError if anything is expected of responses that go to shared memory, where they are not read."""
    place = next((step.place for step in steps if step.expected), None)
    if place is not None:
        raise InputError(f"{place}: {NOT_SEEN}")
