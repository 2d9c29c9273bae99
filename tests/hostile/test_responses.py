"""Responses of the load that are none, whatever is wrong with them: an outcome of their own, and the worker
continues."""

from __future__ import annotations

import json
import struct
from typing import Any

import pytest
from tritonclient.grpc import service_pb2

from exporter.core.errors import ProtocolError
from exporter.core.facts import TensorSpec
from exporter.services import SERVICES
from exporter.services.tfserving import tfserving_pb2 as tf
from exporter.transport.call import Response
from tests.builders import make_facts

FACTS = make_facts(outputs=(TensorSpec("OUTPUT0", "FP32", (4,)), TensorSpec("S", "BYTES", (1,))))
OUTPUT = {"name": "OUTPUT0", "datatype": "FP32", "shape": [4]}


def http(content: object, header_length: str = "") -> Response:
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    head = b"HTTP/1.1 200 OK\r\n"
    if header_length:
        head += f"Inference-Header-Content-Length: {header_length}\r\n".encode()
    return Response((body,), head + b"\r\n")


def grpc(raw: list[bytes], **changes: Any) -> Response:
    response = service_pb2.ModelInferResponse(raw_output_contents=raw)
    response.outputs.add(**(OUTPUT | changes))
    return Response((response.SerializeToString(),))


STRINGS = struct.pack("<I", 5) + b"hel"
OIP: dict[str, Response] = {
    "no JSON": http(b"<html>"),
    "a number": http(5),
    "a list": http([1]),
    "outputs that are numbers": http({"outputs": [5]}),
    "outputs that are a text": http({"outputs": "OUTPUT0"}),
    "outputs without a name": http({"outputs": [{"shape": [4]}]}),
    "a shape that is a text": http({"outputs": [OUTPUT | {"shape": "4", "data": [1, 2, 3, 4]}]}),
    "65 dimensions": http({"outputs": [OUTPUT | {"shape": [1] * 65, "data": [1.0]}]}),
    "a shape beyond memory": http({"outputs": [OUTPUT | {"shape": [2**62, 2**62], "data": [1.0]}]}),
    "another shape": http({"outputs": [OUTPUT | {"shape": [5], "data": [1, 2, 3, 4]}]}),
    "data that is a text": http({"outputs": [OUTPUT | {"data": "abcd"}]}),
    "a length that is none": http({"outputs": [OUTPUT | {"data": [1, 2, 3, 4]}]}, "x"),
    "deep nesting": http(b"[" * 100_000),
    "a message that is none": Response((b"\xff\xff\xff",)),
    "a raw tensor that is cut off": grpc([bytes(15)]),
    "strings that are cut off": grpc([STRINGS], datatype="BYTES", shape=[1]),
    "a string's length that is cut off": grpc([b"\x05\x00"], datatype="BYTES", shape=[1]),
    "raw: 65 dimensions": grpc([bytes(4)], shape=[1] * 65),
    "raw: a shape beyond memory": grpc([bytes(16)], shape=[2**62, 2**62]),
    "raw: an unknown datatype": grpc([bytes(16)], datatype="FP7"),
    "fewer tensors than outputs": grpc([]),
}


def prediction(**changes: Any) -> Response:
    response = tf.PredictResponse()
    for name, value in changes.items():
        setattr(response.outputs["OUTPUT0"], name, value)
    for size in changes.get("shape", ()):
        response.outputs["OUTPUT0"].tensor_shape.dim.add(size=size)
    return Response((response.SerializeToString(),))


TFSERVING: dict[str, Response] = {
    "no JSON": http(b"<html>"),
    "a number": http(5),
    "no outputs": http({"predictions": [1]}),
    "rows of several lengths": http({"outputs": {"OUTPUT0": [[1], [1, 2]], "S": ["x"]}}),
    "deep nesting": http(b"[" * 100_000),
    "a message that is none": Response((b"\xff\xff\xff",)),
    "an unknown datatype": prediction(dtype=77),
    "a raw tensor that is cut off": prediction(dtype=1, tensor_content=b"\x00\x00\x00"),
}


@pytest.mark.parametrize(
    ("kind", "response"),
    [
        pytest.param(kind, response, id=f"{kind}-{name}")
        for kind, responses in {"triton": OIP, "oip": OIP, "tfserving": TFSERVING}.items()
        for name, response in responses.items()
    ],
)
def test_a_response_that_is_none_is_a_protocol_error(kind: str, response: Response) -> None:
    with pytest.raises(ProtocolError, match=r"response (that )?is no") as caught:
        SERVICES[kind]().decode_response(FACTS, response)
    assert str(caught.value).isprintable()
