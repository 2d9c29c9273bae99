"""The worker as a process: real ones, with fake services inside."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from exporter.core.errors import PreflightError, WorkerLostError
from exporter.core.outcome import Outcome, Reason
from exporter.core.probe import InputOptions, Probe
from exporter.core.units import NS
from exporter.core.window import LevelEnd, Window
from exporter.engine.guard import CHARGED_AHEAD
from exporter.engine.plan import LevelEvent, LevelPlan, LevelStarted, Worker
from exporter.storage.account import Account
from exporter.worker.local import LocalWorker
from tests.builders import concurrency, make_facts, make_probe, make_target
from tests.engine.fakes import make_plan
from tests.waiting import PATIENCE_SECONDS, patient

FAKE_WORKER = "tests.worker.fake_worker"


def probe(kind: str = "fake") -> Probe:
    return make_probe(target=make_target(kind=kind))


def plan(kind: str = "fake", value: int = 1, **rules: Any) -> LevelPlan:
    it = make_plan(concurrency(value), **rules)
    return dataclasses.replace(it, probe=dataclasses.replace(it.probe, target=make_target(kind=kind)))


@pytest.fixture
async def worker() -> AsyncIterator[LocalWorker]:
    async with asyncio.timeout(PATIENCE_SECONDS):
        it = await LocalWorker.spawn(module=FAKE_WORKER)
        yield it
        await it.kill()


async def run(worker: Worker, level: LevelPlan, windows: int = 1) -> list[LevelEvent]:
    """Runs a level until so many measured windows have come, or it ends by itself."""
    events: list[LevelEvent] = []
    async for event in worker.run_level(level):
        events.append(event)
        if sum(isinstance(e, Window) and not e.warm_up for e in events) == windows:
            await worker.stop_level()
    return events


async def test_a_sweep(worker: LocalWorker) -> None:
    assert await worker.preflight(probe()) == make_facts()
    events = await run(worker, plan(value=2), windows=2)
    assert isinstance(events[0], LevelStarted)
    windows = [event for event in events if isinstance(event, Window)]
    end = events[-1]
    assert isinstance(end, LevelEnd)
    assert end.reason is Reason.NONE
    assert end.sent == sum(len(window.columns) for window in windows) == sum(window.sent for window in windows) > 10
    assert all((window.columns.outcome == Outcome.OK).all() for window in windows)
    assert all((window.columns.last_ns > window.columns.sent_ns).all() for window in windows)
    await worker.end_sweep()


async def test_one_process_for_sweep_after_sweep(worker: LocalWorker) -> None:
    pid = worker.pid
    for _ in range(3):
        await worker.preflight(probe())
        await run(worker, plan())
        await worker.end_sweep()
    assert (worker.pid, worker.sweeps, worker.alive) == (pid, 3, True)


async def test_big_windows_come_over_whole(worker: LocalWorker) -> None:
    events = await run(worker, plan("fast", value=8, window_ms=500))
    windows = [event for event in events if isinstance(event, Window)]
    assert len(windows[1].columns) > 1000
    assert isinstance(events[-1], LevelEnd)
    assert events[-1].sent == sum(len(window.columns) for window in windows)


async def test_a_stop_rule_ends_the_level_and_not_the_worker(worker: LocalWorker) -> None:
    events = await run(worker, plan("error"))
    assert isinstance(events[-1], LevelEnd)
    assert events[-1].reason is Reason.ERROR_RATIO
    assert worker.alive


@pytest.mark.parametrize(
    ("kind", "reason", "text"),
    [
        ("not_ready", Reason.MODEL_NOT_READY, "model addsub is not ready"),
        ("nosuch", Reason.UNSUPPORTED, "target triton-http: no service kind 'nosuch'"),
    ],
)
async def test_preflight_has_the_reason(worker: LocalWorker, kind: str, reason: Reason, text: str) -> None:
    with pytest.raises(PreflightError, match=text) as caught:
        await worker.preflight(probe(kind))
    assert caught.value.reason is reason
    assert await worker.preflight(probe()) == make_facts()


async def test_input_that_does_not_fit(worker: LocalWorker) -> None:
    with pytest.raises(PreflightError, match="INPUT0: expected 16 elements, found 4") as caught:
        await run(worker, plan("no_fit"))
    assert caught.value.reason is Reason.BAD_INPUT
    assert worker.alive


@pytest.mark.parametrize(
    ("kind", "reason", "text"),
    [
        ("broken", Reason.INTERNAL, "KeyError: 'boom'"),
        ("fails", Reason.INTERNAL, "ZeroDivisionError: in a callback"),
        ("exits", Reason.WORKER_CRASH, "worker ended with exit status 7"),
    ],
)
async def test_a_worker_that_fails_is_lost(worker: LocalWorker, kind: str, reason: Reason, text: str) -> None:
    with pytest.raises(WorkerLostError) as caught:
        await run(worker, plan(kind), windows=100)
    assert (caught.value.reason, str(caught.value)) == (reason, text)
    assert not worker.alive
    with pytest.raises(WorkerLostError):
        await worker.preflight(probe())
    with pytest.raises(WorkerLostError):
        await worker.stop_level()


async def test_killed_in_mid_level(worker: LocalWorker) -> None:
    with pytest.raises(WorkerLostError) as caught:  # noqa: PT012
        async for event in worker.run_level(plan()):
            if isinstance(event, Window):
                os.kill(worker.pid, signal.SIGKILL)
    assert (caught.value.reason, str(caught.value)) == (Reason.WORKER_CRASH, "worker ended by signal 9 (SIGKILL)")
    assert not worker.was_killed


async def test_a_worker_that_hangs_can_be_killed(worker: LocalWorker) -> None:
    waiting = asyncio.create_task(run(worker, plan("hangs"), windows=100))
    _, pending = await asyncio.wait({waiting}, timeout=0.1)
    assert pending
    await worker.kill()
    with pytest.raises(WorkerLostError, match="worker was ended by the daemon"):
        await waiting
    assert worker.was_killed
    assert not worker.alive
    await worker.kill()  # once more does no harm


async def test_a_closed_iterator_ends_the_level(worker: LocalWorker) -> None:
    async with aclosing(worker.run_level(plan())) as events:
        async for event in events:
            if isinstance(event, Window):
                break
    # It got a response only once the level has ended, and not with what was left of that.
    assert await worker.preflight(probe()) == make_facts()


async def test_a_cancelled_level_ends(worker: LocalWorker) -> None:
    running = asyncio.create_task(run(worker, plan(), windows=1000))
    await asyncio.sleep(0.1)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert await worker.preflight(probe()) == make_facts()


async def test_stop_before_the_level_began(worker: LocalWorker) -> None:
    """The command to stop comes while the level is still being prepared, or even before it is looked at."""
    running = asyncio.create_task(run(worker, plan()))
    await asyncio.sleep(0)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert await worker.preflight(probe()) == make_facts()


async def test_a_slow_consumer_loses_nothing(worker: LocalWorker) -> None:
    events: list[LevelEvent] = []
    async for event in worker.run_level(plan(window_ms=2, max_requests=60)):
        events.append(event)
        await asyncio.sleep(0.01)
    windows = [event for event in events if isinstance(event, Window)]
    assert [window.index for window in windows] == list(range(len(windows)))
    assert sum(len(window.columns) for window in windows) == 60


async def test_a_signal_to_the_whole_group_leaves_it_alone(worker: LocalWorker) -> None:
    os.kill(worker.pid, signal.SIGINT)
    os.kill(worker.pid, signal.SIGTERM)
    assert await worker.preflight(probe()) == make_facts()


async def test_runs_on_the_cpus_given() -> None:
    cpu = min(os.sched_getaffinity(0))
    worker = await LocalWorker.spawn(module=FAKE_WORKER, cpus=[cpu])
    assert os.sched_getaffinity(worker.pid) == {cpu}
    await worker.kill()


async def test_a_level_begins_with_the_lease_of_its_own_moment() -> None:
    """Not with that of the last renewal, which was over when the process began."""
    until_ns = 1
    worker = await LocalWorker.spawn(module=FAKE_WORKER, lease=lambda: until_ns)
    try:
        until_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME) + 600 * NS
        end = (await run(worker, plan()))[-1]
        assert isinstance(end, LevelEnd)
        assert (end.reason, end.text) == (Reason.NONE, "")
    finally:
        await worker.kill()


async def test_one_that_does_not_come_up() -> None:
    with pytest.raises(WorkerLostError) as caught:
        await LocalWorker.spawn(module="tests.engine.fakes")  # ends at once
    assert (caught.value.reason, str(caught.value)) == (Reason.WORKER_CRASH, "worker ended with exit status 0")


PARENT = """
import asyncio, os, sys
from tests.worker.test_local import *

async def main():
    worker = await LocalWorker.spawn(module=FAKE_WORKER)
    print(worker.pid, flush=True)
    if sys.argv[1] != "idle":
        async for event in worker.run_level(plan(sys.argv[1])):
            print(event.__class__.__name__, flush=True)
    await asyncio.sleep(60)

asyncio.run(main())
"""


@pytest.mark.parametrize("doing", ["idle", "fake", "hangs"])
async def test_no_orphan_stays(doing: str) -> None:
    parent = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", PARENT, doing), stdout=asyncio.subprocess.PIPE
    )
    assert parent.stdout is not None
    pid = int(await parent.stdout.readline())
    if doing == "fake":
        await parent.stdout.readline()
    elif doing == "hangs":
        await asyncio.sleep(0.2)
    assert is_running(pid)
    parent.kill()
    await parent.wait()
    async with asyncio.timeout(PATIENCE_SECONDS):
        while is_running(pid):
            await asyncio.sleep(0.01)


def is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return False
    return state not in "ZX"  # a zombie is a process without a wait yet


# --- what was sent, and for whom ----------------------------------------------------------------------------------


async def test_what_a_worker_starts_inherits_nothing_of_ours(worker: LocalWorker) -> None:
    """A model's process that outlives a crash of its worker would keep the daemon's socket open, and the daemon waiting
    for a response."""
    passed_on = []
    for file in Path(f"/proc/{worker.pid}/fd").iterdir():
        _, _, flags = Path(f"/proc/{worker.pid}/fdinfo/{file.name}").read_text().partition("flags:")
        if not int(flags.split()[0], 8) & os.O_CLOEXEC:
            passed_on.append(int(file.name))
    assert sorted(passed_on) == [0, 1, 2]


async def test_what_a_lost_worker_has_sent_is_known(worker: LocalWorker) -> None:
    with pytest.raises(WorkerLostError):
        await run(worker, plan("exits"), windows=100)
    assert 11 <= worker.sent < 11 + CHARGED_AHEAD  # it ends in its eleventh request


async def test_a_worker_without_a_sign_of_its_daemon_stops_sending(worker: LocalWorker) -> None:
    async with aclosing(worker.run_level(plan(window_ms=60_000))) as events:
        assert isinstance(await anext(events), LevelStarted)
        assert isinstance(await anext(events), Window)
        assert worker._renewing is not None
        worker._renewing.cancel()
        started = asyncio.get_running_loop().time()
        rest = [event async for event in events]
        assert 1.5 < asyncio.get_running_loop().time() - started < patient(10)
    end = rest[-1]
    assert isinstance(end, LevelEnd)
    assert (end.reason, end.text) == (Reason.DAEMON_STALLED, "the daemon was stuck for 2 s")
    assert worker.sent == end.sent > 100


async def test_nothing_is_sent_after_silence(worker: LocalWorker) -> None:
    async with aclosing(worker.run_level(plan(window_ms=60_000))) as events:
        await anext(events)
        await anext(events)
    await worker.silence()
    sent = worker.sent
    await asyncio.sleep(0.1)
    assert worker.alive
    assert worker.sent == sent > 0


async def test_a_level_that_was_not_begun_is_silent_too(worker: LocalWorker) -> None:
    async with aclosing(worker.run_level(plan("no_fit"))) as events:
        with pytest.raises(PreflightError):
            await anext(events)
    await worker.silence()
    assert worker.alive


async def test_a_stopped_worker_is_killed_for_silence(worker: LocalWorker) -> None:
    async with aclosing(worker.run_level(plan(window_ms=60_000))) as events:
        await anext(events)
        await anext(events)
        os.kill(worker.pid, signal.SIGSTOP)
    started = asyncio.get_running_loop().time()
    await worker.silence()
    assert asyncio.get_running_loop().time() - started < patient(5)
    assert not worker.alive
    assert worker.sent > 0


async def test_a_stopped_worker_is_known_to_be_stuck_and_one_that_continues_is_not(worker: LocalWorker) -> None:
    os.kill(worker.pid, signal.SIGSTOP)
    async with asyncio.timeout(20):
        while not worker.is_stuck:
            await asyncio.sleep(0.05)
        os.kill(worker.pid, signal.SIGCONT)
        while worker.is_stuck:
            await asyncio.sleep(0.05)


async def test_a_command_may_be_larger_than_the_sockets_buffer(worker: LocalWorker) -> None:
    large = dataclasses.replace(probe(), input=InputOptions(string_data="x" * 3_000_000))
    for _ in range(2):
        assert await worker.preflight(large) == make_facts()
    assert worker.alive


async def test_a_stop_follows_a_large_command(worker: LocalWorker) -> None:
    large = plan(window_ms=60_000)
    options = InputOptions(string_data="x" * 3_000_000)
    large = dataclasses.replace(large, probe=dataclasses.replace(large.probe, input=options))
    async with aclosing(worker.run_level(large)) as events:
        first = asyncio.ensure_future(anext(events))
        await asyncio.sleep(0)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
    await worker.silence()
    assert worker.alive
    assert await worker.preflight(probe()) == make_facts()


def test_a_worker_whose_daemon_ends_while_it_starts_ends_without_a_word() -> None:
    ours, theirs = socket.socketpair()
    account = Account.create()
    ours.close()
    handed = theirs.fileno(), account.fileno()
    command = [sys.executable, "-m", "exporter.worker.main", *map(str, handed), "logfmt", ""]
    done = subprocess.run(
        command, pass_fds=handed, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False
    )
    theirs.close()
    account.close()
    assert (done.returncode, done.stderr) == (0, "")
