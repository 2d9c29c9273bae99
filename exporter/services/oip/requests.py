"""Requests of the Open Inference Protocol: by gRPC, by HTTP with binary tensors, and as JSON alone.

All of it is encoded before a level starts; binary tensors by Triton's own client library, whose extension they are.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import tritonclient.http
from tritonclient.utils import InferenceServerException

from exporter.core.datatypes import DATATYPES, HALF_FLOATS
from exporter.core.errors import InputError
from exporter.core.facts import ModelFacts, TensorSpec, request_priority
from exporter.core.probe import Probe
from exporter.services.base import Tensors
from exporter.services.encoding import Tensor, checked, grpc_request, http_request, raw, refuse_not_finite, strings
from exporter.services.http_client import model_path
from exporter.transport.call import EncodedRequest


def infer_path(probe: Probe) -> str:
    """The path of the inference request, below the endpoint's prefix."""
    return f"{model_path(probe.target.kind, probe.model, probe.version)}/infer"


# --- HTTP, binary ----------------------------------------------------------------------------------------------------


def encode_http(probe: Probe, facts: ModelFacts, tensors: Tensors, sweep_id: str, request_id: str) -> EncodedRequest:
    """For servers that take binary tensors; in `input.format` and `input.output_format`. Raises InputError, or
    PreflightError if a header's value cannot be read."""
    binary, binary_output = probe.input.format == "binary", probe.input.output_format == "binary"
    if not binary_output:
        _refuse_half_floats(facts.outputs)
    outputs = [tritonclient.http.InferRequestedOutput(spec.name, binary_data=False) for spec in facts.outputs]
    body, json_length = tritonclient.http.InferenceServerClient.generate_request_body(
        [_http_input(spec, tensor, binary) for spec, tensor in checked(facts, tensors)],
        outputs=None if binary_output else outputs,
        request_id=request_id,
        priority=request_priority(probe, facts),
    )
    body, json_length = _with_parameters(bytes(body), json_length, dict(probe.input.parameters))
    if json_length is None:
        headers = [("Content-Type", "application/json")]
    else:
        headers = [
            ("Content-Type", "application/octet-stream"),
            ("Inference-Header-Content-Length", str(json_length)),
        ]
    return http_request(probe, sweep_id, infer_path(probe), headers, body)


def _with_parameters(body: bytes, json_length: int | None, parameters: dict[str, Any]) -> tuple[bytes, int | None]:
    """The body with these parameters, too. The client's library refuses some names, which it has other uses for."""
    if not parameters:
        return body, json_length
    content = json.loads(body[:json_length])
    content["parameters"] = content.get("parameters", {}) | parameters
    head = json.dumps(content, separators=(",", ":")).encode()
    return (head, None) if json_length is None else (head + body[json_length:], len(head))


def _refuse_half_floats(outputs: Sequence[TensorSpec]) -> None:
    for spec in outputs:
        if spec.datatype in HALF_FLOATS:
            text = f"Triton sends {spec.datatype} only in binary form, not with output_format: json"
            raise InputError(f"output {spec.name!r}: {text}")


def _http_input(spec: TensorSpec, tensor: Tensor, binary: bool) -> tritonclient.http.InferInput:
    if not binary and spec.datatype in HALF_FLOATS:
        raise InputError(
            f"input {spec.name!r}: Triton takes {spec.datatype} only in binary form, not with format: json"
        )
    if not binary:
        refuse_not_finite(spec, tensor, "use format: binary")
    entry = tritonclient.http.InferInput(spec.name, list(tensor.shape), spec.datatype)
    try:
        entry.set_data_from_numpy(tensor, binary_data=binary)
    except InferenceServerException as error:
        raise InputError(f"input {spec.name!r}: {error.message()}") from error
    return entry


# --- HTTP, JSON ------------------------------------------------------------------------------------------------------


def encode_json(probe: Probe, facts: ModelFacts, tensors: Tensors, sweep_id: str, request_id: str) -> EncodedRequest:
    """For servers that do not take binary tensors. Raises as `encode_http`."""
    content: dict[str, Any] = {"id": request_id}
    if probe.input.parameters:
        content["parameters"] = dict(probe.input.parameters)
    content["inputs"] = [
        {"name": spec.name, "shape": tensor.shape, "datatype": spec.datatype, "data": _elements(spec, tensor)}
        for spec, tensor in checked(facts, tensors)
    ]
    headers = [("Content-Type", "application/json")]
    path = infer_path(probe)
    return http_request(probe, sweep_id, path, headers, json.dumps(content).encode())


def _elements(spec: TensorSpec, tensor: Tensor) -> Sequence[Any]:
    if spec.datatype == "BYTES":
        return strings(spec, tensor)
    if spec.datatype not in DATATYPES or spec.datatype in HALF_FLOATS:
        text = f"the server takes no binary tensors over HTTP, which {spec.datatype} needs: use its gRPC endpoint"
        raise InputError(f"input {spec.name!r}: {text}")
    refuse_not_finite(spec, tensor, "use the server's gRPC endpoint")
    elements: list[Any] = tensor.ravel().tolist()
    return elements


# --- gRPC ------------------------------------------------------------------------------------------------------------


def encode_grpc(probe: Probe, facts: ModelFacts, tensors: Tensors, sweep_id: str, request_id: str) -> EncodedRequest:
    """With raw tensors. Raises InputError."""
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
