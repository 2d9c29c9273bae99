"""The daemon's own process: how many files it may open, and what becomes of errors in tasks that are not awaited.

A process without a file left can accept no client: asyncio reports that once for each client that waits, hundreds of
tracebacks a second.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import resource
from typing import Any

from exporter.logs import Throttle, fields

_log = logging.getLogger("exporter.daemon")

_OPEN_FILES = 65_536
_EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


def raise_open_files() -> None:
    """Allows this process, and its workers, as many open files as the system lets it: the usual 1024 are a soft limit
    for programs that use select()."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, _OPEN_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        except (OSError, ValueError) as error:
            _log.warning("the limit of open files is low", extra=fields(limit=soft, error=error))


class LoopErrors:
    """An event loop's exception handler: where the system has nothing left to give, one line in ten minutes; else as
    asyncio's own."""

    def __init__(self) -> None:
        self._log_rarely = Throttle()

    def __call__(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if not isinstance(error, OSError) or error.errno not in _EXHAUSTED:
            loop.default_exception_handler(context)
        elif self._log_rarely.passes(error.errno):
            soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
            _log.error("connections cannot be accepted", extra=fields(error=error.strerror, open_files_limit=soft))
