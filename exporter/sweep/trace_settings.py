"""The server's trace settings during a sweep. They are restored on every exit that leaves time for a request.

Done by the daemon: the worker that generates the load can be lost at any time. Code that ends this process without
waiting for its sweeps calls `put_back_now` first. Nothing helps against SIGKILL.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TypeVar

from exporter.core.errors import PreflightError
from exporter.core.outcome import Reason
from exporter.core.probe import Probe
from exporter.core.target import Target
from exporter.core.units import NS
from exporter.logs import fields
from exporter.services import SERVICES
from exporter.services.base import Control, TraceSettings

RESTORE_LIMIT_NS = 5 * NS
"""The time limit for restoring the settings, however the sweep ended."""

HURRIED_LIMIT_NS = NS
"""The time limit for restoring all settings when the process ends at once."""

_NO_TRACE_FILE = "trace file name is not given"
_TRACE_FLAG = "--trace-config triton,file=FILE (before release 22.12: --trace-file FILE)"

_log = logging.getLogger(__name__)
_T = TypeVar("_T")

MakeControl = Callable[[Target], Control]


@dataclass(eq=False, slots=True)
class _Change:
    """Settings that a running sweep has changed, or may have changed."""

    probe: Probe
    before: TraceSettings
    make_control: MakeControl
    is_back: bool = False

    def __str__(self) -> str:
        return (
            f"the trace settings of model {self.probe.model!r} at {self.probe.target.url} may not be as they were "
            f"before the sweep: put back {_shown(self.before)}"
        )


_open: list[_Change] = []
"""The changes of this process, which must not outlive it."""


def control_of(target: Target) -> Control:
    """The control plane of a target."""
    return SERVICES[target.kind]().control(target, target.connect_timeout_ns)


@asynccontextmanager
async def server_settings(probe: Probe, make_control: MakeControl = control_of) -> AsyncIterator[None]:
    """Applies the probe's trace settings, if any, and restores the previous ones. Raises PreflightError if they cannot
    be set; logs an error if they cannot be restored."""
    wanted = trace_settings(probe)
    if not wanted:
        yield
        return
    control = make_control(probe.target)
    try:
        before = await _within_limit(control.trace_settings(probe.model, wanted), probe.target.connect_timeout_ns)
        change = _Change(probe, before, make_control)
        _open.append(change)
        try:
            try:
                await _within_limit(control.set_trace(probe.model, wanted), probe.target.connect_timeout_ns)
            except PreflightError as error:
                raise _with_flag(error) from error
            yield
        finally:
            # A second cancellation must not leave the server tracing.
            await asyncio.shield(asyncio.create_task(_put_back(control, change)))
    finally:
        await control.close()


def _with_flag(error: PreflightError) -> PreflightError:
    """Adds the missing server flag to the error: without a trace file Triton refuses trace settings, and gives no
    hint."""
    if _NO_TRACE_FILE not in str(error):
        return error
    text = f"server_settings: the server has no file for its traces: start it with {_TRACE_FLAG} ({error})"
    return PreflightError(Reason.UNSUPPORTED, text)


def put_back_now() -> list[str]:
    """For a process that ends at once: restores the settings of running sweeps while the event loop is stuck, within
    HURRIED_LIMIT_NS. Returns a line for each server that may not be restored, with the settings to restore."""
    changes = tuple(_open)
    if changes:
        # In a thread: the caller may be this thread's event loop.
        thread = threading.Thread(target=lambda: asyncio.run(_put_all_back(changes)), daemon=True)
        thread.start()
        thread.join(HURRIED_LIMIT_NS / NS)
    return [str(change) for change in changes if not change.is_back]


async def _put_all_back(changes: Sequence[_Change]) -> None:
    async def put_back(change: _Change) -> None:
        control = change.make_control(change.probe.target)
        try:
            await control.set_trace(change.probe.model, change.before)
            change.is_back = True
        finally:
            await control.close()

    # Failures stay unmarked, and are reported.
    await asyncio.gather(*map(put_back, changes), return_exceptions=True)


def trace_settings(probe: Probe) -> TraceSettings:
    """The probe's trace settings, by Triton's names and as texts."""
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
        text = f"the trace settings got no response within {limit_ns / NS:g} s"
        raise PreflightError(Reason.PREFLIGHT_TIMEOUT, text) from error


async def _put_back(control: Control, change: _Change) -> None:
    probe = change.probe
    try:
        await _within_limit(control.set_trace(probe.model, change.before), RESTORE_LIMIT_NS)
    except PreflightError as error:
        what = _shown(change.before)
        _log.error(
            "the server's trace settings may not be as they were before the sweep",
            extra=fields(
                target=probe.target.name, probe=probe.name, model=probe.model, settings=what, error=str(error)
            ),
        )
    finally:
        _open.remove(change)


def _shown(settings: TraceSettings) -> str:
    """None shows as `null`, which resets a setting to Triton's own."""
    return ", ".join(f"{name}={'null' if value is None else value}" for name, value in settings.items())
