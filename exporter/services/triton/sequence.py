"""Triton's sequences: the id and the flags of a request that was encoded once, put in for each request again.

Owns both ways: protobuf messages are appended, since serialized messages concatenate; over HTTP the parameters are
written into the JSON header, and with it the two lengths into the head.
"""

from __future__ import annotations

import functools
import json
import re
import struct
from collections.abc import Callable, Sequence
from typing import Any

from exporter.core.errors import InputError
from exporter.services.base import Place
from exporter.transport.call import EncodedRequest

_GRPC_PREFIX = struct.Struct("!?I")
_LENGTHS = re.compile(rb"(?im)^(?:inference-header-content-length|content-length): *(\d+)\r\n")
_JSON_LENGTH = re.compile(rb"(?im)^inference-header-content-length: *(\d+)\r\n")
_CODING = re.compile(rb"(?im)^content-encoding:")
_COMPRESSED = "input.compression goes neither with sequences nor with streaming nor with input.shared_memory"
_CONFLICT = re.compile(r"START flag|correlation ID|sequence .*(has been|was) (cancelled|canceled|timed out)")
"""The words of Triton's sequence batcher for a request that fits no sequence that it knows."""


class SequenceWords:
    """What all ways to Triton have in common."""

    def is_conflict(self, text: str) -> bool:
        """See `Placer`."""
        return _CONFLICT.search(text) is not None


class GrpcPlacer(SequenceWords):
    """A `Placer` (services.base) for gRPC. Raises InputError if a request is compressed: each would have to be
    again."""

    def __init__(self, requests: Sequence[EncodedRequest]) -> None:
        for request in requests:
            _check_plain(request)
        self._requests = requests

    def place(self, step: int, place: Place) -> EncodedRequest:
        """See `Placer`."""
        return _append(self._requests[step], _flags_part(place.start, place.end) + _id_part(place.sequence_id))


def append_parameters(request: EncodedRequest, **values: int) -> EncodedRequest:
    """A gRPC request with these parameters, too. Raises InputError if it is compressed."""
    return append_message(request, _parameters(**values))


def append_message(request: EncodedRequest, part: bytes) -> EncodedRequest:
    """A gRPC request with another ModelInferRequest, serialized, merged into it. InputError if it is compressed."""
    _check_plain(request)
    return _append(request, part)


def _check_plain(request: EncodedRequest) -> None:
    if request.body[0]:
        raise InputError(_COMPRESSED)


def _append(request: EncodedRequest, part: bytes) -> EncodedRequest:
    size = len(request.body) - _GRPC_PREFIX.size + len(part)
    body = b"".join((_GRPC_PREFIX.pack(False, size), memoryview(request.body)[_GRPC_PREFIX.size :], part))
    return EncodedRequest(request.head, body)


@functools.lru_cache(4)
def _flags_part(start: bool, end: bool) -> bytes:
    return _parameters(**{name: flag for name, flag in (("sequence_start", start), ("sequence_end", end)) if flag})


@functools.lru_cache(1024)
def _id_part(sequence_id: int) -> bytes:
    return _parameters(sequence_id=sequence_id)


def _parameters(**values: int) -> bytes:
    """Parameters as a part of a ModelInferRequest, to be appended to another."""
    from tritonclient.grpc import service_pb2

    message = service_pb2.ModelInferRequest()
    for name, value in values.items():
        parameter = message.parameters[name]
        if isinstance(value, bool):
            parameter.bool_param = value
        else:
            parameter.int64_param = value
    data: bytes = message.SerializeToString()
    return data


class HttpPlacer(SequenceWords):
    """A `Placer` (services.base) for HTTP. Raises InputError if a request is compressed."""

    def __init__(self, requests: Sequence[EncodedRequest]) -> None:
        self._templates = [_HttpTemplate(request) for request in requests]

    def place(self, step: int, place: Place) -> EncodedRequest:
        """See `Placer`."""
        return self._templates[step].fill(place)


def change_json(request: EncodedRequest, change: Callable[[dict[str, Any]], None]) -> EncodedRequest:
    """An HTTP request with its JSON header changed. Raises InputError if it is compressed."""
    head, header, data = _take_apart(request)
    change(header)
    json_bytes = json.dumps(header, separators=(",", ":")).encode()
    return _put_together(head, (json_bytes,), data)


def _take_apart(request: EncodedRequest) -> tuple[bytes, dict[str, Any], memoryview]:
    """The head without its lengths and its end, the JSON header, and the tensors."""
    head, body = request.head, request.body
    if _CODING.search(head):
        raise InputError(_COMPRESSED)
    length = _JSON_LENGTH.search(head)
    json_bytes = int(length[1]) if length else len(body)
    header: dict[str, Any] = json.loads(body[:json_bytes])
    return _LENGTHS.sub(b"", head).removesuffix(b"\r\n"), header, memoryview(body)[json_bytes:]


def _put_together(head: bytes, json_parts: Sequence[bytes], data: memoryview) -> EncodedRequest:
    body = b"".join((*json_parts, data))
    json_bytes = len(body) - len(data)
    lengths = b"Inference-Header-Content-Length: %d\r\nContent-Length: %d\r\n\r\n" % (json_bytes, len(body))
    return EncodedRequest(head + lengths, body)


class _HttpTemplate:
    """A request cut where the lengths and the parameters go."""

    def __init__(self, request: EncodedRequest) -> None:
        self._head, header, self._data = _take_apart(request)
        parameters = header.pop("parameters", {})
        fixed = "".join(f"{json.dumps(name)}:{json.dumps(value)}," for name, value in parameters.items())
        self._begin = f'{{"parameters":{{{fixed}'.encode()
        self._rest = b"}," + json.dumps(header, separators=(",", ":")).encode()[1:]

    def fill(self, place: Place) -> EncodedRequest:
        values = b'"sequence_id":%d,"sequence_start":%s,"sequence_end":%s' % (
            place.sequence_id,
            b"true" if place.start else b"false",
            b"true" if place.end else b"false",
        )
        return _put_together(self._head, (self._begin, values, self._rest), self._data)
