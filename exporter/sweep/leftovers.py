"""State that outlives a sweep, for the next one of the same model: abandoned requests that the server may still be
processing (they reduce the in-flight budget), the pause that the server requested, and memory that it may still share
with us. Does not know how a level counts requests, or how memory is unregistered."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from exporter.core.probe import Probe

_GROUPS = 1000
"""The most servers remembered as possibly sharing memory with us; discovered servers come and go."""


class Leftovers:
    """By group and model: when each request is presumed dropped. By group: possible shared memory. For a single
    thread."""

    def __init__(self, now_ns: Callable[[], int] = time.monotonic_ns) -> None:
        self._now_ns = now_ns
        self._until_ns: dict[tuple[str, str], tuple[int, ...]] = {}
        self._spared_until_ns: dict[tuple[str, str], int] = {}
        self._shared: dict[str, dict[str, Probe]] = {}

    def of(self, probe: Probe) -> tuple[int, ...]:
        """When each held request is presumed dropped, in order."""
        now_ns = self._now_ns()
        return tuple(moment for moment in self._until_ns.get(_place(probe), ()) if moment > now_ns)

    def keep(self, probe: Probe, until_ns: Iterable[int]) -> None:
        """Replaces the held requests."""
        now_ns = self._now_ns()
        # Discovered servers come and go.
        self._until_ns = {place: held for place, held in self._until_ns.items() if held[-1] > now_ns}
        if held := tuple(sorted(until_ns)):
            self._until_ns[_place(probe)] = held

    def spare(self, probe: Probe, until_ns: int) -> None:
        """The server requested a pause until then."""
        now_ns = self._now_ns()
        self._spared_until_ns = {place: moment for place, moment in self._spared_until_ns.items() if moment > now_ns}
        if until_ns > self.spared_until_ns(probe):
            self._spared_until_ns[_place(probe)] = until_ns

    def spared_until_ns(self, probe: Probe) -> int:
        """The end of the pause that the server requested; 0 without one."""
        return self._spared_until_ns.get(_place(probe), 0)

    def add(self, probe: Probe, requests: int) -> None:
        """Holds `requests` more, which may be in flight at the server: as long as a request that is sent now and times
        out."""
        until_ns = self._now_ns() + 2 * probe.measurement.request_timeout_ns
        held = [*self.of(probe), *[until_ns] * min(requests, probe.stop.max_in_flight)]
        self.keep(probe, held)

    def share(self, probe: Probe) -> None:
        """A sweep of the probe ended in a way that may leave its regions registered at the server."""
        kinds = self._shared.pop(probe.target.group, {})
        self._shared[probe.target.group] = kinds | {probe.input.shared_memory: probe}
        while len(self._shared) > _GROUPS:
            del self._shared[next(iter(self._shared))]

    def unshare(self, probe: Probe) -> None:
        """The server no longer has any of our regions of this kind."""
        kinds = self._shared.get(probe.target.group, {})
        kinds.pop(probe.input.shared_memory, None)
        if not kinds:
            self._shared.pop(probe.target.group, None)

    def shared(self, probe: Probe) -> tuple[Probe, ...]:
        """Probes of the same server whose regions may be left there, one per kind of memory."""
        return tuple(self._shared.get(probe.target.group, {}).values())


def _place(probe: Probe) -> tuple[str, str]:
    return probe.target.group, probe.model
