"""What NVIDIA's driver reports about this machine's GPUs, through NVML. Every figure that a GPU does not have is left
out."""

from __future__ import annotations

import contextlib
import logging
import socket
import time
from collections.abc import Callable, Iterator
from functools import cache, partial
from typing import Any, TypeVar

import pynvml

from exporter.core.facts import GpuReading, GpuSource, ServerReading
from exporter.server import MAX_GPUS

_T = TypeVar("_T")
_log = logging.getLogger(__name__)

THROTTLE_REASONS = {
    pynvml.nvmlClocksEventReasonSwPowerCap: "sw_power_cap",
    pynvml.nvmlClocksEventReasonHwSlowdown: "hw_slowdown",
    pynvml.nvmlClocksEventReasonSyncBoost: "sync_boost",
    pynvml.nvmlClocksEventReasonSwThermalSlowdown: "sw_thermal_slowdown",
    pynvml.nvmlClocksEventReasonHwThermalSlowdown: "hw_thermal_slowdown",
    pynvml.nvmlClocksEventReasonHwPowerBrakeSlowdown: "hw_power_brake",
}
"""What holds a clock down against the user's wish, by NVML's bits. An idle GPU and clocks set on purpose are none."""


def is_this_machine(host: str) -> bool:
    """Whether the host's address is one of this machine's: only those can be bound."""
    try:
        entries = socket.getaddrinfo(host, 0, type=socket.SOCK_DGRAM)
    except OSError:
        return False
    for family, kind, protocol, _, address in entries:
        with contextlib.suppress(OSError), socket.socket(family, kind, protocol) as own:
            own.bind(address)
            return True
    return False


def open_nvml() -> Nvml | None:
    """The driver; None, and one log line in the life of this process, where there is none."""
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        _log_once(f"no GPU figures from this machine's driver (target.gpu: off stops asking): {error}")
        return None
    return Nvml()


@cache
def _log_once(text: str) -> None:
    _log.warning(text)


class Nvml:
    """A `Reader` (poller) of all GPUs and their MIG instances, at most MAX_GPUS of both."""

    from_page = False

    def read(self) -> ServerReading:
        """What the driver reports now."""
        asked_ns = time.monotonic_ns()
        try:
            gpus = tuple(gpu for gpu, _ in zip(_all(), range(MAX_GPUS), strict=False))
        except pynvml.NVMLError as error:
            _log_once(f"the driver of this machine's GPUs cannot be read: {error}")
            return ServerReading(asked_ns, False, error=str(error))
        return ServerReading((asked_ns + time.monotonic_ns()) // 2, False, gpus=gpus)

    def stop(self) -> None:
        """Nothing: a reading takes no time to speak of."""

    def close(self) -> None:
        """Lets the driver go."""
        with contextlib.suppress(pynvml.NVMLError):
            pynvml.nvmlShutdown()


def _all() -> Iterator[GpuReading]:
    for index in range(pynvml.nvmlDeviceGetCount()):
        handle = _asked(partial(pynvml.nvmlDeviceGetHandleByIndex, index))
        uuid = None if handle is None else _uuid(handle)
        if uuid is None:  # fallen off the bus
            continue
        yield _gpu(handle, uuid)
        yield from _mig_instances(handle)


def _uuid(handle: Any) -> str | None:
    uuid = _asked(partial(pynvml.nvmlDeviceGetUUID, handle))
    return None if uuid is None else str(uuid)


def _gpu(handle: Any, uuid: str) -> GpuReading:
    memory = _asked(partial(pynvml.nvmlDeviceGetMemoryInfo, handle))
    return GpuReading(
        uuid=uuid,
        source=GpuSource.NVML,
        utilization_ratio=_scaled(lambda: pynvml.nvmlDeviceGetUtilizationRates(handle).gpu, 0.01),
        power_watts=_scaled(partial(pynvml.nvmlDeviceGetPowerUsage, handle), 1e-3),
        memory_used_bytes=None if memory is None else float(memory.used),
        memory_total_bytes=None if memory is None else float(memory.total),
        energy_joules=_scaled(partial(pynvml.nvmlDeviceGetTotalEnergyConsumption, handle), 1e-3),
        temperature_celsius=_scaled(partial(pynvml.nvmlDeviceGetTemperature, handle, pynvml.NVML_TEMPERATURE_GPU), 1.0),
        clock_hertz=_scaled(partial(pynvml.nvmlDeviceGetClockInfo, handle, pynvml.NVML_CLOCK_SM), 1e6),
        throttle_reasons=_throttle_reasons(handle),
    )


def _mig_instances(handle: Any) -> Iterator[GpuReading]:
    """NVML reports the memory of an instance; power, energy and clocks are the whole GPU's."""
    mode = _asked(partial(pynvml.nvmlDeviceGetMigMode, handle))
    if mode is None or mode[0] != pynvml.NVML_DEVICE_MIG_ENABLE:
        return
    for index in range(_asked(partial(pynvml.nvmlDeviceGetMaxMigDeviceCount, handle)) or 0):
        instance = _asked(partial(pynvml.nvmlDeviceGetMigDeviceHandleByIndex, handle, index))
        uuid = None if instance is None else _uuid(instance)
        if uuid is None:
            continue
        memory = _asked(partial(pynvml.nvmlDeviceGetMemoryInfo, instance))
        yield GpuReading(
            uuid=uuid,
            source=GpuSource.NVML,
            memory_used_bytes=None if memory is None else float(memory.used),
            memory_total_bytes=None if memory is None else float(memory.total),
        )


def _throttle_reasons(handle: Any) -> tuple[str, ...] | None:
    # The older name of the call: drivers before 535 know no other, and newer ones still have it.
    bits = _asked(partial(pynvml.nvmlDeviceGetCurrentClocksThrottleReasons, handle))
    return None if bits is None else tuple(name for bit, name in THROTTLE_REASONS.items() if bits & bit)


def _scaled(ask: Callable[[], Any], scale: float) -> float | None:
    value = _asked(ask)
    return None if value is None else value * scale


def _asked(ask: Callable[[], _T]) -> _T | None:
    """The driver's value; None where this GPU has no such figure."""
    try:
        return ask()
    except pynvml.NVMLError:
        return None
