"""The server's trace settings for the time of a sweep, put back on every way out of it.

Done by the daemon, not by the worker that makes the load: that can be lost at any moment.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

from exporter.errors import PreflightError
from exporter.logs import fields
from exporter.outcome import Reason
from exporter.probe import Probe
from exporter.services import KINDS
from exporter.services.base import Control, TraceSettings
from exporter.target import Target
from exporter.units import NS

RESTORE_LIMIT_NS = 5 * NS
"""How long the settings may take to put back, however the sweep ended."""

_log = logging.getLogger(__name__)
_T = TypeVar("_T")

MakeControl = Callable[[Target], Control]


def control_of(target: Target) -> Control:
    """The control plane of a target."""
    return KINDS[target.kind]().control(target, target.connect_timeout_ns)


@asynccontextmanager
async def server_settings(probe: Probe, make_control: MakeControl = control_of) -> AsyncIterator[None]:
    """Sets what the probe asks for, if anything, and puts back what was there. Raises PreflightError if it cannot be
    set; what cannot be put back is said in the log."""
    wanted = trace_settings(probe)
    if not wanted:
        yield
        return
    control = make_control(probe.target)
    try:
        before = await _within_limit(control.trace_settings(probe.model, wanted), probe.target.connect_timeout_ns)
        try:
            await _within_limit(control.set_trace(probe.model, wanted), probe.target.connect_timeout_ns)
            yield
        finally:
            # A second cancellation must not leave a server that traces for ever.
            await asyncio.shield(asyncio.create_task(_put_back(control, probe, before)))
    finally:
        await control.close()


def trace_settings(probe: Probe) -> TraceSettings:
    """What the probe asks for, in Triton's names and texts."""
    settings = probe.server_settings
    if settings is None:
        return {}
    numbers = {
        "trace_rate": settings.trace_rate,
        "trace_count": settings.trace_count,
        "log_frequency": settings.log_frequency,
    }
    wanted: TraceSettings = {name: str(number) for name, number in numbers.items() if number is not None}
    return wanted if settings.trace_level is None else {"trace_level": list(settings.trace_level), **wanted}


async def _within_limit(call: Awaitable[_T], limit_ns: int) -> _T:
    try:
        async with asyncio.timeout(limit_ns / NS):
            return await call
    except TimeoutError as error:
        text = f"the trace settings were not answered within {limit_ns / NS:g} s"
        raise PreflightError(Reason.PREFLIGHT_TIMEOUT, text) from error


async def _put_back(control: Control, probe: Probe, before: TraceSettings) -> None:
    try:
        await _within_limit(control.set_trace(probe.model, before), RESTORE_LIMIT_NS)
    except PreflightError as error:
        what = ", ".join(f"{name}={value}" for name, value in before.items())
        _log.error(
            "the server's trace settings may not be as they were before the sweep",
            extra=fields(
                target=probe.target.name, probe=probe.name, model=probe.model, settings=what, error=str(error)
            ),
        )
