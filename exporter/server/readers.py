"""Which sources of readings a target has."""

from __future__ import annotations

from exporter.core.target import Target
from exporter.server.poller import Reader


def open_readers(target: Target, model: str, version: str) -> list[Reader]:
    """The target's metrics page, if it names one, and the driver, where the server runs on this machine. May take as
    long as a look-up of the host's name."""
    readers: list[Reader] = []
    if target.metrics_url:
        from exporter.server.metrics import PageReader

        readers.append(PageReader(target, model, version))
    if target.gpu == "auto":
        from exporter.server.gpu import is_this_machine, open_nvml

        if is_this_machine(target.address or target.host) and (driver := open_nvml()) is not None:
            readers.append(driver)
    return readers
