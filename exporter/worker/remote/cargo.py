"""What a level reads beside its plan: files, and a long text. They travel ahead of it, once to each machine.

The plan that follows has the paths at which the far machine keeps them; what it reports has ours again.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from exporter.core.errors import InputError, PreflightError
from exporter.core.facts import ModelFacts
from exporter.core.kinds import KINDS, Kind
from exporter.core.outcome import Reason
from exporter.core.probe import InputOptions, Probe
from exporter.core.window import LevelEnd, Window
from exporter.engine.plan import LevelPlan, MemberEvent
from exporter.payload import make_dataset
from exporter.payload.input_files import digest_of, find_input_files
from exporter.worker.ipc import Failure
from exporter.worker.remote.store import SENT_AHEAD

LONG_TEXT = 64 * 1024
"""Characters of `input.string_data` above which it goes ahead."""
CHUNK_BYTES = 1 << 20
CHUNK_SECONDS = 60.0
"""How long the far machine may take for one, and for the last look at all."""
_SYNCED_BYTES_PER_SECOND = 10e6
"""A slow disk's."""

_TEXT = ""
"""In the place of a path: no path is empty."""
_TEXT_NAME = "text"
_NO_STRINGS = np.empty(0, np.object_)

Call = Callable[..., Awaitable[Any]]
"""Calls a method of the far `WorkerHost`, and raises the Failure that it returns."""


@dataclass(frozen=True, slots=True)
class Parcel:
    """Files with one key: those of a directory, one alone, or a text in the place of one. `given` is its path here,
    `_TEXT` for a text."""

    key: str
    given: str
    files: tuple[tuple[str, Path | bytes], ...]
    is_directory: bool = False

    def at(self, folder: str) -> str:
        """Its path on a machine that keeps its parcels in this folder."""
        return f"{folder}/{self.key}" if self.is_directory else f"{folder}/{self.key}/{self.files[0][0]}"

    def chunks(self) -> Iterator[tuple[str, int, bytes]]:
        """Name, offset and bytes of each; an empty file has one. Raises OSError."""
        for name, source in self.files:
            if isinstance(source, bytes):
                yield name, 0, source
                continue
            with source.open("rb") as file:
                offset = 0
                while (data := file.read(CHUNK_BYTES)) or not offset:
                    yield name, offset, data
                    if not data:
                        break
                    offset += len(data)


class Cargo:
    """Of one sweep, for all of its workers."""

    def __init__(self) -> None:
        self._locks: dict[str, asyncio.Lock] = {}
        self._sent: dict[tuple[str, InputOptions, str], Sent] = {}
        self._named: tuple[InputOptions, tuple[str, ...]] | None = None

    async def send(self, call: Call, machine: str, plan: LevelPlan, stopping: asyncio.Event) -> Sent | None:
        """Brings to this machine what the plan reads, unless it is there; `call` asks one of its workers. None if it
        was stopped. Raises PreflightError, and what `call` raises."""
        what = plan.probe.input, plan.level.file
        # One worker at a time: what the first one of a machine got, the others find there.
        async with self._locks.setdefault(machine, asyncio.Lock()):
            if (machine, *what) not in self._sent:
                try:
                    parcels = await asyncio.to_thread(self._parcels, plan)
                    folder = await _send_all(call, parcels, stopping) if parcels else ""
                except InputError as error:
                    raise PreflightError(Reason.BAD_INPUT, str(error), problems=error.lines) from error
                except (ValueError, OSError) as error:
                    raise PreflightError(Reason.BAD_INPUT, str(error)) from error
                if stopping.is_set():
                    return None
                there = {parcel.given: parcel.at(folder) for parcel in parcels}
                text = there.pop(_TEXT, "")
                self._sent[machine, *what] = Sent(folder, there, text)
        return self._sent[machine, *what]

    def _parcels(self, plan: LevelPlan) -> list[Parcel]:
        """Raises ValueError for a path that can't be read, and InputError for data that can't."""
        options = plan.probe.input
        paths = [*options.paths, options.prompt.tokenizer, plan.level.file, *self._named_files(plan.probe, plan.facts)]
        parcels = [_of_path(path) for path in dict.fromkeys(paths) if path]
        if len(options.string_data) > LONG_TEXT:
            parcels.append(_of_text(options.string_data))
        return parcels

    def _named_files(self, probe: Probe, facts: ModelFacts) -> tuple[str, ...]:
        """The paths that the data itself names and that are files here; of a sweep they are looked up once."""
        name = _path_input(probe)
        if not name:
            return ()
        if self._named is None or self._named[0] != probe.input:
            steps = make_dataset(facts, probe.input).steps
            values: Iterator[Any] = (value for step in steps for value in step.inputs.get(name, _NO_STRINGS).flat)
            found = {value.decode(errors="replace") for value in values}
            self._named = probe.input, tuple(sorted(path for path in found if _is_file(path)))
        return self._named[1]


@dataclass(frozen=True, slots=True)
class Sent:
    """The folder in which a machine keeps what went ahead: its paths there, by the paths here; that of a text, "" for
    none."""

    folder: str
    there: Mapping[str, str]
    text: str

    def plan(self, plan: LevelPlan) -> LevelPlan:
        """As the far machine can read it."""
        there, given = self.there, plan.probe.input
        options = replace(
            given,
            paths=tuple(there.get(path, path) for path in given.paths),
            prompt=replace(given.prompt, tokenizer=there.get(given.prompt.tokenizer, "")),
            string_data=SENT_AHEAD + self.text if self.text else given.string_data,
            moved=tuple(there.items()) if _path_input(plan.probe) else (),
        )
        level = replace(plan.level, file=there.get(plan.level.file, ""))
        return replace(plan, probe=replace(plan.probe, input=options), level=level)

    def failure(self, failure: Failure) -> Failure:
        """What comes back, with the paths here."""
        return replace(failure, text=self._text(failure.text), problems=tuple(map(self._text, failure.problems)))

    def event(self, event: MemberEvent) -> MemberEvent:
        """The same."""
        if not self.there:
            return event
        if isinstance(event, LevelEnd):
            return replace(event, text=self._text(event.text))
        if isinstance(event, Window):
            checked = event.checked
            if checked is not None:
                checked = replace(checked, difference=self._text(checked.difference))
            return replace(event, error_text=self._text(event.error_text), checked=checked)
        return event

    def _text(self, text: str) -> str:
        if not self.folder or self.folder not in text:
            return text
        for there in set(self.there.values()):
            if there in text:
                text = text.replace(there, " or ".join(here for here, at in self.there.items() if at == there))
        head, found, _ = text.rpartition(self.folder)
        # Long texts are cut where they come from, and may end in the middle of a path.
        return f"{head}…" if found and text.endswith("…") else text


def _path_input(probe: Probe) -> str:
    return KINDS.get(probe.target.kind, Kind()).path_input


def _is_file(path: str) -> bool:
    with contextlib.suppress(OSError, ValueError):  # it may be any text
        return Path(path).is_file()
    return False


def _of_path(path: str) -> Parcel:
    """Raises ValueError."""
    found = find_input_files([path])
    return Parcel(found.digest, path, tuple((file.name, file) for file in found.paths), found.is_directory)


def _of_text(text: str) -> Parcel:
    content = text.encode("utf-8", "surrogatepass")
    key = digest_of([(_TEXT_NAME, hashlib.sha256(content).digest())])
    return Parcel(key, _TEXT, ((_TEXT_NAME, content),))


async def _send_all(call: Call, parcels: list[Parcel], stopping: asyncio.Event) -> str:
    """Sends what the far machine has not, and returns the folder in which it keeps it."""
    by_key = {parcel.key: parcel for parcel in parcels}
    folder, missing = await call("lacking", list(by_key), limit_s=CHUNK_SECONDS)
    for key in missing:
        await _send_one(call, by_key[key], stopping)
    return str(folder)


async def _send_one(call: Call, parcel: Parcel, stopping: asyncio.Event) -> None:
    chunks, size = parcel.chunks(), 0
    while not stopping.is_set() and (chunk := await asyncio.to_thread(next, chunks, None)) is not None:
        size += len(chunk[2])
        await call("keep_part", parcel.key, *chunk, limit_s=CHUNK_SECONDS)
    limit_s = CHUNK_SECONDS + size / _SYNCED_BYTES_PER_SECOND
    if not stopping.is_set() and not await call("keep_whole", parcel.key, limit_s=limit_s):
        raise ValueError(f"{parcel.given}: has changed while it was sent to a worker")
