"""The daemon's place in a standby pair: its lease, what waits for it, and how a daemon that lost it begins again.

A daemon that has lost its lease has results, baselines and budgets that another one changes from now on. So it ends in
order and begins again as a new process, which reads them when its turn comes.
"""

from __future__ import annotations

import asyncio
import logging
import math
import os
import sys
from pathlib import Path
from typing import NoReturn

from exporter.config import Settings
from exporter.core.errors import ConfigError
from exporter.core.lease_state import LeaseState
from exporter.core.units import NS
from exporter.schedule.sharding import Shard
from exporter.standby.file_lease import FileLease
from exporter.standby.keeper import LeaseKeeper
from exporter.standby.lease import LeaseStore

LEASE_FOLDER = "lease"

_log = logging.getLogger("exporter.daemon")


class Standby:
    """The lease of this daemon, or that it needs none. `until_ns` as `Account.lend` takes it."""

    def __init__(self, settings: Settings, shard: Shard) -> None:
        """Raises ConfigError if the lease is to be in a cluster, and this runs in none."""
        self._name = settings.standby.name
        self._shard = str(shard)
        store = _store(settings, shard)
        self.keeper = LeaseKeeper(store, settings.standby.duration_ns) if store is not None else None
        self.was_lost = False

    @property
    def may_measure(self) -> bool:
        """Whether this daemon may measure at this moment."""
        return self.keeper is None or self.keeper.is_held

    def until_ns(self) -> int:
        """From which moment on nothing may be sent; 0 for none."""
        return 0 if self.keeper is None else self.keeper.until_ns

    def seconds_left(self) -> float:
        """How long this daemon may act without another renewal."""
        return math.inf if self.keeper is None else self.keeper.seconds_left

    def state(self) -> LeaseState | None:
        """What is shown; None where no lease is needed."""
        keeper = self.keeper
        if keeper is None:
            return None
        held, left_s = keeper.is_held, keeper.seconds_left
        return LeaseState(self._name, self._shard, held, left_s, keeper.errors, keeper.other, keeper.problem)

    async def wait_for_turn(self, stop: asyncio.Event) -> bool:
        """Returns once this daemon may measure; False if it is stopped before."""
        if self.keeper is None:
            return True
        stopping = asyncio.ensure_future(stop.wait())
        taking = asyncio.ensure_future(self.keeper.acquire())
        await asyncio.wait({stopping, taking}, return_when=asyncio.FIRST_COMPLETED)
        for task in (stopping, taking):
            task.cancel()
        await asyncio.gather(stopping, taking, return_exceptions=True)
        return not stop.is_set()

    async def keep(self, stop: asyncio.Event) -> None:
        """Keeps the lease until it is lost, and then stops the daemon."""
        if self.keeper is not None:
            await self.keeper.keep()
            self.was_lost = True
            stop.set()

    async def release(self) -> None:
        """Nothing is sent or written any more: another may have the lease."""
        if self.keeper is not None:
            await self.keeper.release()


def begin_again() -> NoReturn:
    """This process becomes a new daemon, under its number and with its arguments; threads that hang are left behind."""
    _log.info("begins again, as a standby")
    logging.shutdown()
    os.execv(sys.executable, sys.orig_argv)  # noqa: S606 - itself


def lease_name(name: str, shard: Shard) -> str:
    """The Lease object's. Without the number of shards: while it changes, a pair has one daemon of either number, and
    they share groups."""
    return f"{name}-{shard.index}"


def _store(settings: Settings, shard: Shard) -> LeaseStore | None:
    standby = settings.standby
    if standby.lease == "none":
        return None
    if standby.lease == "file":
        return FileLease(Path(settings.data_directory) / LEASE_FOLDER)
    try:
        from exporter.standby.kubernetes_lease import KubernetesLease, pod_config
    except ImportError:
        text = "standby.lease: kubernetes needs the package lightkube: pip install 'triton-canary[kubernetes]'"
        raise ConfigError([text]) from None
    try:
        config = pod_config()
    except OSError as error:
        raise ConfigError([f"standby.lease: kubernetes works only in a pod with a service account: {error}"]) from None
    return KubernetesLease(config, lease_name(standby.name, shard), standby.duration_ns / NS / 5)
