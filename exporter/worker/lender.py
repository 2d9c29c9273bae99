"""Where the workers of a probe are: processes of this machine, or beside the workers of a Dask scheduler."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from exporter.core.probe import Probe
from exporter.engine.plan import Borrow
from exporter.worker.pool import WorkerPool
from exporter.worker.remote.host import LEASE_SECONDS
from exporter.worker.remote.pool import lend_remote


def lender(
    probe: Probe, local: WorkerPool, *, note: str = "", allowed_s: Callable[[], float] = lambda: LEASE_SECONDS
) -> Borrow:
    """Lends the workers that the probe asks for. `note` goes to the accounts of local ones; `allowed_s` is how long
    this process itself may still act, and so the remote ones."""
    if probe.pool:
        return partial(lend_remote, probe.pool, probe.workers, place=probe.place, allowed_s=allowed_s)
    return partial(local.lend, probe.workers, note)
