"""Where lists come from: files, a web page, a name, a server's repository index. Reads one of them once.

Owns the bounds of size and time. It must not know what becomes of a list, nor of the one before.
"""

from __future__ import annotations

import asyncio
import glob
import json
import os
import socket
import stat
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path

from exporter.config.document import parse_any
from exporter.core.bounds import LIST_BYTES, LIST_FILES
from exporter.core.errors import PreflightError, TransportError, WorkerLostError
from exporter.core.target import Header, Target, TlsOptions
from exporter.core.units import NS
from exporter.core.untrusted_text import clean_location
from exporter.discovery.found import DiscoveryError, Found, parse_groups
from exporter.discovery.reader_threads import ReaderThreads
from exporter.transport.headers import read_headers
from exporter.transport.resolve import as_host, look_up

MAX_LIST_BYTES = LIST_BYTES
HTTP_LIMIT_SECONDS = 10.0
"""How long a list may take from the web, from connecting to its last byte."""

READ_LIMIT_SECONDS = 15.0
"""How long a reading may take, of files too: then it is left behind."""
_THREADS = ReaderThreads()


@dataclass(frozen=True, slots=True)
class Source:
    """One source: of the addresses of the target (by `dns`, `files` or `url`), or else of its models. Two that are
    equal mean the same."""

    target: Target
    refresh_ns: int
    dns: bool = False
    files: tuple[str, ...] = ()
    url: str = ""
    headers: tuple[Header, ...] = ()
    ca_file: str = ""
    proxy_url: str = ""
    labels: tuple[str, ...] = ()

    @property
    def is_index(self) -> bool:
        """Whether it lists models."""
        return not (self.dns or self.files or self.url)


Response = tuple[Found, ...] | tuple[str, ...]
"""Addresses, or the names of models; sorted, each once."""


ReadyModels = Callable[[Target], Awaitable[tuple[str, ...]]]
"""Reads a server's models. Raises PreflightError, WorkerLostError or TimeoutError."""


async def read(source: Source, ready_models: ReadyModels) -> Response:
    """What the source contains now; `ready_models` asks a server, in another process. Raises DiscoveryError."""
    if source.dns:
        return await _resolve(source.target)
    if source.files:
        work = partial(_read_files, source.files, source.labels)
        return await _THREADS.run(source.files, work, READ_LIMIT_SECONDS)
    if source.url:
        return await _THREADS.run(source, partial(_fetch, source), READ_LIMIT_SECONDS)
    return await _ready_models(source.target, ready_models)


async def _resolve(target: Target) -> tuple[Found, ...]:
    """All addresses of the name; those of IPv4 alone where it has any, since a server that has both is still one."""
    try:
        async with asyncio.timeout(target.connect_timeout_ns / NS):
            found = await look_up(target.host, target.port)
    except (OSError, UnicodeError) as error:
        raise DiscoveryError(f"the name {target.host!r} does not resolve: {error}") from error
    v4 = [address for family, address in found if family == socket.AF_INET]
    addresses = {as_host(address) for address in v4 or [address for _, address in found]}
    return tuple(sorted(Found(target.host, target.port, address) for address in addresses))


def _read_files(patterns: Sequence[str], labels: Sequence[str]) -> tuple[Found, ...]:
    found: dict[tuple[str, int], Found] = {}
    for pattern in patterns:
        paths = sorted(islice(glob.iglob(pattern), LIST_FILES + 1))
        if not paths:
            raise DiscoveryError(f"{pattern}: there is no such file")
        if len(paths) > LIST_FILES:
            raise DiscoveryError(f"{pattern}: there are more than {LIST_FILES} such files")
        for path in paths:
            for each in _read_file(Path(path), labels):
                found.setdefault((each.host, each.port), each)
    return tuple(sorted(found.values()))


def _read_file(path: Path, labels: Sequence[str]) -> tuple[Found, ...]:
    try:
        data = _regular_file(path)
        content = json.loads(data) if path.suffix == ".json" else parse_any(data)
        return parse_groups(content, labels)
    except (OSError, ValueError, RecursionError) as error:
        raise DiscoveryError(f"{path}: {_one_line(error)}") from error
    except DiscoveryError as error:
        raise DiscoveryError(f"{path}: {error}") from error


def _regular_file(path: Path) -> bytes:
    """A pipe has no end, and opening it waits for a writer."""
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(fd, "rb") as file:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise DiscoveryError("is not a regular file")
        data = file.read(MAX_LIST_BYTES + 1)
    if len(data) > MAX_LIST_BYTES:
        raise DiscoveryError(f"is larger than {MAX_LIST_BYTES >> 20} MiB")
    return data


def _fetch(source: Source) -> tuple[Found, ...]:
    """A list from the web; the url's own text is in no error, since it may reveal more than a log should."""
    # Here, since few daemons read such a list, and this takes a tenth of the start's imports.
    from urllib3.exceptions import HTTPError

    from exporter.server.page_session import PageSession, read_body

    deadline_ns = time.monotonic_ns() + round(HTTP_LIMIT_SECONDS * NS)
    try:
        headers = {
            "Accept": "application/json",
            "Accept-Encoding": "identity",
            "X-Prometheus-Refresh-Interval-Seconds": f"{source.refresh_ns / NS:g}",
            **dict(read_headers(source.headers)),
        }
        with (
            PageSession(TlsOptions(ca_file=source.ca_file), source.proxy_url) as session,
            session.until(deadline_ns),
            session.get(source.url, headers=headers, stream=True, timeout=HTTP_LIMIT_SECONDS) as response,
        ):
            if response.is_redirect:
                location = clean_location(response.headers["Location"])
                raise DiscoveryError(
                    f"http_sd got {response.status_code}, a redirect to {location}, which is not followed"
                )
            if response.status_code != 200:
                raise DiscoveryError(f"http_sd got {response.status_code}, not 200")
            body = read_body(response, MAX_LIST_BYTES)
            if body is None:
                raise DiscoveryError(f"http_sd: is larger than {MAX_LIST_BYTES >> 20} MiB")
        if time.monotonic_ns() > deadline_ns:
            raise DiscoveryError(_late())
        return parse_groups(json.loads(body), source.labels)
    except TransportError as error:
        raise DiscoveryError(f"http_sd: {error}") from error
    except (HTTPError, OSError) as error:  # what `requests` raises is an OSError
        if time.monotonic_ns() > deadline_ns:
            raise DiscoveryError(_late()) from error
        raise DiscoveryError(f"http_sd cannot be read: {type(error).__name__}") from error
    except (ValueError, RecursionError) as error:
        raise DiscoveryError(f"http_sd: {_one_line(error)}") from error


async def _ready_models(target: Target, ready_models: ReadyModels) -> tuple[str, ...]:
    try:
        return await ready_models(target)
    except TimeoutError as error:
        raise DiscoveryError(f"{target.url} did not respond in time") from error
    except (PreflightError, WorkerLostError) as error:
        raise DiscoveryError(str(error)) from error


def _late() -> str:
    return f"http_sd: was not there within {HTTP_LIMIT_SECONDS:g} s"


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
