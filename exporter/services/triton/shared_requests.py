"""Requests whose tensors lie in shared memory: how they name the place.

They are made of requests without tensors, so that all else (ids, parameters, headers) is as in any other request.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tritonclient.grpc import service_pb2

from exporter.core.facts import ModelFacts, TensorSpec
from exporter.core.probe import Probe
from exporter.services.base import Tensors
from exporter.services.encoding import checked, raw
from exporter.services.triton.sequence import append_message, change_json
from exporter.services.triton.shared_memory import Area, SharedMemory, output_size
from exporter.transport.call import EncodedRequest

MAX_REQUESTS = 50_000
"""Encoded requests of a level. Beyond, several places in flight write their outputs to the same memory."""

Placed = tuple[TensorSpec, tuple[int, ...], Area]
"""A tensor, its shape (irrelevant for outputs), and where it lies."""


@dataclass(slots=True)
class TritonSharedRequests:
    """A `SharedRequests` (services.base)."""

    by_place: list[list[EncodedRequest]]
    memory: SharedMemory

    async def close(self) -> None:
        """See `SharedRequests`."""
        await self.memory.close()


Encode = Callable[[Probe, ModelFacts, Sequence[Tensors], str], Sequence[EncodedRequest]]
"""Makes requests of steps, as `Service.encode`."""


async def share(
    encode: Encode, probe: Probe, facts: ModelFacts, steps: Sequence[Tensors], sweep_id: str, *, places: int
) -> TritonSharedRequests:
    """Puts the steps into shared memory, and names their place in requests that `encode` makes. Raises InputError, or
    PreflightError if the server won't have it."""
    memory = SharedMemory(probe.target, probe.input.shared_memory)
    try:
        given = [checked(facts, tensors) for tensors in steps]
        areas = await memory.place_inputs([[raw(spec, tensor) for spec, tensor in step] for step in given])
        inputs = [
            [(spec, tensor.shape, area) for (spec, tensor), area in zip(step, placed, strict=True)]
            for step, placed in zip(given, areas, strict=True)
        ]
        sizes = [output_size(spec, facts, probe.input) for spec in facts.outputs]
        own_places = max(1, min(places, MAX_REQUESTS // len(steps)))
        space = await memory.place_outputs(sizes, own_places)
        plain = encode(probe, facts, [{} for _ in steps], sweep_id)
        add = _add_grpc if probe.target.is_grpc else _add_http
        by_place = []
        for placed in space:
            outputs: list[Placed] = [(spec, (), area) for spec, area in zip(facts.outputs, placed, strict=True)]
            by_place.append([add(request, step, outputs) for request, step in zip(plain, inputs, strict=True)])
    except BaseException:
        await memory.close()
        raise
    return TritonSharedRequests(by_place, memory)


def _add_grpc(request: EncodedRequest, inputs: Sequence[Placed], outputs: Sequence[Placed]) -> EncodedRequest:
    message = service_pb2.ModelInferRequest()
    for spec, shape, area in inputs:
        entry = message.inputs.add(name=spec.name, datatype=spec.datatype, shape=shape)
        _set_regions(entry.parameters, area)
    for spec, _, area in outputs:
        _set_regions(message.outputs.add(name=spec.name).parameters, area)
    return append_message(request, message.SerializeToString())


def _set_regions(parameters: Any, area: Area) -> None:
    parameters["shared_memory_region"].string_param = area.region
    parameters["shared_memory_byte_size"].int64_param = area.size
    parameters["shared_memory_offset"].int64_param = area.offset


def _add_http(request: EncodedRequest, inputs: Sequence[Placed], outputs: Sequence[Placed]) -> EncodedRequest:
    def change(header: dict[str, Any]) -> None:
        header["inputs"] = [
            {"name": spec.name, "datatype": spec.datatype, "shape": list(shape), "parameters": _where(area)}
            for spec, shape, area in inputs
        ]
        header["outputs"] = [{"name": spec.name, "parameters": _where(area)} for spec, _, area in outputs]

    return change_json(request, change)


def _where(area: Area) -> dict[str, Any]:
    return {
        "shared_memory_region": area.region,
        "shared_memory_byte_size": area.size,
        "shared_memory_offset": area.offset,
    }
