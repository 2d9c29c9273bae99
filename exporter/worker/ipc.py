"""Messages over a socket between the daemon and its worker: length-prefixed pickles, big arrays beside them.

    frame = u32 number of buffers | u64 length of the pickle | u64 length of each buffer ... | pickle | buffers

Pickle protocol 5 leaves numpy's memory out of the pickle, so that a window of 100,000 rows is written from where it
was recorded and read to where it stays. Both ends are this package, of one version, and the socket has no name: what
comes in is trusted as this process is.
"""

from __future__ import annotations

import asyncio
import pickle
import socket
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from exporter.core.bounds import MESSAGE
from exporter.core.outcome import Reason
from exporter.core.probe import Probe
from exporter.core.redaction import redacted
from exporter.core.target import Target
from exporter.core.untrusted_text import clean_text
from exporter.core.window import LevelEnd, Window
from exporter.engine.plan import LevelPlan, LevelTally
from exporter.engine.tally import Allowance

_HEAD: Final = struct.Struct("<IQ")
MAX_PROBLEMS: Final = 1000
_LENGTH: Final = struct.Struct("<Q")


@dataclass(frozen=True, slots=True)
class Preflight:
    """Ask the server whether the probe can run; the response is ModelFacts."""

    probe: Probe


@dataclass(frozen=True, slots=True)
class ReadModels:
    """Ask a server which of its models are ready; the response has their names. No part of a sweep."""

    target: Target


@dataclass(frozen=True, slots=True)
class ReadVersion:
    """Ask the server which version of the probe's model serves now; the response is its name."""

    probe: Probe


@dataclass(frozen=True, slots=True)
class RunLevel:
    """Run a level; the responses are its events."""

    plan: LevelPlan


@dataclass(frozen=True, slots=True)
class EndSweep:
    """Close what belongs to the sweep; the response is None."""


@dataclass(frozen=True, slots=True)
class StopLevel:
    """End the level that the command of this serial started. No response: the level's own LevelEnd follows."""


@dataclass(frozen=True, slots=True)
class ProceedLevel:
    """All members of the group are as far: the level continues at this moment. No response."""

    at_ns: int


@dataclass(frozen=True, slots=True)
class ReportTally:
    """The group judges the level: what are the responses so far? A LevelTally follows among the level's events."""


@dataclass(frozen=True, slots=True)
class ResumeLevel:
    """After an alarm: the level continues, with so much allowed to this member. No response."""

    allowed: Allowance


OfRunningLevel = StopLevel | ProceedLevel | ReportTally | ResumeLevel
"""What goes to the level that runs, and is obeyed at once."""


@dataclass(frozen=True, slots=True)
class Command:
    """What the daemon wants. Responses carry the serial, so that those to a command it lost interest in are dropped."""

    serial: int
    what: Preflight | ReadModels | ReadVersion | RunLevel | EndSweep | OfRunningLevel
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class Failure:
    """A command that failed. `expected`: the server or the input is not fit, the worker is; else it is of no use."""

    expected: bool
    reason: Reason
    text: str
    problems: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Reply:
    """One response to a command; a level has several, and only the last ends the command. Serial 0: ready for work."""

    serial: int
    what: object
    last: bool


def encode(message: object) -> list[bytes | memoryview]:
    """The message as parts to be written in order."""
    buffers: list[memoryview] = []
    body = pickle.dumps(message, protocol=5, buffer_callback=lambda buffer: buffers.append(buffer.raw()))
    lengths = b"".join(_LENGTH.pack(len(buffer)) for buffer in buffers)
    return [_HEAD.pack(len(buffers), len(body)) + lengths + body, *buffers]


def without_secrets(what: object) -> object:
    """What a worker reports, with no secret in its texts, and each on one printable line of bounded length: they may be
    a server's, which may have sent our own secrets back. The worker has read them, and hides them. Figures stay as they
    are."""
    if isinstance(what, Failure):
        return replace(what, text=_shown(what.text), problems=tuple(map(_shown, what.problems[:MAX_PROBLEMS])))
    if isinstance(what, LevelEnd):
        return replace(what, text=_shown(what.text))
    if isinstance(what, LevelTally):
        return replace(what, tally=replace(what.tally, last=_shown(what.tally.last)))
    if isinstance(what, Window):
        checked = what.checked
        if checked is not None and checked.difference:
            checked = replace(checked, difference=_shown(checked.difference))
        return replace(what, error_text=_shown(what.error_text), checked=checked)
    return what


def _shown(text: str) -> str:
    """Redacted before it is cut, so that no secret is left in part."""
    return clean_text(redacted(text), MESSAGE)


async def receive(connection: socket.socket) -> object:
    """The next message of a non-blocking socket. Raises EOFError at its end, OSError if it broke.

    Not to be cancelled if another message is wanted: what it has read is lost.
    """
    buffer_count, body_length = _HEAD.unpack(await _read(connection, _HEAD.size))
    lengths = await _read(connection, buffer_count * _LENGTH.size)
    body = await _read(connection, body_length)
    buffers = [await _read(connection, length) for (length,) in _LENGTH.iter_unpack(lengths)]
    return pickle.loads(body, buffers=buffers)  # noqa: S301 - our own child or parent, see above


async def _read(connection: socket.socket, length: int) -> bytearray:
    loop = asyncio.get_running_loop()
    data = bytearray(length)
    rest = memoryview(data)
    while rest:
        count = await loop.sock_recv_into(connection, rest)
        if count == 0:
            raise EOFError
        rest = rest[count:]
    return data
