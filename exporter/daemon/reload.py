"""The configuration and the set of probes that the daemon runs, and how they change while it runs.

It owns the configuration's file: when it is read again, and what becomes of a bad one. And it owns the order in which
the parts learn of a new set of probes, wherever that comes from.
"""

from __future__ import annotations

import asyncio
import gc
import hashlib
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from exporter.config import Settings, load
from exporter.config.redact import shown_configuration
from exporter.core.errors import ConfigError
from exporter.core.probe import Probe
from exporter.logs import fields
from exporter.schedule.phase import ProbeKey, probe_key
from exporter.schedule.scheduler import Scheduler
from exporter.state.probe_state import Board

_log = logging.getLogger("exporter.reload")

WATCH_SECONDS = 1.0
"""How often the file is looked at. A change is taken once it was the same at two looks: a file that is still being
written, or swapped again and again, is left to settle."""

_SHOWN_PROBLEMS = 5
_HASH_DIGITS = 12
_NEED_RESTART = ("data_directory", "archive", "web", "limits", "standby")
"""What is built once, at the start."""


@dataclass(frozen=True, slots=True)
class Changes:
    """How many probes a new set added, changed, removed and left alone."""

    added: int = 0
    changed: int = 0
    removed: int = 0
    unchanged: int = 0

    def __bool__(self) -> bool:
        return bool(self.added or self.changed or self.removed)


class ProbeSet:
    """The probes that run now. All methods belong to the event loop's thread."""

    def __init__(self, board: Board, scheduler: Scheduler) -> None:
        self._board = board
        self._scheduler = scheduler
        self._probes: dict[ProbeKey, Probe] = {}

    def start(self, probes: Sequence[Probe]) -> None:
        """The first set: begins to schedule. Called once, on the running loop."""
        self._probes = {probe_key(probe): probe for probe in probes}
        self._board.configure(probes)
        self._scheduler.start(probes, self._last_runs())

    def apply(self, probes: Sequence[Probe]) -> Changes:
        """Takes the whole new set in the place of the present one, at once, between two rounds of the loop.

        Probes are known by target and name. One that is equal to what it was keeps its slots, its running sweep, its
        place in line, its results and its counters. A changed one keeps results and counters as far as the board's
        `configure` sets, and its slots unless its schedule changed. The series of a removed one are gone with the
        next scrape."""
        new = {probe_key(probe): probe for probe in probes}
        have = self._probes
        kept = have.keys() & new.keys()
        changed = sum(have[key] != new[key] for key in kept)
        changes = Changes(len(new) - len(kept), changed, len(have) - len(kept), len(kept) - changed)
        self._probes = new
        self._board.configure(probes)  # first: a skip of a removed probe must find nothing to be counted at
        if changes:
            self._scheduler.replace(probes, self._last_runs())
            _log.info("probes changed", extra=fields(**asdict(changes)))
        return changes

    def _last_runs(self) -> dict[ProbeKey, float]:
        """When each probe ran last, or began to run if it does now."""
        runs = {}
        for view in self._board.probes():
            if last_unix_s := view.running_since_unix_s or view.last_run_unix_s:
                runs[probe_key(view.probe)] = last_unix_s
        return runs


@dataclass(frozen=True, slots=True)
class Loaded:
    """A configuration that was found good, with the probes that it asks for and the hash of the file's bytes."""

    settings: Settings
    probes: tuple[Probe, ...]
    hash: str
    data: bytes
    """The file's."""


ProbesOf = Callable[[Settings], Sequence[Probe]]
Own = Callable[[Settings], Settings]


@contextmanager
def _no_collections() -> Iterator[None]:
    """Python's collector of cycles stops all threads while it looks through all objects. Those of a fleet's
    configuration are hundreds of thousands, none of them in a cycle, and it would do so four times while they are made:
    a second in all in which no sweep starts and no page is served."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


@_no_collections()
def read(path: Path, probes_of: ProbesOf, own: Own = lambda settings: settings) -> Loaded:
    """Reads the file once: the hash is of what was loaded, even while the file is being swapped. What is kept of the
    settings is what `own` returns, once all of them were checked. Raises ConfigError."""
    try:
        data = path.read_bytes()
    except (OSError, ValueError) as error:
        raise ConfigError([f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}"]) from None
    settings = own(load(path, data=data))
    return Loaded(settings, tuple(probes_of(settings)), _digest(data), data)


class Reloader:
    """Holds the last good configuration, and takes a new one when asked to or when the file changes.

    `take` makes the daemon run what was loaded; it is called on the loop, and only with what was found good: a bad file
    changes nothing but `error`.
    """

    def __init__(
        self,
        path: Path,
        loaded: Loaded,
        probes_of: ProbesOf,
        take: Callable[[Loaded], object],
        own: Own = lambda settings: settings,
    ) -> None:
        self._path = path
        self._own = own
        self._probes_of = probes_of
        self._take = take
        self._started_with = _built_once(loaded.settings)
        self._loaded = loaded
        self._attempted = loaded.hash
        self._shown: tuple[bytes, str] | None = None
        self._lock = asyncio.Lock()
        self.success_unix_s = time.time()
        self.error: ConfigError | None = None
        """Why the last reload failed; None if it worked, or there was none."""

    @property
    def settings(self) -> Settings:
        """The last good settings, which are those in force but for `restart_keys`."""
        return self._loaded.settings

    @property
    def probes(self) -> tuple[Probe, ...]:
        """The probes that these settings ask for."""
        return self._loaded.probes

    @property
    def hash(self) -> str:
        """Of the bytes of the last good file."""
        return self._loaded.hash

    def shown(self) -> str:
        """The last good configuration as YAML, without anything secret. A comment on top names what of it is not in
        force."""
        data = self._loaded.data
        if self._shown is None or self._shown[0] is not data:
            self._shown = data, shown_configuration(self._path, data)
        text = self._shown[1]
        keys = ", ".join(self.restart_keys)
        return f"# Changed, needs a restart: {keys}\n{text}" if keys else text

    @property
    def restart_keys(self) -> tuple[str, ...]:
        """The sections that differ from those the daemon was started with, and are in force only after a restart."""
        now = _built_once(self._loaded.settings)
        return tuple(key for key in _NEED_RESTART if self._started_with[key] != now[key])

    async def reload(self, why: str) -> ConfigError | None:
        """Reads the file and takes it, if it is good; else returns what is wrong, and all stays as it was."""
        async with self._lock:
            before = self.restart_keys
            try:
                loaded = await asyncio.to_thread(read, self._path, self._probes_of, self._own)
                self._take(loaded)
            except ConfigError as error:
                self.error = error
                _log.error(
                    "configuration not reloaded",
                    extra=fields(why=why, problems=len(error.problems), error=summary(error)),
                )
                return error
            self._loaded, self._attempted = loaded, loaded.hash
            self.error, self.success_unix_s = None, time.time()
        _log.info("configuration reloaded", extra=fields(why=why, hash=loaded.hash, probes=len(loaded.probes)))
        if self.restart_keys and self.restart_keys != before:
            _log.warning("needs a restart to take effect", extra=fields(keys=",".join(self.restart_keys)))
        return None

    async def refresh(self) -> None:
        """Takes the probes of the present settings once more: what `probes_of` adds to them has changed."""
        async with self._lock:
            probes = await asyncio.to_thread(self._probes_of, self._loaded.settings)
            self._loaded = replace(self._loaded, probes=tuple(probes))
            self._take(self._loaded)

    async def watch(self, seconds: float = WATCH_SECONDS) -> None:
        """Reloads when what the file holds has changed; runs until it is cancelled. The path is followed again at each
        look, so that a link may be pointed elsewhere."""
        seen = self._attempted
        while True:
            await asyncio.sleep(seconds)
            now = await asyncio.to_thread(self._digest_now)
            if now == seen != self._attempted:
                self._attempted = seen
                await self._reload_watched()
            seen = now

    async def _reload_watched(self) -> None:
        try:
            await self.reload("the file changed")
        except Exception:
            _log.exception("internal error during the reload")

    def _digest_now(self) -> str:
        """The hash of what the file holds now; "" for one that can't be read."""
        try:
            return _digest(self._path.read_bytes())
        except (OSError, ValueError):
            return ""


def _built_once(settings: Settings) -> dict[str, object]:
    """The sections that are taken at the start alone. The cap of discovery is asked for each time."""
    sections = {key: getattr(settings, key) for key in _NEED_RESTART}
    return sections | {"limits": settings.limits.model_copy(update={"max_discovered": 0})}


def summary(error: ConfigError) -> str:
    """The first errors on one line, and how many more there are."""
    more = len(error.problems) - _SHOWN_PROBLEMS
    return "; ".join([*error.problems[:_SHOWN_PROBLEMS], *([f"and {more} more"] if more > 0 else [])])


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:_HASH_DIGITS]
