"""Follows all sources: reads each at its interval, keeps the last good list, and signals when a list has changed.

It must not know how a source is read, nor what probes do.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from exporter.config import Settings
from exporter.config.probes import build_headers, build_target
from exporter.core.probe import Probe
from exporter.core.units import NS
from exporter.discovery.expand import capped, expand, own_settings, replicas
from exporter.discovery.found import DiscoveryError, Found
from exporter.discovery.sources import Response, Source
from exporter.logs import fields

MODELS_REFRESH_NS = 30 * NS
"""How often a repository index is read."""

_log = logging.getLogger("exporter.discovery")


@dataclass(frozen=True, slots=True)
class SourceState:
    """A source's last good list (None: none yet), and why it has none now."""

    found: Response | None = None
    error: str = ""


class Discovery:
    """Holds the lists. Its methods belong to the event loop's thread, but `probes_of`, which any may call.

    `on_change` is called when the probes may have become others. `measured` decides for a group whether it is this
    daemon's: the cap is over what is its own, since another daemon has another history, and would leave out others."""

    def __init__(
        self,
        on_change: Callable[[], None],
        read_source: Callable[[Source], Awaitable[Response]],
        *,
        measured: Callable[[str], bool] = lambda _group: True,
    ) -> None:
        self._on_change = on_change
        self._read = read_source
        self._measured = measured
        self._settings: Settings | None = None
        self._states: dict[Source, SourceState] = {}
        self._tasks: dict[Source, asyncio.Task[None]] = {}
        self._present: frozenset[str] = frozenset()
        self._loop: asyncio.AbstractEventLoop | None = None
        self.dropped = 0
        """Probes left out to keep limits.max_discovered."""

    def probes_of(self, settings: Settings) -> tuple[Probe, ...]:
        """The probes of these settings that are measured here, with what is known by now. Their sources are followed
        from now on, in the place of those of the settings before. Returns at once."""
        states = dict(self._states)
        expanded = expand(settings, _addresses(states), _models(states), self._present, self._measured)
        if expanded.dropped != self.dropped:
            _log.warning(
                "limits.max_discovered keeps probes out", extra=fields(dropped=expanded.dropped, before=self.dropped)
            )
        self.dropped = expanded.dropped
        targets = _targets_at(settings, expanded.addresses)
        self._present = targets.union(probe.name for probe in expanded.probes)
        self._settings = settings
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._follow)
        return expanded.probes

    def own(self, settings: Settings) -> Settings:
        """Without what is another daemon's (`own_settings`)."""
        return own_settings(settings, self._measured)

    def start(self) -> None:
        """Begins to read, on the running loop."""
        self._loop = asyncio.get_running_loop()
        self._follow()

    async def stop(self) -> None:
        """Reads nothing more."""
        self._loop = None
        tasks, self._tasks = list(self._tasks.values()), {}
        for task in tasks:
            task.cancel()
        for task in tasks:
            with contextlib.suppress(asyncio.CancelledError):
                await task

    def states(self) -> Mapping[str, tuple[bool, int]]:
        """By source, whether its last reading worked, and how many it has found."""
        return {_name(source): (not state.error, len(state.found or ())) for source, state in self._states.items()}

    # --- inside ------------------------------------------------------------------------------------------------------

    def _follow(self) -> None:
        """Reads the sources that there are now, and no others."""
        if self._loop is None or self._settings is None:
            return
        addresses, _ = capped(self._settings, _addresses(self._states), self._present, self._measured)
        wanted = sources_of(self._settings, addresses, self._measured)
        for source in self._tasks.keys() - set(wanted):
            self._tasks.pop(source).cancel()
        before = {_where(source): self._states.pop(source) for source in self._states.keys() - set(wanted)}
        for source in wanted:
            if source not in self._tasks:
                # One that is only to be read at another pace has found what it has found.
                self._states.setdefault(source, before.get(_where(source), SourceState()))
                self._tasks[source] = self._loop.create_task(self._read_for_ever(source), name=_name(source))

    async def _read_for_ever(self, source: Source) -> None:
        while True:
            try:
                self._took(source, await self._read(source))
            except DiscoveryError as error:
                self._failed(source, str(error))
            except Exception as error:
                _log.exception("internal error in a discovery source", extra=fields(source=_name(source)))
                self._failed(source, f"{type(error).__name__}: {error}")
            await asyncio.sleep(source.refresh_ns / NS)

    def _took(self, source: Source, found: Response) -> None:
        before = self._states.get(source, SourceState())
        self._states[source] = SourceState(found)
        if before.error:
            _log.info("discovery works again", extra=fields(source=_name(source)))
        if found != before.found:
            _log.info("discovered", extra=fields(source=_name(source), found=len(found)))
            self._on_change()
            self._follow()

    def _failed(self, source: Source, text: str) -> None:
        before = self._states.get(source, SourceState())
        self._states[source] = SourceState(before.found, text)
        if text != before.error:
            kept = "none" if before.found is None else len(before.found)
            _log.warning("discovery failed", extra=fields(source=_name(source), error=text, kept=kept))


def sources_of(
    settings: Settings,
    addresses: Mapping[str, Sequence[Found]],
    measured: Callable[[str], bool] = lambda _group: True,
) -> list[Source]:
    """What must be read for these settings: the lists of targets, and the models of all targets, those in the lists
    included, that are `measured` here and on which a probe wants all."""
    sources: list[Source] = []
    with_models = {probe.target for probe in settings.probes if probe.models}
    for pattern in settings.targets:
        if (discover := pattern.discover) is not None:
            make = partial(Source, build_target(pattern), discover.refresh_ns, labels=discover.labels)
            if discover.http_sd is not None:
                page = discover.http_sd
                headers = build_headers(page.headers)
                sources.append(make(url=page.url, headers=headers, ca_file=page.ca_file, proxy_url=page.proxy_url))
            else:
                sources.append(make(dns=discover.dns, files=discover.file_sd))
        if pattern.name in with_models:
            own = (target for target in replicas(pattern, addresses) if measured(target.group))
            sources += [Source(target, MODELS_REFRESH_NS) for target in own]
    return sources


def _targets_at(settings: Settings, addresses: Mapping[str, Sequence[Found]]) -> frozenset[str]:
    found = (replicas(pattern, addresses) for pattern in settings.targets if pattern.discover is not None)
    return frozenset(target.name for targets in found for target in targets)


def _where(source: Source) -> Source:
    return replace(source, refresh_ns=0)


def _name(source: Source) -> str:
    return f"models of {source.target.name}" if source.is_index else f"addresses of {source.target.name}"


def _addresses(states: Mapping[Source, SourceState]) -> dict[str, tuple[Found, ...]]:
    return {
        source.target.name: tuple(each for each in state.found or () if isinstance(each, Found))
        for source, state in states.items()
        if not source.is_index
    }


def _models(states: Mapping[Source, SourceState]) -> dict[str, tuple[str, ...]]:
    return {
        source.target.name: tuple(each for each in state.found or () if isinstance(each, str))
        for source, state in states.items()
        if source.is_index
    }
