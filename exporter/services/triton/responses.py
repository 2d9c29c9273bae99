"""What Triton answered: the output tensors of a response, by HTTP and by gRPC. Read by Triton's own client library."""

from __future__ import annotations

from typing import Any

import numpy as np
import tritonclient.grpc
import tritonclient.http
from google.protobuf.message import DecodeError
from tritonclient.grpc import service_pb2
from tritonclient.utils import InferenceServerException

from exporter.core.errors import ProtocolError
from exporter.services.base import Tensors
from exporter.transport.call import Answer
from exporter.wire.http1 import MAX_ANSWER_BYTES, decompress, read_header

_BROKEN = (InferenceServerException, DecodeError, ValueError, KeyError, TypeError, IndexError)
"""What the client library raises for a response that is none."""


def read_answer(answer: Answer) -> list[Tensors]:
    """The outputs by name: one mapping for each message. Raises ProtocolError."""
    try:
        if answer.head:
            return [_from_http(answer)]
        return [
            output_tensors(tritonclient.grpc.InferResult(_response(bytes(message), answer.streamed)))
            for message in answer.messages
        ]
    except _BROKEN as error:
        raise ProtocolError(f"an answer that is no inference response: {error}") from error


def _response(message: bytes, streamed: bool) -> Any:
    if streamed:
        return service_pb2.ModelStreamInferResponse.FromString(message).infer_response
    return service_pb2.ModelInferResponse.FromString(message)


def _from_http(answer: Answer) -> Tensors:
    (raw,) = answer.messages
    body = decompress(bytes(raw), read_header(answer.head, "content-encoding") or "", MAX_ANSWER_BYTES)
    length = read_header(answer.head, "inference-header-content-length")
    result = tritonclient.http.InferResult.from_response_body(body, header_length=int(length) if length else None)
    return output_tensors(result)


def output_tensors(result: Any) -> Tensors:
    """The outputs in a result of either client."""
    response = result.get_response()
    outputs = response.get("outputs", []) if isinstance(response, dict) else response.outputs
    names = [output["name"] if isinstance(output, dict) else output.name for output in outputs]
    return {name: _with_bytes(result.as_numpy(name)) for name in names}


def _with_bytes(tensor: Any) -> Any:
    """Strings are text where they came in JSON, and bytes everywhere else."""
    if tensor.dtype.kind == "O":
        flat = np.empty(tensor.size, np.object_)
        flat[:] = [entry.encode() if isinstance(entry, str) else entry for entry in tensor.flat]
        return flat.reshape(tensor.shape)
    return tensor
