"""Lends groups of workers that run beside the workers of a Dask scheduler."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

from exporter.core.errors import WorkerLostError
from exporter.core.outcome import Reason
from exporter.core.units import MS
from exporter.core.untrusted_text import clean_text
from exporter.engine.plan import Worker
from exporter.worker.group import WorkerGroup
from exporter.worker.remote.cargo import Cargo
from exporter.worker.remote.host import LEASE_SECONDS, WorkerHost
from exporter.worker.remote.member import RemoteWorker
from exporter.worker.remote.schema import schema

CONNECT_SECONDS = 10.0
ACTOR_SECONDS = 60.0
"""How long a Dask worker may take to make the actor: the first one there imports all that a worker needs."""

_SHOWN_PLACES = 8

MEET_LEAD_NS = 200 * MS
"""How far ahead the moment lies at which all continue, over a network."""


@contextlib.asynccontextmanager
async def lend_remote(
    address: str,
    workers: int,
    *,
    place: str = "",
    allowed_s: Callable[[], float] = lambda: LEASE_SECONDS,
    module: str = "exporter.worker.main",
) -> AsyncIterator[Worker]:
    """For the time of one sweep so many workers of the scheduler at this address, each beside another Dask worker as
    long as there are enough. Those of a place have a Dask resource of its name. Certificates are those of Dask's own
    configuration. Raises WorkerLostError."""
    async with contextlib.AsyncExitStack() as stack:
        client = await _connect(address)
        stack.push_async_callback(client.close)
        members: list[RemoteWorker] = []
        cargo = Cargo()
        futures: list[Any] = []
        for name in await _chosen(client, address, place, workers):
            future = client.submit(WorkerHost, schema(), module, actor=True, workers=[name], pure=False)
            futures.append(future)
            members.append(RemoteWorker(await _made(client, future, name), name, allowed_s, cargo))
            stack.push_async_callback(members[-1].kill)
        await asyncio.gather(*(member.start() for member in members))
        yield members[0] if workers == 1 else WorkerGroup(members, MEET_LEAD_NS)


async def _connect(address: str) -> Any:
    try:
        from distributed import Client
    except ImportError:
        text = "load.pool needs the package distributed: pip install 'triton-canary[dask]', or the image with Dask"
        raise WorkerLostError(Reason.UNSUPPORTED, text) from None
    # What it logs of a lost scheduler is a traceback; what is lost here is an error of ours, which is reported.
    for name in ("distributed.client", "distributed.core"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    client: Any = None
    try:
        client = Client(
            address, asynchronous=True, direct_to_workers=True, set_as_default=False, timeout=CONNECT_SECONDS
        )
        return await client
    except (OSError, ValueError, TypeError, RuntimeError) as error:
        if client is not None:
            await client.close()
        text = f"the Dask scheduler at {address} cannot be used: {clean_text(str(error) or type(error).__name__)}"
        raise WorkerLostError(Reason.NO_WORKER, text) from error


async def _chosen(client: Any, address: str, place: str, workers: int) -> list[str]:
    """The Dask workers that get one each, in turn."""
    # Not what the client holds, which may be older than the workers.
    known = (await client.scheduler.identity(n_workers=-1))["workers"]
    names = sorted(name for name, each in known.items() if not place or place in each["resources"])
    if not names:
        raise WorkerLostError(Reason.NO_WORKER, f"the Dask scheduler at {address} has no workers{_in(place, known)}")
    return [names[index % len(names)] for index in range(workers)]


def _in(place: str, known: Mapping[str, Any]) -> str:
    if not place:
        return ""
    found = sorted({str(name) for each in known.values() for name in each["resources"]})
    others = clean_text(", ".join(found[:_SHOWN_PLACES]))
    return f" in {place!r} (dask worker --resources '{place}=1'); its {len(known)} workers have {others or 'none'}"


async def _made(client: Any, future: Any, name: str) -> Any:
    """The actor. Whatever goes wrong in the making of it is the far machine's."""
    try:
        async with asyncio.timeout(ACTOR_SECONDS):
            with client.as_current():
                actor = await future
                # It takes the client that is current when it is first asked, and keeps it.
                await actor.clock_ns()
                return actor
    except Exception as error:
        text = f"worker {name} cannot be used: {clean_text(str(error) or type(error).__name__)}"
        raise WorkerLostError(Reason.WORKER_CRASH, text) from error
