"""NVML at its C boundary: the real pynvml on a small shared object that responds as the driver does."""

from __future__ import annotations

import ctypes
import logging
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pynvml
import pytest

from exporter.core.facts import GpuReading, GpuSource
from exporter.server import gpu
from exporter.server.figures import gpu_figures
from exporter.server.gpu import is_this_machine, open_nvml
from exporter.server.metrics import PageReader
from exporter.server.poller import open_readers
from tests.builders import make_target
from tests.programs import need

SOURCE = Path(__file__).parent / "fake_nvml.c"


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    need("gcc")
    path = tmp_path_factory.mktemp("nvml") / "libnvidia-ml.so.1"
    subprocess.run(["gcc", "-shared", "-fPIC", "-w", "-o", str(path), str(SOURCE)], check=True)
    return path


@pytest.fixture
def no_library(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A machine without the driver, whatever this one has."""
    yield from _with_library(monkeypatch, Path("/no/such/libnvidia-ml.so.1"))


@pytest.fixture
def nvml(library: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    yield from _with_library(monkeypatch, library)


def _with_library(monkeypatch: pytest.MonkeyPatch, path: Path) -> Iterator[None]:
    monkeypatch.setattr(pynvml, "CDLL", lambda name: ctypes.CDLL(str(path)))
    monkeypatch.setattr(pynvml, "nvmlLib", None)
    monkeypatch.setattr(pynvml, "_nvmlGetFunctionPointer_cache", {})
    gpu._log_once.cache_clear()
    yield
    gpu._log_once.cache_clear()


@pytest.mark.usefixtures("nvml")
def test_what_the_driver_reports(library: Path) -> None:
    driver = open_nvml()
    assert driver is not None
    reading = driver.read()
    assert (reading.from_page, reading.error) == (False, "")
    gib = 2.0**30
    assert reading.gpus == (
        GpuReading(
            uuid="GPU-aaaa",
            source=GpuSource.NVML,
            utilization_ratio=0.85,
            power_watts=312.5,
            memory_used_bytes=17 * gib,
            memory_total_bytes=80 * gib,
            energy_joules=reading.gpus[0].energy_joules,
            temperature_celsius=61.0,
            clock_hertz=1.41e9,
            throttle_reasons=("sw_power_cap", "hw_thermal_slowdown"),
        ),
        GpuReading(
            uuid="GPU-bbbb",
            source=GpuSource.NVML,
            power_watts=312.5,
            memory_used_bytes=17 * gib,
            memory_total_bytes=80 * gib,
            temperature_celsius=61.0,
            clock_hertz=1.41e9,
            throttle_reasons=(),
        ),
        GpuReading("MIG-cccc", GpuSource.NVML, memory_used_bytes=gib, memory_total_bytes=10 * gib),
    )
    first, second, third = gpu_figures([reading, driver.read(), driver.read()])
    assert (first.energy_joules, second.energy_joules, third.energy_joules) == (10.0, None, None)
    assert first.throttled == {"hw_thermal_slowdown": 1.0, "sw_power_cap": 1.0}
    assert (second.throttled, third.throttled) == ({}, None)
    driver.close()
    assert ctypes.CDLL(str(library)).fake_initialized() == 0


@pytest.mark.usefixtures("nvml")
def test_a_driver_that_does_not_match_its_library(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("FAKE_NVML_BROKEN", "1")
    assert open_nvml() is None
    assert [record.getMessage() for record in caplog.records] == [
        "no GPU figures from this machine's driver (target.gpu: off stops asking): "
        "RM has detected an NVML/RM version mismatch."
    ]


@pytest.mark.usefixtures("nvml")
def test_a_driver_that_cannot_be_read_is_one_log_line(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    driver = open_nvml()
    assert driver is not None
    monkeypatch.setenv("FAKE_NVML_GONE", "1")
    readings = [driver.read() for _ in range(3)]
    driver.close()
    assert [(reading.error, reading.gpus) for reading in readings] == [("Driver Not Loaded", ())] * 3
    assert [record.getMessage() for record in caplog.records] == [
        "the driver of this machine's GPUs cannot be read: Driver Not Loaded"
    ]


@pytest.mark.usefixtures("no_library")
def test_no_driver_is_one_log_line(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        assert [open_nvml() for _ in range(3)] == [None] * 3
    (record,) = caplog.records
    assert record.getMessage().endswith("NVML Shared Library Not Found")


@pytest.mark.usefixtures("nvml")
@pytest.mark.parametrize(
    ("changes", "sources"),
    [
        ({}, ["Nvml"]),
        ({"gpu": "off"}, []),
        ({"host": "192.0.2.1"}, []),
        ({"metrics_url": "http://127.0.0.1:8002/metrics"}, ["PageReader", "Nvml"]),
        ({"metrics_url": "http://192.0.2.1:8002/metrics", "host": "192.0.2.1"}, ["PageReader"]),
    ],
)
def test_which_sources_a_target_has(changes: dict[str, str], sources: list[str]) -> None:
    readers = open_readers(make_target(**changes), "m", "")
    assert [type(reader).__name__ for reader in readers] == sources
    for reader in readers:
        reader.close()
    assert isinstance(readers[0], PageReader) if len(readers) == 2 else True


@pytest.mark.parametrize(
    ("host", "here"),
    [("127.0.0.1", True), ("localhost", True), ("192.0.2.1", False), ("no-such-host.invalid", False)],
)
def test_is_this_machine(host: str, here: bool) -> None:
    assert is_this_machine(host) is here
