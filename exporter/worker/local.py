"""The daemon's handle of a worker process on this machine: starts it, commands it, and ends it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from contextlib import aclosing
from pathlib import Path

from exporter.core.errors import PreflightError, WorkerLostError
from exporter.core.facts import ModelFacts
from exporter.core.outcome import Reason
from exporter.core.probe import Probe
from exporter.core.target import Target
from exporter.core.window import LevelEnd, Window
from exporter.engine.plan import LevelEvent, LevelPlan, LevelStarted, LevelTally, LevelWaiting, MemberEvent
from exporter.engine.tally import Allowance
from exporter.payload.regions import remove_orphans
from exporter.storage.account import SIGN_OF_LIFE_SECONDS, Account, SignOfLife
from exporter.worker.group import alone
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
    ResumeLevel,
    RunLevel,
    StopLevel,
    encode,
    receive,
)
from exporter.worker.worker_environment import base_environment, header_environment

START_LIMIT_SECONDS = 60.0
"""A cold disk and a busy machine can make the imports take long."""

SILENCE_LIMIT_SECONDS = 1.5
SILENCE_LOOK_SECONDS = 0.005
"""How long a worker has to stop sending once its level is to end, before it is killed; and how often one looks."""

EXIT_LIMIT_SECONDS = 2.0
"""How long a process that closed its end is given to be gone by itself, so that its own exit status is seen."""

INBOX_RESPONSES = 4
"""Responses held for a consumer that is slow; beyond these the worker waits, and its window gets longer."""


class LocalWorker:
    """A worker in a process of its own. Made by `spawn`; one command at a time, but for `stop_level` and `kill`.

    An `await` or a level's iterator that is cancelled or closed ends what it asked for; the worker stays usable.
    """

    def __init__(
        self,
        process: asyncio.subprocess.Process,
        connection: socket.socket,
        account: Account | None = None,
        lease: Callable[[], int] = lambda: 0,
        environ: Callable[[], Mapping[str, str]] = lambda: os.environ,
    ) -> None:
        self.sweeps = 0
        self._environ = environ
        self._lease = lease
        self._account = account or Account()
        self._sent: int | None = None
        self._asked = self._tokens = 0
        self._level_serial = 0
        self._unsent = bytearray()
        self._life = SignOfLife()
        self._renewing: asyncio.TimerHandle | None = None
        self._renew()
        self.was_killed = False
        self._process = process
        self._connection = connection
        self._serial = 0
        self._dropping = False
        self._inbox: asyncio.Queue[Reply | None] | None = asyncio.Queue(INBOX_RESPONSES)
        self._lost: WorkerLostError | None = None
        self._reading = asyncio.create_task(self._read(), name=f"worker {process.pid}")

    @classmethod
    async def spawn(
        cls,
        *,
        log_format: str = "logfmt",
        cpus: Iterable[int] = (),
        module: str = "exporter.worker.main",
        accounts: Path | None = None,
        lease: Callable[[], int] = lambda: 0,
        environ: Callable[[], Mapping[str, str]] = lambda: os.environ,
    ) -> LocalWorker:
        """Starts a process and waits until it is ready. It logs to our stderr. `cpus` are those it may run on; none
        given means all. Its account is a file in the folder `accounts`, where there is one that can be written to.
        `lease` gives the moment from which it may send nothing (see `Account.lend`), `environ` the variables that
        headers are read from.
        Raises WorkerLostError if it does not come up."""
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        cpu_list = ",".join(str(cpu) for cpu in sorted(cpus))
        account = _open_account(accounts)
        with theirs:
            handed = theirs.fileno(), account.fileno()
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", module, *map(str, handed), log_format, cpu_list),
                pass_fds=handed,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                env=base_environment(),
            )
        worker = cls(process, ours, account, lease, environ)
        try:
            async with asyncio.timeout(START_LIMIT_SECONDS):
                await worker._next_response()
                worker._forget_exchange()
        except BaseException as error:
            await worker.kill()
            if isinstance(error, TimeoutError):
                text = f"worker was not ready within {START_LIMIT_SECONDS:g} s"
                raise WorkerLostError(Reason.WORKER_CRASH, text) from error
            raise
        return worker

    @property
    def pid(self) -> int:
        """The process."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether it can take commands."""
        return self._lost is None

    @property
    def is_asked(self) -> bool:
        """Whether a caller waits for a response from it."""
        return self._inbox is not None

    @property
    def sent(self) -> int:
        """See `Worker`."""
        return self._account.sent if self._sent is None else self._sent

    @property
    def asked(self) -> int:
        """See `Worker`."""
        return self._account.asked if self._sent is None else self._asked

    @property
    def tokens(self) -> int:
        """See `Worker`."""
        return self._account.tokens if self._sent is None else self._tokens

    @property
    def is_stuck(self) -> bool:
        """Whether the process has given no sign of life for a while: it is stopped, or busy in one place."""
        return self.alive and self._is_stuck

    def note(self, text: str) -> None:
        """What the worker is for from now on, written to its account."""
        if self._sent is None:
            self._account.note(text)

    async def silence(self) -> None:
        """See `Worker`."""
        if not self.alive or self._account.silent_serial >= self._level_serial:
            return
        with contextlib.suppress(WorkerLostError):
            self._post(StopLevel())
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(SILENCE_LIMIT_SECONDS):
                while self.alive and self._account.silent_serial < self._level_serial:  # noqa: ASYNC110 - its memory
                    await asyncio.sleep(SILENCE_LOOK_SECONDS)
                return
        await self.kill()

    async def preflight(self, probe: Probe) -> ModelFacts:
        """See `Worker`."""
        facts = await self._ask(Preflight(probe))
        assert isinstance(facts, ModelFacts)
        return facts

    async def ready_models(self, target: Target) -> tuple[str, ...]:
        """The server's models that are ready, in the time that its connections have. Raises PreflightError, and
        WorkerLostError."""
        names = await self._ask(ReadModels(target))
        assert isinstance(names, tuple)
        return names

    async def served_version(self, probe: Probe) -> str:
        """See `Worker`."""
        version = await self._ask(ReadVersion(probe))
        assert isinstance(version, str)
        return version

    async def prepare(self, plan: LevelPlan) -> None:
        """See `Member` (group). It is all here."""

    def run_level(self, plan: LevelPlan) -> AsyncGenerator[LevelEvent, None]:
        """See `Worker`."""
        return alone(self.run_member(plan))

    async def run_member(self, plan: LevelPlan) -> AsyncGenerator[MemberEvent, None]:
        """See `Member` (group)."""
        async with aclosing(self._exchange(RunLevel(plan))) as responses:
            async for event in responses:
                assert isinstance(event, (LevelStarted, LevelWaiting, LevelTally, Window, LevelEnd))
                yield event

    def proceed_level(self, at_ns: int) -> None:
        """See `Member` (group)."""
        self._raise_if_lost()
        self._post(ProceedLevel(at_ns))

    def report_tally(self) -> None:
        """See `Member` (group)."""
        self._raise_if_lost()
        self._post(ReportTally())

    def resume_level(self, allowed: Allowance) -> None:
        """See `Member` (group)."""
        self._raise_if_lost()
        self._post(ResumeLevel(allowed))

    async def stop_level(self) -> None:
        """See `Worker`."""
        self._raise_if_lost()
        self._post(StopLevel())

    async def end_sweep(self) -> None:
        """See `Worker`."""
        self.sweeps += 1
        await self._ask(EndSweep())

    async def kill(self) -> None:
        """See `Worker`."""
        if self.alive:
            self.was_killed = True
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        self._dropping = True
        self._drop_responses(self._inbox)
        await asyncio.wait({self._reading})
        remove_orphans()

    # --- commands and responses
    # ----------------------------------------------------------------------------------------

    async def _ask(self, what: Preflight | ReadModels | ReadVersion | EndSweep) -> object:
        async with aclosing(self._exchange(what)) as responses:
            return await anext(responses)

    async def _exchange(
        self, what: Preflight | ReadModels | ReadVersion | RunLevel | EndSweep
    ) -> AsyncGenerator[object, None]:
        """Sends a command and yields its responses."""
        self._raise_if_lost()
        if self._inbox is not None:
            raise RuntimeError("the worker is busy with another command")
        self._serial += 1
        if isinstance(what, RunLevel):
            self._level_serial = self._serial
        self._inbox = asyncio.Queue(INBOX_RESPONSES)
        ended = False
        # As it is now: what the last renewal wrote may be over, and would end the command at once.
        self._account.lend(self._lease())
        try:
            self._post(what)
            while not ended:
                response = await self._next_response()
                ended = response.last
                if isinstance(response.what, Failure):
                    raise self._error(response.what)
                yield response.what
        finally:
            if not ended and self.alive:
                with contextlib.suppress(WorkerLostError):
                    self._post(StopLevel())
            self._forget_exchange()

    def _post(self, what: Preflight | ReadModels | ReadVersion | RunLevel | EndSweep | OfRunningLevel) -> None:
        """Sends what the socket takes at once, and the rest when it takes more: input data that the configuration holds
        makes a command larger than any socket's buffer."""
        is_idle = not self._unsent
        for part in encode(Command(self._serial, what, _environment(what, self._environ()))):
            self._unsent += part
        if is_idle:
            self._flush()
        self._raise_if_lost()

    def _flush(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            del self._unsent[: self._connection.send(self._unsent)]
        except BlockingIOError:
            pass
        except OSError:
            self._unsent.clear()
            self._lose(Reason.WORKER_CRASH, "worker takes no commands any more")
        if self._unsent:
            loop.add_writer(self._connection, self._flush)
        else:
            loop.remove_writer(self._connection)

    async def _next_response(self) -> Reply:
        assert self._inbox is not None
        response = await self._inbox.get()
        if response is None:
            self._raise_if_lost()
        assert response is not None
        return response

    def _forget_exchange(self) -> None:
        inbox, self._inbox = self._inbox, None
        self._drop_responses(inbox)

    def _drop_responses(self, inbox: asyncio.Queue[Reply | None] | None) -> None:
        """Empties an inbox without a reader, so that a reader that waits for a place in it continues."""
        while inbox is not None and not inbox.empty():
            inbox.get_nowait()

    def _error(self, failure: Failure) -> PreflightError | WorkerLostError:
        if failure.expected:
            return PreflightError(failure.reason, failure.text, problems=failure.problems)
        self._lose(failure.reason, failure.text)
        return WorkerLostError(failure.reason, failure.text)

    # --- its end -----------------------------------------------------------------------------------------------------

    async def _read(self) -> None:
        """Takes in responses until the worker's end, and then reports how it ended. Never cancelled, since half a
        message would be lost; `kill` ends it."""
        with contextlib.suppress(EOFError, OSError):
            while True:
                response = await receive(self._connection)
                assert isinstance(response, Reply)
                if self._inbox is not None and response.serial == self._serial and not self._dropping:
                    await self._inbox.put(response)
        try:
            async with asyncio.timeout(EXIT_LIMIT_SECONDS):
                await self._process.wait()
        except TimeoutError:
            self._process.kill()
            await self._process.wait()
        asyncio.get_running_loop().remove_writer(self._connection)
        self._connection.close()
        self._close_account()
        self._lose(Reason.WORKER_CRASH, self._how_it_ended())
        if self._inbox is not None:
            await self._inbox.put(None)

    def _how_it_ended(self) -> str:
        if self.was_killed:
            return "worker was ended by the daemon"
        status = self._process.returncode or 0
        if status >= 0:
            return f"worker ended with exit status {status}"
        try:
            name = signal.Signals(-status).name
        except ValueError:
            name = "unknown"
        return f"worker ended by signal {-status} ({name})"

    def _renew(self) -> None:
        """Shows the worker that this loop runs, and looks whether the worker's does."""
        self._account.renew()
        self._account.lend(self._lease())
        self._is_stuck = self._life.is_lost(self._account.ticks)
        self._renewing = asyncio.get_running_loop().call_later(SIGN_OF_LIFE_SECONDS, self._renew)

    def _close_account(self) -> None:
        """The process is gone: its count is final."""
        if self._renewing is not None:
            self._renewing.cancel()
        self._sent, self._asked, self._tokens = self._account.sent, self._account.asked, self._account.tokens
        self._account.close()

    def _lose(self, reason: Reason, text: str) -> None:
        if self._lost is None:
            self._lost = WorkerLostError(reason, text)

    def _raise_if_lost(self) -> None:
        if self._lost is not None:
            raise WorkerLostError(self._lost.reason, str(self._lost))


def _open_account(folder: Path | None) -> Account:
    """In memory where the disk takes no more: a budget that is not kept over a crash is worth more than no sweep."""
    if folder is not None:
        with contextlib.suppress(OSError):
            return Account.create(folder)
    return Account.create()


def _environment(what: object, environ: Mapping[str, str]) -> dict[str, str]:
    """The variables that a command's headers are read from."""
    if isinstance(what, (Preflight, ReadVersion)):
        return header_environment(what.probe.target, environ)
    if isinstance(what, RunLevel):
        return header_environment(what.plan.probe.target, environ)
    return header_environment(what.target, environ) if isinstance(what, ReadModels) else {}
