"""The service kind `oip`: any server of the Open Inference Protocol (v2), by HTTP and by gRPC: MLServer, KServe, …

Nothing of Triton is assumed: no model configuration, no statistics, no binary tensors over HTTP unless the server says
that it has them, and numbers in `contents` where Triton sends them raw. Triton's own client asks the questions.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from exporter.core.errors import InputError, PreflightError, ProtocolError
from exporter.core.facts import ModelFacts, ServerSnapshot, TensorSpec
from exporter.core.outcome import Reason
from exporter.core.probe import InputOptions, Probe
from exporter.core.target import Target
from exporter.server.page_snapshots import PageStatistics
from exporter.services.base import Control, Tensors
from exporter.services.encoding import Tensor, checked, http_request, refuse_not_finite, request_ids, strings
from exporter.services.triton.control import TritonControl
from exporter.services.triton.model import latest_version
from exporter.services.triton.service import TritonService, infer_path
from exporter.services.without_extensions import PlainService, model_inputs
from exporter.transport.call import Answer, EncodedRequest

_BINARY: Final = "binary_tensor_data"
"""An extension of the protocol, by the name under which a server's metadata lists it."""
_UNKNOWN_MODEL: Final = ("404", "NOT_FOUND")

_CONTENTS: Final = {
    "BOOL": "bool_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}
"""Where the elements of a datatype stand in InferTensorContents. There is no place for FP16."""


class OipService(PlainService, TritonService):
    """A `Service` (services.base)."""

    def control(self, target: Target, timeout_ns: int) -> Control:
        return OipControl(target, timeout_ns)

    def encode(self, probe: Probe, facts: ModelFacts, steps: Sequence[Tensors], sweep_id: str) -> list[EncodedRequest]:
        """As Triton's where both sides can; else JSON. Raises InputError, or PreflightError if a header's value cannot
        be read."""
        if probe.target.is_grpc or facts.binary_tensors:
            return TritonService.encode(self, probe, facts, steps, sweep_id)
        return [
            _encode_json(probe, facts, tensors, sweep_id, request_id)
            for tensors, request_id in zip(steps, request_ids(sweep_id), strict=False)
        ]

    def read_answer(self, facts: ModelFacts, answer: Answer) -> list[Tensors]:
        """The outputs of each message, raw or not. Raises ProtocolError."""
        if answer.head:
            return TritonService.read_answer(self, facts, answer)
        return [tensors for message in answer.messages for tensors in self._from_grpc(facts, bytes(message))]

    def _from_grpc(self, facts: ModelFacts, message: bytes) -> list[Tensors]:
        from google.protobuf.message import DecodeError
        from tritonclient.grpc import service_pb2

        try:
            response = service_pb2.ModelInferResponse.FromString(message)
            if response.raw_output_contents:
                return TritonService.read_answer(self, facts, Answer((message,)))
            return [{output.name: _from_contents(output) for output in response.outputs}]
        except (DecodeError, ValueError, OverflowError) as error:
            raise ProtocolError(f"an answer that is no inference response: {error}") from error


class OipControl(TritonControl):
    """A `Control` (services.base)."""

    def __init__(self, target: Target, timeout_ns: int) -> None:
        super().__init__(target, timeout_ns)
        self._page = PageStatistics(target)

    async def snapshot(self, facts: ModelFacts) -> ServerSnapshot | None:
        """What the metrics page says, where the target names it: the protocol has no statistics."""
        return await self._page.snapshot(facts)

    async def close(self) -> None:
        self._page.close()
        await super().close()

    async def _preflight(self, model: str, version: str, composing: Sequence[str], options: InputOptions) -> ModelFacts:
        if options.batch_size > 1:
            text = "the Open Inference Protocol tells no batch dimension: give whole shapes in input.shapes"
            raise PreflightError(Reason.BAD_INPUT, f"input.batch_size {options.batch_size}: {text}, and batch_size 1")
        server = await self._fit_server()
        metadata = await self._model_metadata(model, version)
        return ModelFacts(
            name=model,
            version=version or latest_version(metadata.versions),
            platform=metadata.platform,
            backend="",
            max_batch_size=0,
            inputs=model_inputs(model, list(map(_spec, metadata.inputs)), options),
            outputs=tuple(map(_spec, metadata.outputs)),
            has_statistics=self._page.there,
            server_name=server.name,
            server_version=server.version,
            asked_version=version,
            binary_tensors=_BINARY in server.extensions,
        )

    async def _model_metadata(self, model: str, version: str) -> Any:
        """What the server tells of a model that is ready. Not all servers can list their models, but all know those
        that they have."""
        url = self._target.url
        which = f"model {model!r}{f' version {version}' if version else ''}"
        try:
            ready = await self._client.model_ready(model, version)
            metadata = await self._client.model_metadata(model, version)
        except PreflightError as error:
            if not _is_unknown_model(error):
                raise
            raise PreflightError(Reason.MODEL_UNKNOWN, f"{which} is not known to {url}: {error}") from error
        if not ready:
            raise PreflightError(Reason.MODEL_NOT_READY, f"{which} is known to {url} but not ready")
        return metadata


def _is_unknown_model(error: PreflightError) -> bool:
    """MLServer's gRPC door gives the status UNKNOWN to what it does not know; only its words tell."""
    return error.status in _UNKNOWN_MODEL or (error.status == "UNKNOWN" and "not found" in str(error))


def _spec(tensor: Any) -> TensorSpec:
    return TensorSpec(tensor.name, tensor.datatype, tuple(tensor.shape))


def _encode_json(probe: Probe, facts: ModelFacts, tensors: Tensors, sweep_id: str, request_id: str) -> EncodedRequest:
    content: dict[str, Any] = {"id": request_id}
    if probe.input.parameters:
        content["parameters"] = dict(probe.input.parameters)
    content["inputs"] = [
        {"name": spec.name, "shape": tensor.shape, "datatype": spec.datatype, "data": _elements(spec, tensor)}
        for spec, tensor in checked(facts, tensors)
    ]
    headers = [("Content-Type", "application/json")]
    path = infer_path(probe.model, probe.version)
    return http_request(probe, sweep_id, path, headers, json.dumps(content).encode())


def _elements(spec: TensorSpec, tensor: Tensor) -> Sequence[Any]:
    if spec.datatype == "BYTES":
        return strings(spec, tensor)
    if spec.datatype not in _CONTENTS:
        text = f"the server takes no binary tensors over HTTP, and {spec.datatype} has no other form: use its gRPC door"
        raise InputError(f"input {spec.name!r}: {text}")
    refuse_not_finite(spec, tensor, "use the server's gRPC door")
    elements: list[Any] = tensor.ravel().tolist()
    return elements


def _from_contents(output: Any) -> Any:
    """One output whose elements are listed. Raises ValueError."""
    field = _CONTENTS.get(output.datatype)
    if field is None:
        raise ValueError(f"output {output.name!r} of datatype {output.datatype} is not raw")
    elements = getattr(output.contents, field)
    if output.datatype == "BYTES":
        tensor = np.empty(len(elements), np.object_)
        tensor[:] = list(elements)
    else:
        from exporter.payload.values import dtype_of

        tensor = np.array(elements, dtype_of(output.datatype))
    return tensor.reshape(tuple(output.shape))
