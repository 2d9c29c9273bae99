"""What sweeps leave for the next one of the same model: requests that they gave up on, and that the server may still be
working at, so that there is so much less capacity in flight; the pause that the server asked for; and memory that it
may still share with us. It must not know how requests are counted in a level, nor how memory is taken back.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from exporter.core.probe import Probe

_GROUPS = 1000
"""Servers of which it is remembered that they may share memory with us: under discovery they come and go for ever."""


class Leftovers:
    """By group and model: when each request is presumed dropped. By group: whose memory is shared. For one thread."""

    def __init__(self, now_ns: Callable[[], int] = time.monotonic_ns) -> None:
        self._now_ns = now_ns
        self._until_ns: dict[tuple[str, str], tuple[int, ...]] = {}
        self._spared_until_ns: dict[tuple[str, str], int] = {}
        self._shared: dict[str, dict[str, Probe]] = {}

    def of(self, probe: Probe) -> tuple[int, ...]:
        """Those that are held now, in order."""
        now_ns = self._now_ns()
        return tuple(moment for moment in self._until_ns.get(_place(probe), ()) if moment > now_ns)

    def keep(self, probe: Probe, until_ns: Iterable[int]) -> None:
        """From now on these are held, in the place of those before."""
        now_ns = self._now_ns()
        # Under discovery servers come and go for ever.
        self._until_ns = {place: held for place, held in self._until_ns.items() if held[-1] > now_ns}
        if held := tuple(sorted(until_ns)):
            self._until_ns[_place(probe)] = held

    def spare(self, probe: Probe, until_ns: int) -> None:
        """The server asked to be left alone until then."""
        now_ns = self._now_ns()
        self._spared_until_ns = {place: moment for place, moment in self._spared_until_ns.items() if moment > now_ns}
        if until_ns > self.spared_until_ns(probe):
            self._spared_until_ns[_place(probe)] = until_ns

    def spared_until_ns(self, probe: Probe) -> int:
        """Until when it asked to be left alone; 0 if it did not."""
        return self._spared_until_ns.get(_place(probe), 0)

    def add(self, probe: Probe, requests: int) -> None:
        """So many may be in flight at the server, and nothing more is known of them: they are held for as long as one
        that is sent now and given up at its time-out."""
        until_ns = self._now_ns() + 2 * probe.measurement.request_timeout_ns
        held = [*self.of(probe), *[until_ns] * min(requests, probe.stop.max_in_flight)]
        self.keep(probe, held)

    def share(self, probe: Probe) -> None:
        """A sweep of the probe ended so that its regions may still be registered at the server."""
        kinds = self._shared.pop(probe.target.group, {})
        self._shared[probe.target.group] = kinds | {probe.input.shared_memory: probe}
        while len(self._shared) > _GROUPS:
            del self._shared[next(iter(self._shared))]

    def unshare(self, probe: Probe) -> None:
        """The server has none of our regions of this kind any more."""
        kinds = self._shared.get(probe.target.group, {})
        kinds.pop(probe.input.shared_memory, None)
        if not kinds:
            self._shared.pop(probe.target.group, None)

    def shared(self, probe: Probe) -> tuple[Probe, ...]:
        """The probes of the same server, one for each kind of memory, whose regions may be left there."""
        return tuple(self._shared.get(probe.target.group, {}).values())


def _place(probe: Probe) -> tuple[str, str]:
    return probe.target.group, probe.model
