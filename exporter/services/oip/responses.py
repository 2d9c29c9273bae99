"""Responses of the Open Inference Protocol: the output tensors, by HTTP and by gRPC.

Raw tensors, and all of HTTP, are read by Triton's own client library.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import tritonclient.grpc
import tritonclient.http
from google.protobuf.message import DecodeError
from tritonclient.grpc import service_pb2
from tritonclient.utils import InferenceServerException

from exporter.core.datatypes import DATATYPES
from exporter.core.errors import ProtocolError
from exporter.core.untrusted_text import clean_text
from exporter.payload.values import dtype_of
from exporter.services.base import NO_RESPONSE, Tensors
from exporter.transport.call import Response
from exporter.wire.http1 import decoded_body, read_header

_BROKEN = (InferenceServerException, DecodeError, *NO_RESPONSE)


def decode_response(
    response: Response, parse: Callable[[bytes], Any] = service_pb2.ModelInferResponse.FromString
) -> list[Tensors]:
    """The outputs by name: one mapping for each message, which over gRPC `parse` reads. Raises ProtocolError."""
    try:
        if response.head:
            return [_from_http(response)]
        return [_from_grpc(parse(bytes(message))) for message in response.messages]
    except _BROKEN as error:
        raise ProtocolError(f"the response is not an inference response: {clean_text(str(error))}") from error


def _from_http(response: Response) -> Tensors:
    (raw,) = response.messages
    body = decoded_body(response.head, raw)
    length = read_header(response.head, "inference-header-content-length")
    result = tritonclient.http.InferResult.from_response_body(body, header_length=int(length) if length else None)
    return output_tensors(result)


def _from_grpc(response: Any) -> Tensors:
    if response.raw_output_contents:
        return output_tensors(tritonclient.grpc.InferResult(response))
    return {output.name: _from_contents(output) for output in response.outputs}


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


def _from_contents(output: Any) -> Any:
    """One output whose elements are listed. Raises ValueError."""
    datatype = DATATYPES.get(output.datatype)
    if datatype is None or not datatype.contents:
        raise ValueError(f"output {output.name!r} of datatype {output.datatype} is not raw")
    elements = getattr(output.contents, datatype.contents)
    if output.datatype == "BYTES":
        tensor = np.empty(len(elements), np.object_)
        tensor[:] = list(elements)
    else:
        tensor = np.array(elements, dtype_of(output.datatype))
    return tensor.reshape(tuple(output.shape))
