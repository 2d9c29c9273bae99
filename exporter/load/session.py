"""What a worker does for one sweep after the other: preflight, levels, the end. Knows nothing of processes.

Owns what lives as long as a sweep: the connection for the slow calls, and the account of abandoned requests.
"""

from __future__ import annotations

from collections.abc import Mapping

from exporter.errors import InputError, PreflightError
from exporter.load.abandoned import Abandoned
from exporter.load.engine import Level, Publish
from exporter.load.protocol import LevelPlan
from exporter.model import ModelFacts, Reason
from exporter.payload import make_steps
from exporter.probe import Probe, Target
from exporter.services.base import Control, Service


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
        return await control.preflight(probe.model, probe.version)

    async def run_level(self, plan: LevelPlan, publish: Publish) -> None:
        """Runs one level; its events go to `publish`, LevelEnd the last. Raises PreflightError if the input asked for
        does not fit the model."""
        service = self._service(plan.probe.target)
        control = self._control or self._make_control(plan.probe.target)
        try:
            steps = make_steps(plan.facts, plan.probe.input)
            requests = service.encode(plan.probe, plan.facts, steps, plan.sweep_id)
            level = Level(
                plan,
                service=service,
                control=control,
                requests=requests,
                streams=[range(len(requests))],
                abandoned=self._abandoned,
                publish=publish,
            )
        except InputError as error:
            raise PreflightError(Reason.BAD_INPUT, str(error)) from error
        self._level = level
        try:
            await level.run()
        finally:
            self._level = None

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

    def _make_control(self, target: Target) -> Control:
        self._control = self._service(target).control(target, target.connect_timeout_ns)
        return self._control

    def _service(self, target: Target) -> Service:
        service = self._kinds.get(target.kind)
        if service is None:
            raise PreflightError(Reason.UNSUPPORTED, f"target {target.name}: no service kind {target.kind!r}")
        return service
