"""The daemon's own loop beside a hostile server: what that sends is parsed in a worker, and what comes from there
is small. (31 MB of metadata held up the loop, and `/-/healthy` with it, for 15 s; 600 MB of an index took 1.9 GB.)"""

from __future__ import annotations

import asyncio
import json
import resource
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from exporter.core.bounds import CONTROL_BYTES
from exporter.core.errors import PreflightError
from exporter.core.outcome import Reason
from exporter.core.units import NS
from exporter.worker.local import LocalWorker
from exporter.worker.pool import WorkerPool
from tests.builders import make_target
from tests.hostile.server import HostileServer, Response

LAG_SECONDS = 0.5
"""A loop that parses 8 MiB of JSON into messages is stuck for longer than that."""


@asynccontextmanager
async def measured() -> AsyncIterator[list[float]]:
    """How late the loop was at most, and how much this process has grown (MiB)."""
    found = [0.0, 0.0]

    async def watch() -> None:
        while True:
            begin = time.monotonic()
            await asyncio.sleep(0.01)
            found[0] = max(found[0], time.monotonic() - begin)

    before_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    watching = asyncio.create_task(watch())
    yield found
    watching.cancel()
    found[1] = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kb) / 1024


def index(count: int, reason: str = "") -> bytes:
    entries = [{"name": f"m{number}", "version": "1", "state": "READY", "reason": reason} for number in range(count)]
    return json.dumps(entries).encode()


async def ready_models(body: bytes) -> tuple[tuple[str, ...] | PreflightError, list[float]]:
    def behaviour(path: str, response: Response) -> Response:
        return replace(response, body=body) if path == "/v2/repository/index" else response

    pool = WorkerPool(1)
    async with HostileServer(behaviour).serve("http") as port:
        target = make_target(port=port, connect_timeout_ns=20 * NS)
        async with measured() as found, asyncio.timeout(60):
            try:
                names: tuple[str, ...] | PreflightError = await pool.ready_models(target)
            except PreflightError as error:
                names = error
    await pool.close()
    return names, found


async def test_an_index_is_read_by_a_worker() -> None:
    names, _ = await ready_models(index(3))
    assert names == ("m0", "m1", "m2")


async def test_the_largest_index_that_is_taken_does_not_hold_up_the_loop() -> None:
    body = index(100_000)
    assert 0.8 * CONTROL_BYTES < len(body) < CONTROL_BYTES
    names, (lag, grown) = await ready_models(body)
    assert isinstance(names, tuple)
    assert len(names) == 10_000
    assert lag < LAG_SECONDS
    # The server's own copies are in this process.
    assert grown < 64


async def test_a_larger_one_is_refused() -> None:
    names, (lag, _) = await ready_models(index(20_000, "x" * 1000))
    assert isinstance(names, PreflightError)
    assert names.reason is Reason.PROTOCOL
    assert f"more than {CONTROL_BYTES} bytes" in str(names)
    assert lag < LAG_SECONDS


async def test_a_question_waits_for_no_sweep() -> None:
    pool = WorkerPool(1)
    async with HostileServer(lambda _path, response: response).serve("http") as port, pool.lend():
        async with asyncio.timeout(30):
            assert await pool.ready_models(make_target(port=port)) == ("m",)
    await pool.close()


async def test_a_worker_that_does_not_respond_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    async def stuck(_worker: LocalWorker, _target: object) -> tuple[str, ...]:
        await asyncio.sleep(60)
        raise AssertionError

    monkeypatch.setattr("exporter.worker.pool.QUESTION_LIMIT_SECONDS", 0.0)
    monkeypatch.setattr(LocalWorker, "ready_models", stuck)
    pool = WorkerPool(1)
    with pytest.raises(TimeoutError):
        await pool.ready_models(make_target(connect_timeout_ns=NS // 10))
    assert pool.alive == 0
    await pool.close()
