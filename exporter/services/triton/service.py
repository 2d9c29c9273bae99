"""The service kind `triton`: requests of the Open Inference Protocol with Triton's binary tensors, by HTTP and by gRPC.

Owns what a request looks like. All of it is encoded before a level starts, by Triton's own client library.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

import numpy as np
import numpy.typing as npt
import tritonclient.http
from tritonclient.utils import InferenceServerException

from exporter.core.errors import InputError
from exporter.core.facts import ModelFacts, TensorSpec, request_priority
from exporter.core.probe import Probe
from exporter.core.target import Target
from exporter.services.base import Control, Placer, SharedRequests, Tensors
from exporter.services.channel_factory import connections, make_channel
from exporter.services.encoding import checked, grpc_request, http_request, raw, refuse_not_finite, request_ids
from exporter.transport.call import Answer, Channel, EncodedRequest, Listener
from exporter.transport.grpc_stream import GrpcStreamChannel


class TritonService:
    """A `Service` (services.base)."""

    def control(self, target: Target, timeout_ns: int) -> Control:
        """The control plane, whatever the door's protocol."""
        from exporter.services.triton.control import TritonControl

        return TritonControl(target, timeout_ns)

    def encode(self, probe: Probe, facts: ModelFacts, steps: Sequence[Tensors], sweep_id: str) -> list[EncodedRequest]:
        """One request a step. Headers are read now, so a token that was changed is in use from the next level on.
        Raises InputError, or PreflightError if a header's value cannot be read."""
        encode = _encode_grpc if probe.target.is_grpc else _encode_http
        requests = [
            encode(probe, facts, tensors, sweep_id, request_id)
            for tensors, request_id in zip(steps, request_ids(sweep_id), strict=False)
        ]
        if probe.streaming:
            from exporter.services.triton.stream import streamed

            return [streamed(request) for request in requests]
        return requests

    async def check_shared_memory(self, probe: Probe) -> None:
        """See `services.triton_shared_memory`."""
        from exporter.services.triton.shared_memory import check

        await check(probe)

    async def share(
        self, probe: Probe, facts: ModelFacts, steps: Sequence[Tensors], sweep_id: str, places: int
    ) -> SharedRequests:
        """See `services.triton_shared_requests`."""
        from exporter.services.triton.shared_requests import share

        return await share(probe, facts, steps, sweep_id, places)

    def placer(self, target: Target, requests: Sequence[EncodedRequest]) -> Placer:
        """See `services.triton_sequence`."""
        from exporter.services.triton.sequence import GrpcPlacer, HttpPlacer

        return GrpcPlacer(requests) if target.is_grpc else HttpPlacer(requests)

    def channel(
        self, target: Target, listener: Listener, *, streaming: bool = False, keep_answers: bool = False
    ) -> Channel:
        """A channel of the door's protocol; streaming is gRPC's alone."""
        if streaming:
            from exporter.services.triton.stream import PROTOCOL

            capacity = target.streams_per_connection
            return GrpcStreamChannel(target, listener, capacity, PROTOCOL, keep_answers=keep_answers)
        return make_channel(target, listener, keep_answers=keep_answers)

    def read_answer(self, facts: ModelFacts, answer: Answer) -> list[Tensors]:
        """The outputs of each message. Raises ProtocolError."""
        from exporter.services.triton.responses import read_answer

        return read_answer(answer)

    def connections(self, target: Target, in_flight: int) -> int:
        """One for each call over HTTP/1.1, one for many over gRPC."""
        return connections(target, in_flight)


def infer_path(model: str, version: str) -> str:
    """The path of the inference request, below the door's prefix."""
    at_version = f"/versions/{quote(version, safe='')}" if version else ""
    return f"/v2/models/{quote(model, safe='')}{at_version}/infer"


def _encode_http(probe: Probe, facts: ModelFacts, tensors: Tensors, sweep_id: str, request_id: str) -> EncodedRequest:
    binary, binary_output = probe.input.format == "binary", probe.input.output_format == "binary"
    outputs = [tritonclient.http.InferRequestedOutput(spec.name, binary_data=False) for spec in facts.outputs]
    body, json_length = tritonclient.http.InferenceServerClient.generate_request_body(
        [_http_input(spec, tensor, binary) for spec, tensor in checked(facts, tensors)],
        outputs=None if binary_output else outputs,
        request_id=request_id,
        priority=request_priority(probe, facts),
        parameters=dict(probe.input.parameters),
    )
    if json_length is None:
        headers = [("Content-Type", "application/json")]
    else:
        headers = [
            ("Content-Type", "application/octet-stream"),
            ("Inference-Header-Content-Length", str(json_length)),
        ]
    return http_request(probe, sweep_id, infer_path(probe.model, probe.version), headers, bytes(body))


def _http_input(spec: TensorSpec, tensor: npt.NDArray[np.generic], binary: bool) -> tritonclient.http.InferInput:
    if not binary and spec.datatype in ("FP16", "BF16"):
        raise InputError(
            f"input {spec.name!r}: Triton takes {spec.datatype} in binary form alone, not with format: json"
        )
    if not binary:
        refuse_not_finite(spec, tensor, "use format: binary")
    entry = tritonclient.http.InferInput(spec.name, list(tensor.shape), spec.datatype)
    try:
        entry.set_data_from_numpy(tensor, binary_data=binary)
    except InferenceServerException as error:
        raise InputError(f"input {spec.name!r}: {error.message()}") from error
    return entry


def _encode_grpc(probe: Probe, facts: ModelFacts, tensors: Tensors, sweep_id: str, request_id: str) -> EncodedRequest:
    from tritonclient.grpc import service_pb2

    request = service_pb2.ModelInferRequest(model_name=probe.model, model_version=probe.version, id=request_id)
    if priority := request_priority(probe, facts):
        request.parameters["priority"].uint64_param = priority
    for name, value in probe.input.parameters:
        _set_parameter(request.parameters[name], value)
    for spec, tensor in checked(facts, tensors):
        request.inputs.add(name=spec.name, datatype=spec.datatype, shape=tensor.shape)
        request.raw_input_contents.append(raw(spec, tensor))
    return grpc_request(probe, sweep_id, request)


def _set_parameter(parameter: Any, value: str | int | float | bool) -> None:
    """As Triton's client does, which can also send fractions by now."""
    if isinstance(value, bool):
        parameter.bool_param = value
    elif isinstance(value, int):
        parameter.int64_param = value
    elif isinstance(value, float):
        parameter.double_param = value
    else:
        parameter.string_param = value
