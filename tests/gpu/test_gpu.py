"""On a machine with an NVIDIA driver, without network: NVML's figures beside nvidia-smi's, and CUDA shared memory from
its making to its release, by ourselves, by another process, and by a Triton. `make gpu`; elsewhere these are skipped.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import json
import mmap
import shutil
import subprocess
import sys
import urllib.request
from pathlib import Path

import numpy as np
import pynvml
import pytest

from exporter.core.errors import InputError
from exporter.core.facts import GpuReading
from exporter.demo.triton import EmbeddedTriton
from exporter.demo.triton_environment import EmbeddedTritonError, find_environment
from exporter.payload.regions import FOLDER, PREFIX, CudaRegion
from exporter.server.gpu import Nvml, open_nvml


def has_driver() -> bool:
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return False
    pynvml.nvmlShutdown()
    return True


def triton_is_made() -> bool:
    try:
        return find_environment().made
    except EmbeddedTritonError:  # there is none for this Python
        return False


pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not has_driver(), reason="no NVIDIA driver on this machine")]

MIB = 1 << 20
LARGE = 256 * MIB

READ_AGAIN = """
import base64, hashlib, sys
from cuda.bindings import runtime as cudart

def checked(result):
    error, *values = result
    assert error == cudart.cudaError_t.cudaSuccess, error
    return values[0] if values else None

handle = cudart.cudaIpcMemHandle_t()
handle.reserved = base64.b64decode(sys.argv[1])
pointer = checked(cudart.cudaIpcOpenMemHandle(handle, cudart.cudaIpcMemLazyEnablePeerAccess))
data = bytearray(int(sys.argv[2]))
checked(cudart.cudaMemcpy(data, pointer, len(data), cudart.cudaMemcpyKind.cudaMemcpyDeviceToHost))
print(hashlib.sha256(data).hexdigest())
checked(cudart.cudaIpcCloseMemHandle(pointer))
"""
"""What a server does with a region: opens it by its handle, in a process of its own."""


def figures() -> dict[str, GpuReading]:
    nvml = open_nvml()
    assert isinstance(nvml, Nvml)
    try:
        reading = nvml.read()
    finally:
        nvml.close()
    assert reading.error == ""
    return {gpu.uuid: gpu for gpu in reading.gpus}


def by_nvidia_smi(*names: str) -> dict[str, dict[str, str]]:
    program = shutil.which("nvidia-smi")
    if program is None:
        pytest.skip("no nvidia-smi on the PATH")
    query = f"--query-gpu=uuid,{','.join(names)}"
    done = subprocess.run([program, query, "--format=csv,noheader,nounits"], check=True, capture_output=True, text=True)
    rows = csv.reader(done.stdout.splitlines(), skipinitialspace=True)
    return {uuid: dict(zip(names, cells, strict=True)) for uuid, *cells in rows}


def test_the_figures_are_those_of_nvidia_smi() -> None:
    names = ("memory.total", "memory.used", "temperature.gpu", "clocks.sm", "power.draw", "utilization.gpu")
    theirs, ours = by_nvidia_smi(*names), figures()
    assert theirs.keys() <= ours.keys()  # MIG instances are ours alone
    for uuid, cells in theirs.items():
        gpu = ours[uuid]
        for name, figure, unit, tolerance in (
            ("memory.total", gpu.memory_total_bytes, MIB, 0.001),
            ("temperature.gpu", gpu.temperature_celsius, 1.0, 0.1),
            ("clocks.sm", gpu.clock_hertz, 1e6, 0.5),
            ("power.draw", gpu.power_watts, 1.0, 0.5),
        ):
            try:
                expected = float(cells[name]) * unit
            except ValueError:  # "[N/A]"
                assert figure is None, (uuid, name, cells[name])
                continue
            assert figure == pytest.approx(expected, rel=tolerance), (uuid, name)
        assert gpu.memory_used_bytes is not None
        assert gpu.memory_total_bytes is not None
        # nvidia-smi leaves out what the driver keeps for itself.
        assert abs(gpu.memory_used_bytes - float(cells["memory.used"]) * MIB) <= 0.02 * gpu.memory_total_bytes
        assert gpu.utilization_ratio is None or 0 <= gpu.utilization_ratio <= 1


def region_of(size: int) -> CudaRegion:
    try:
        return CudaRegion(size)
    except InputError as error:
        pytest.fail(f"this machine has a driver, and its GPU cannot be used: {error}")


def test_a_region_is_made_filled_read_back_and_released() -> None:
    from tritonclient.utils import cuda_shared_memory

    before = {path.name for path in FOLDER.glob(f"{PREFIX}*")}
    used_before = sum(gpu.memory_used_bytes or 0 for gpu in figures().values())
    data = np.random.default_rng(1).integers(0, 256, LARGE // 4, np.uint8).tobytes()
    region = region_of(LARGE)
    try:
        assert sum(gpu.memory_used_bytes or 0 for gpu in figures().values()) - used_before >= LARGE
        region.write([(64, data), (LARGE - 4, b"\x01\x02\x03\x04")])
        held = cuda_shared_memory.get_contents_as_numpy(region._handle, np.uint8, [LARGE]).tobytes()
        assert held[64 : 64 + len(data)] == data
        assert held[-4:] == b"\x01\x02\x03\x04"
        assert held[:64] == bytes(64)
        assert len(base64.b64decode(region.raw_handle)) == 64
        by_another = subprocess.run(
            [sys.executable, "-c", READ_AGAIN, region.raw_handle, str(LARGE)],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert by_another.stdout.strip() == hashlib.sha256(held).hexdigest(), by_another.stderr[-2000:]
    finally:
        region.close()
    assert {path.name for path in FOLDER.glob(f"{PREFIX}*")} == before
    # The context of this process stays; the region does not.
    left = sum(gpu.memory_used_bytes or 0 for gpu in figures().values()) - used_before
    assert left < LARGE + 1024 * MIB


def test_many_regions_leave_nothing() -> None:
    region_of(mmap.PAGESIZE).close()  # the context
    used = sum(gpu.memory_used_bytes or 0 for gpu in figures().values())
    for _ in range(20):
        region = region_of(64 * MIB)
        region.write([(0, b"x" * 1000)])
        region.close()
    assert sum(gpu.memory_used_bytes or 0 for gpu in figures().values()) - used < 64 * MIB


def test_more_than_there_is_is_refused_with_words() -> None:
    with pytest.raises(InputError, match=r"input\.shared_memory: cuda, and no GPU can be used: "):
        CudaRegion(1 << 50)
    assert not any(path for path in FOLDER.glob(f"{PREFIX}*"))


@pytest.mark.skipif(not triton_is_made(), reason="the embedded Triton is not there, and there is no network")
@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_a_triton_is_swept_with_regions_of_the_gpu(triton: EmbeddedTriton, tmp_path: Path, protocol: str) -> None:
    port = triton.grpc_port if protocol == "grpc" else triton.http_port
    path = tmp_path / "result.json"
    command = [sys.executable, "-m", "exporter", "analyze", "-m", "identity", "-i", protocol, "-u", f"127.0.0.1:{port}"]
    options = [
        "--shared-memory",
        "cuda",
        "--shape",
        "INPUT0:1024",
        "--measurement-interval",
        "1000",
        "--json",
        str(path),
    ]
    done = subprocess.run([*command, *options], capture_output=True, text=True, timeout=120, check=False)
    text = done.stdout + done.stderr
    if "needs a server that shares it with us" in text:
        pytest.skip(f"this Triton was built without CUDA: {text[-300:]}")
    assert done.returncode in (0, 2), text  # 2: unstable
    (measurement,) = json.loads(path.read_text())["measurements"]
    assert set(measurement["outcomes"]) == {"ok"} or measurement["outcomes"]["ok"] > 0
    with urllib.request.urlopen(f"{triton.http_url}/v2/cudasharedmemory/status", timeout=10) as response:
        assert json.load(response) == []
