"""Triton's shared-memory extensions: tensors lie in regions that the server maps, and requests only name the place.

Owns the layout, the registration at the server, and that nothing of it is left. One region of inputs and one of outputs
serve a level; each place in flight has outputs of its own, so that no response is written over another.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import re
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from exporter.core.bounds import SHARED_OUTPUT_BYTES
from exporter.core.datatypes import DATATYPES
from exporter.core.errors import InputError, PreflightError
from exporter.core.facts import ModelFacts, TensorSpec
from exporter.core.outcome import Reason
from exporter.core.probe import InputOptions, Probe
from exporter.core.target import Target
from exporter.core.units import NS
from exporter.payload.regions import (
    CUDA_DEVICE,
    PREFIX,
    CudaRegion,
    Part,
    Region,
    SystemRegion,
    exists,
    remove_orphans,
)
from exporter.services.triton.clients import TritonClient

_ALIGNMENT = 64
_PROBE_BYTES = 4096

RELEASE_LIMIT_NS = NS
"""How long a server is waited for that still uses a region. Requests that were given up were waited for before."""

_RELEASE_GAP_SECONDS = 0.02
_IN_USE = "currently in use"


@dataclass(frozen=True, slots=True)
class Area:
    """Where a tensor lies."""

    region: str
    offset: int
    size: int


_SWITCHED_OFF = re.compile(
    r"allow[-_]client[-_]shm|shared memory.*\b(disabled|not (allowed|enabled|permitted))", re.IGNORECASE
)
"""How Triton refuses it: from release 26.04 on unless its flag allows it."""
_FLAG = "--allow-client-shm=true"


class SharedMemory:
    """The regions that a level uses at one server. `close` must be called, however the level ends."""

    def __init__(self, target: Target, kind: str) -> None:
        self._client = TritonClient(target, target.connect_timeout_ns)
        self._kind = kind
        self._limit_seconds = target.connect_timeout_ns / NS
        self._regions: list[Region] = []
        self._registered: list[Region] = []

    async def place_inputs(self, steps: Sequence[Sequence[bytes]]) -> list[list[Area]]:
        """Puts the tensors of each step into one region. Raises InputError and PreflightError."""
        sizes = [[len(tensor) for tensor in step] for step in steps]
        region, areas = self._make([size for step in sizes for size in step])
        region.write(_parts(areas, [tensor for step in steps for tensor in step]))
        await self._register(region)
        return _split(areas, [len(step) for step in sizes])

    async def place_outputs(self, sizes: Sequence[int], places: int) -> list[list[Area]]:
        """Space for outputs of these sizes, for each place of its own. Raises InputError and PreflightError."""
        if (size := sum(sizes) * places) > SHARED_OUTPUT_BYTES:
            text = f"input.shared_memory: outputs of {sum(sizes)} bytes, for each of {places} requests in flight"
            raise InputError(f"{text}: expected at most {SHARED_OUTPUT_BYTES} bytes, found {size}")
        region, areas = self._make(list(sizes) * places)
        await self._register(region)
        return _split(areas, [len(sizes)] * places)

    async def remove_orphans(self) -> None:
        """Removes what other processes left behind when they were killed, here and at the server.

        The server's list is only compared with our own /dev/shm once it has opened a region of ours: else it would be
        another machine's, where those regions may be in use. What it is still responding to stays until the next time.
        """
        region, _ = self._make([_PROBE_BYTES])
        await self._register(region)
        remove_orphans()
        async with self._bounded():
            registered = await self._client.shared_memory_regions(self._kind)
        for name in registered:
            if name.startswith(PREFIX) and not exists(name):
                await self._unregister(name)

    async def close(self) -> None:
        """Unregisters and gives back all regions. Never raises: a server that is gone has forgotten them anyway."""
        for region in self._registered:
            with contextlib.suppress(PreflightError):
                await self._unregister(region.name)
        for region in self._regions:
            region.close()
        self._registered.clear()
        self._regions.clear()
        with contextlib.suppress(Exception):
            await self._client.close()

    def _make(self, sizes: Sequence[int]) -> tuple[Region, list[Area]]:
        offsets, end = [], 0
        for size in sizes:
            if not size and not end:
                # Triton reckons with a tensor's last byte: here that of nothing would lie before the region.
                end = _ALIGNMENT
            offsets.append(end)
            # And it refuses an offset at a region's end, also of nothing.
            end += -(-max(size, 1) // _ALIGNMENT) * _ALIGNMENT
        region = SystemRegion(max(end, 1)) if self._kind == "system" else CudaRegion(max(end, 1))
        self._regions.append(region)
        areas = [Area(region.name, offset, size) for offset, size in zip(offsets, sizes, strict=True)]
        return region, areas

    async def _register(self, region: Region) -> None:
        self._registered.append(region)
        async with self._bounded():
            try:
                if isinstance(region, SystemRegion):
                    await self._client.register_system_shared_memory(region.name, region.key, region.size)
                elif isinstance(region, CudaRegion):
                    await self._client.register_cuda_shared_memory(
                        region.name, region.raw_handle, CUDA_DEVICE, region.size
                    )
            except PreflightError as error:
                if _SWITCHED_OFF.search(str(error)):
                    text = f"input.shared_memory: the server shares none with clients: start it with {_FLAG} ({error})"
                    raise PreflightError(Reason.UNSUPPORTED, text) from error
                if error.reason is not Reason.PROTOCOL:
                    raise
                text = f"input.shared_memory: {self._kind} needs a server that shares it with us: {error}"
                raise PreflightError(Reason.UNSUPPORTED, text) from error

    async def _unregister(self, name: str) -> None:
        """Triton refuses what it still uses, which it may for a moment after the last response went out: it is asked
        again for a while. Raises PreflightError for other refusals."""
        last_ns = time.monotonic_ns() + RELEASE_LIMIT_NS
        while True:
            try:
                async with self._bounded():
                    await self._client.unregister_shared_memory(self._kind, name)
            except PreflightError as error:
                if _IN_USE not in str(error):
                    raise
                if time.monotonic_ns() >= last_ns:
                    return
            else:
                return
            await asyncio.sleep(_RELEASE_GAP_SECONDS)

    @contextlib.asynccontextmanager
    async def _bounded(self) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(self._limit_seconds):
                yield
        except TimeoutError as error:
            text = f"{self._client.target.url} did not respond within {self._limit_seconds:g} s"
            raise PreflightError(Reason.PREFLIGHT_TIMEOUT, text) from error


async def check(probe: Probe) -> None:
    """Whether the probe's shared memory can be used, before any load; and removes orphans. Raises PreflightError with
    the reason if it can't."""
    memory = SharedMemory(probe.target, probe.input.shared_memory)
    try:
        await memory.remove_orphans()
    except InputError as error:
        raise PreflightError(Reason.UNSUPPORTED, str(error)) from error
    finally:
        await memory.close()


def output_size(spec: TensorSpec, facts: ModelFacts, options: InputOptions) -> int:
    """Bytes of one output: known from its shape, or what the probe gives to those whose size is not."""
    width = DATATYPES[spec.datatype].size if spec.datatype in DATATYPES else 0
    if not width or min(spec.shape, default=1) < 0:
        return options.output_shared_memory_bytes * options.batch_size
    batch = options.batch_size if facts.max_batch_size > 0 else 1
    return math.prod(spec.shape) * width * batch


def _parts(areas: Sequence[Area], tensors: Sequence[bytes]) -> list[Part]:
    return [(area.offset, tensor) for area, tensor in zip(areas, tensors, strict=True)]


def _split(areas: Sequence[Area], lengths: Sequence[int]) -> list[list[Area]]:
    rest = iter(areas)
    return [[next(rest) for _ in range(length)] for length in lengths]
