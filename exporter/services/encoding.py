"""What requests of all kinds have in common: the canary's mark, the target's headers, compression, tensors as bytes."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from tritonclient.utils import InferenceServerException, np_to_triton_dtype, serialize_byte_tensor

from exporter.core.errors import InputError, TransportError
from exporter.core.facts import ModelFacts, TensorSpec
from exporter.core.probe import Probe
from exporter.services.base import Tensors
from exporter.services.connectivity import transport_reason
from exporter.transport.call import EncodedRequest
from exporter.transport.headers import read_headers
from exporter.wire.codings import compress
from exporter.wire.grpc_messages import frame_message
from exporter.wire.http1 import request_head

if TYPE_CHECKING:
    from google.protobuf.message import Message

MARK = "triton-canary"
"""The header (its value is the sweep's id) and the beginning of each request id: a server's log reports who asked."""

_MAX_GRPC_MESSAGE_BYTES = 2**31 - 1

Tensor = npt.NDArray[np.generic]


def request_ids(sweep_id: str) -> Iterator[str]:
    """The ids of a sweep's requests, in their order."""
    return (f"{MARK}-{sweep_id}-{index}" for index in itertools.count())


def http_request(
    probe: Probe, sweep_id: str, path: str, headers: Iterable[tuple[str, str]], content: bytes
) -> EncodedRequest:
    """A POST of this content below the target's path, with the target's headers as they are now. Raises PreflightError
    if one cannot be read."""
    every = sent_headers(probe, sweep_id, headers)
    if probe.input.compression != "none":
        # As Triton's client does it: the whole body, and the length of its JSON part is what it is when unpacked.
        content = compress(content, probe.input.compression)
        every.append(("Content-Encoding", probe.input.compression))
    head = request_head("POST", probe.target.path + path, probe.target.sent_authority, every, len(content))
    return EncodedRequest(head, content)


def sent_headers(probe: Probe, sweep_id: str, headers: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """These headers of a request with the canary's mark and the target's headers as they are now. Raises
    PreflightError if one cannot be read."""
    try:
        return [(MARK, sweep_id), *headers, *read_headers(probe.target.headers)]
    except TransportError as error:
        raise transport_reason(error) from error


def grpc_request(probe: Probe, sweep_id: str, message: Message) -> EncodedRequest:
    """A call with this message. The body is a whole gRPC message; the head are the headers that are the request's own,
    one a line, the channel adds the target's. Raises InputError."""
    size = message.ByteSize()
    if size > _MAX_GRPC_MESSAGE_BYTES:
        raise InputError(f"a request of {size} bytes: gRPC messages have at most {_MAX_GRPC_MESSAGE_BYTES}")
    head = f"{MARK}: {sweep_id}"
    encoding = "identity"
    if probe.input.compression != "none":
        encoding = probe.input.compression
        head += f"\ngrpc-encoding: {encoding}"
    return EncodedRequest(head.encode("ascii"), frame_message(message.SerializeToString(deterministic=True), encoding))


def checked(facts: ModelFacts, tensors: Tensors) -> list[tuple[TensorSpec, Tensor]]:
    """The tensors in the model's order, each with the model's description of it. Raises InputError."""
    specs = {spec.name: spec for spec in facts.inputs}
    unknown = sorted(tensors.keys() - specs.keys())
    if unknown:
        raise InputError(
            f"{unknown[0]!r} is not an input of model {facts.name!r}, which has {', '.join(map(repr, specs))}"
        )
    return [(spec, tensors[name]) for name, spec in specs.items() if name in tensors]


def raw(spec: TensorSpec, tensor: Tensor) -> bytes:
    """The tensor's bytes in binary form: little-endian, row-major; strings with their length before them. Raises
    InputError."""
    if spec.datatype == "BYTES":
        try:
            serialized = serialize_byte_tensor(tensor)
        except InferenceServerException as error:
            raise InputError(f"input {spec.name!r}: {error.message()}") from error
        return serialized.item() if serialized.size else b""
    if np_to_triton_dtype(tensor.dtype) != spec.datatype:
        raise InputError(f"input {spec.name!r}: expected datatype {spec.datatype}, found {tensor.dtype}")
    return tensor.tobytes()


def refuse_not_finite(spec: TensorSpec, tensor: Tensor, fix: str) -> None:
    """Raises InputError for what JSON cannot express."""
    if tensor.dtype.kind == "f" and not np.isfinite(tensor).all():
        raise InputError(f"input {spec.name!r}: has NaN or Infinity, which JSON cannot express: {fix}")


def strings(spec: TensorSpec, tensor: Tensor) -> Sequence[str]:
    """A tensor of strings as text, in row-major order. Raises InputError."""
    try:
        return [element.decode() for element in tensor.ravel().tolist()]
    except UnicodeDecodeError as error:
        raise InputError(f"input {spec.name!r}: is not valid UTF-8, which JSON requires") from error
