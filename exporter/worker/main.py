"""The worker process: one event loop that runs a session's commands. Started by `local_worker`, never by a person.

Arguments: the numbers of an inherited socket and of an inherited account, the log format, and the cpus to run on
("0,2", or "" for all).
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys
import traceback
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import uvloop

from exporter import logs
from exporter.core.errors import PreflightError
from exporter.core.outcome import Reason
from exporter.core.window import LevelEnd
from exporter.engine.guard import LEASE_OVER, Stop
from exporter.engine.kernel import die_with_parent, map_big_arrays
from exporter.engine.plan import MemberEvent
from exporter.services.base import Service
from exporter.storage.account import LOST_AFTER_SECONDS, SIGN_OF_LIFE_SECONDS, Account, SignOfLife
from exporter.worker.ipc import (
    Command,
    EndSweep,
    Failure,
    OfRunningLevel,
    Preflight,
    ProceedLevel,
    ReadModels,
    ReadVersion,
    Reply,
    ReportTally,
    RunLevel,
    StopLevel,
    encode,
    receive,
    without_secrets,
)
from exporter.worker.session import Session
from exporter.worker.worker_environment import HeaderVariables

SEND_TIMEOUT_SECONDS = 60.0
"""A daemon that takes nothing for so long is not alive any more."""

_log = logging.getLogger(__name__)


class DaemonGoneError(Exception):
    """The daemon takes no responses: it has ended."""


class Host:
    """Serves one daemon: reads its commands, runs them in their order, sends the responses."""

    def __init__(self, connection: socket.socket, kinds: Mapping[str, Service], account: Account | None = None) -> None:
        connection.setblocking(False)
        self._connection = connection
        # The same socket under a second handle whose sends wait: for a thread, so that they don't hold up the loop.
        self._outlet = connection.dup()
        self._outlet.settimeout(SEND_TIMEOUT_SECONDS)
        self._sending = ThreadPoolExecutor(1, "sender")
        self._account = account or Account()
        self._daemon = SignOfLife()
        self._session = Session(kinds, self._account)
        self._variables = HeaderVariables()
        self._commands: asyncio.Queue[Command] = asyncio.Queue()
        self._serial = 0
        self._stopped_serial = 0
        self._job: asyncio.Task[None] | None = None
        self._callback_error: BaseException | None = None

    async def serve(self) -> None:
        """Serves until the daemon closes its end, or a command fails for a reason that is an error of the daemon
        itself."""
        asyncio.get_running_loop().set_exception_handler(self._callback_failed)
        self._watch()
        await self._send(Reply(0, None, last=True))
        reading = asyncio.create_task(self._read())
        running = asyncio.create_task(self._run())
        done, _ = await asyncio.wait({reading, running}, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()

    def _watch(self) -> None:
        """Shows that this process runs, and ends the load if the daemon does not: who would end it?"""
        self._account.tick()
        if self._account.is_lease_over():
            self._session.stop(LEASE_OVER)
        if self._daemon.is_lost(self._account.renewals):
            self._session.stop(Stop(Reason.DAEMON_STALLED, f"the daemon was stuck for {LOST_AFTER_SECONDS:g} s"))
        asyncio.get_running_loop().call_later(SIGN_OF_LIFE_SECONDS, self._watch)

    async def _read(self) -> None:
        while True:
            try:
                command = await receive(self._connection)
            except (EOFError, ConnectionError):
                return
            assert isinstance(command, Command)
            if isinstance(command.what, OfRunningLevel):
                self._tell_level(command.serial, command.what)
            else:
                self._commands.put_nowait(command)

    def _tell_level(self, serial: int, what: OfRunningLevel) -> None:
        if isinstance(what, StopLevel):
            self._stopped_serial = serial
        if serial != self._serial:
            return
        if isinstance(what, StopLevel):
            self._session.stop()
        elif isinstance(what, ProceedLevel):
            self._session.proceed(what.at_ns)
        elif isinstance(what, ReportTally):
            self._session.report_tally()
        else:
            self._session.resume(what.allowed)

    async def _run(self) -> None:
        fit = True
        while fit:
            command = await self._commands.get()
            fit = await self._obey(command)

    async def _obey(self, command: Command) -> bool:
        """Runs one command and sends its responses. False if it failed in a way that leaves this process in doubt."""
        self._serial = command.serial
        self._job = asyncio.create_task(self._do(command))
        try:
            await self._job
        except DaemonGoneError:
            raise
        except PreflightError as error:
            failure = Failure(True, error.reason, str(error), error.problems)
        except (Exception, asyncio.CancelledError) as error:
            _log.exception("command failed", extra=logs.fields(command=type(command.what).__name__))
            last_line = traceback.format_exception_only(self._callback_error or error)[-1].strip()
            failure = Failure(False, Reason.INTERNAL, last_line)
        else:
            return True
        await self._send(Reply(command.serial, failure, last=True))
        return failure.expected

    async def _do(self, command: Command) -> None:
        serial, what = command.serial, command.what
        if isinstance(what, (Preflight, EndSweep)):
            self._variables.clear()
        self._variables.set(command.environment)
        if isinstance(what, Preflight):
            await self._send(Reply(serial, await self._session.preflight(what.probe), last=True))
        elif isinstance(what, RunLevel):
            self._account.serial = serial
            try:
                await self._run_level(serial, what)
            finally:
                self._account.silence()
        elif isinstance(what, ReadModels):
            await self._send(Reply(serial, await self._session.ready_models(what.target), last=True))
        elif isinstance(what, ReadVersion):
            await self._send(Reply(serial, await self._session.served_version(what.probe), last=True))
        elif isinstance(what, EndSweep):
            await self._session.end_sweep()
            await self._send(Reply(serial, None, last=True))

    async def _run_level(self, serial: int, what: RunLevel) -> None:
        async def publish(event: MemberEvent) -> None:
            await self._send(Reply(serial, event, last=isinstance(event, LevelEnd)))

        if serial == self._stopped_serial:  # no caller waits for it any more
            return
        await self._session.run_level(what.plan, publish)

    async def _send(self, response: Reply) -> None:
        response = replace(response, what=without_secrets(response.what))
        await asyncio.get_running_loop().run_in_executor(self._sending, self._send_now, response)

    def _send_now(self, response: Reply) -> None:
        try:
            for part in encode(response):
                self._outlet.sendall(part)
        except OSError as error:
            raise DaemonGoneError from error

    def _callback_failed(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """An exception in a callback, such as a channel's, is a bug of ours: the level that it happened in is void."""
        loop.default_exception_handler(context)
        error = context.get("exception")
        in_callback = "handle" in context or "protocol" in context
        if in_callback and error is not None and not isinstance(error, OSError) and self._job is not None:
            self._callback_error = error
            self._job.cancel()


def main(kinds: Mapping[str, Service]) -> None:
    """The process from its start to its end."""
    # The daemon decides when it ends: a Ctrl-C, a hang-up, or a stop of the whole service, reaches both, and must not
    # cut off the sweep that the daemon continues with, or is about to end in order.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    die_with_parent()
    map_big_arrays()
    _, descriptor, account, log_format, cpus = sys.argv
    logs.configure("warning", log_format)
    # What a user waits for: the reading of large input files.
    logging.getLogger("exporter.worker.data").setLevel(logging.INFO)
    if cpus:
        os.sched_setaffinity(0, {int(cpu) for cpu in cpus.split(",")})
    # A process that a library starts here, such as a model's, can outlive a crash of this one. With the socket in its
    # hands the daemon would wait for a worker that is gone.
    for inherited in (int(descriptor), int(account)):
        os.set_inheritable(inherited, False)
    connection = socket.socket(fileno=int(descriptor))
    # What asyncio's own loop spends between two callbacks is a good part of what a request costs this client.
    uvloop.run(_serve(connection, kinds, Account(int(account))))


async def _serve(connection: socket.socket, kinds: Mapping[str, Service], account: Account) -> None:
    status = 0
    try:
        await Host(connection, kinds, account).serve()
    except DaemonGoneError:
        pass  # no daemon is left to inform
    except Exception:
        _log.exception("worker ended")
        status = 1
    logging.shutdown()
    # Nothing here is worth an orderly end, and a thread that still sends to a daemon that is gone must not delay it.
    os._exit(status)


if __name__ == "__main__":
    from exporter.services import SERVICES

    # All of them now, with what they import, so that the first sweep finds the worker warm.
    main({kind: make() for kind, make in SERVICES.items()})
