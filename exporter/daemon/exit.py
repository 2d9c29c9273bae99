"""The end of the daemon's process: of threads that hang in a call of the system, none is waited for."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from concurrent.futures import ThreadPoolExecutor

from exporter.logs import fields

_log = logging.getLogger("exporter.daemon")

_PREFIX = "blocking"
_THREADS = 16
_LIMIT_SECONDS = 1.0
_LOOK_SECONDS = 0.02


def own_blocking_threads() -> ThreadPoolExecutor:
    """Gives the running loop a pool for `asyncio.to_thread` of which `leave_stuck_threads` knows."""
    threads = ThreadPoolExecutor(_THREADS, _PREFIX)
    asyncio.get_running_loop().set_default_executor(threads)
    return threads


async def leave_stuck_threads(threads: ThreadPoolExecutor) -> None:
    """The last thing: asyncio and the interpreter would both wait for ever for a read from a share that hangs. If one
    still runs after a moment, the process ends here, with status 0: all that was to be done in order is done."""
    threads.shutdown(wait=False, cancel_futures=True)
    ends = asyncio.get_running_loop().time() + _LIMIT_SECONDS
    while stuck := [thread.name for thread in threading.enumerate() if thread.name.startswith(_PREFIX)]:
        if asyncio.get_running_loop().time() > ends:
            _log.warning("threads still run at the exit", extra=fields(threads=len(stuck)))
            logging.shutdown()
            os._exit(0)
        await asyncio.sleep(_LOOK_SECONDS)
