"""The parts of a sequence's requests, against what Triton's own client makes of them."""

from __future__ import annotations

import json
from typing import Any

import h11
import numpy as np
import pytest
import tritonclient.http
from tritonclient.grpc import service_pb2

from exporter.core.errors import InputError
from exporter.services.base import Place
from exporter.services.triton.service import TritonService
from exporter.transport.call import EncodedRequest
from tests.builders import make_facts, make_probe, make_target

FACTS = make_facts(name="m")
STEPS: Any = [{"INPUT0": np.full((1, 16), step, np.float32)} for step in range(2)]
PLACES = [
    Place(1, start=True, end=False),
    Place(2**63 - 1, start=False, end=False),
    Place(77, start=False, end=True),
    Place(5, start=True, end=True),
]


def placed(scheme: str, place: Place) -> tuple[EncodedRequest, EncodedRequest]:
    """The second step as it was encoded, and at its place."""
    service, target = TritonService(), make_target(scheme=scheme)
    requests = service.encode(make_probe(target=target, model="m"), FACTS, STEPS, "s1")
    return requests[1], service.placer(target, requests).place(1, place)


@pytest.mark.parametrize("place", PLACES)
def test_grpc(place: Place) -> None:
    plain, request = placed("grpc", place)
    assert request.body[0] == 0
    assert int.from_bytes(request.body[1:5], "big") == len(request.body) - 5
    message = service_pb2.ModelInferRequest.FromString(request.body[5:])
    parameters = message.parameters
    assert parameters["sequence_id"].int64_param == place.sequence_id
    assert parameters["sequence_start"].bool_param == place.start
    assert parameters["sequence_end"].bool_param == place.end
    del parameters["sequence_id"], parameters["sequence_start"], parameters["sequence_end"]
    assert message == service_pb2.ModelInferRequest.FromString(plain.body[5:])
    assert request.head == plain.head


@pytest.mark.parametrize("place", PLACES)
def test_http(place: Place) -> None:
    plain, request = placed("http", place)
    server = h11.Connection(h11.SERVER)
    server.receive_data(request.head + request.body)
    head = server.next_event()
    assert isinstance(head, h11.Request)
    data = server.next_event()
    assert isinstance(data, h11.Data)
    assert isinstance(server.next_event(), h11.EndOfMessage)
    fields = dict(head.headers)
    assert head.target == b"/v2/models/m/infer"
    assert fields[b"triton-canary"] == b"s1"
    length = int(fields[b"inference-header-content-length"])
    tensor = tritonclient.http.InferInput("INPUT0", [1, 16], "FP32")
    tensor.set_data_from_numpy(STEPS[1]["INPUT0"])
    body, _ = tritonclient.http.InferenceServerClient.generate_request_body(
        [tensor],
        request_id="triton-canary-s1-1",
        sequence_id=place.sequence_id,
        sequence_start=place.start,
        sequence_end=place.end,
    )
    theirs, binary = json.JSONDecoder().raw_decode(bytes(body[:-64]).decode())
    assert binary == len(body) - 64
    assert json.loads(data.data[:length]) == theirs
    assert bytes(data.data[length:]) == STEPS[1]["INPUT0"].tobytes()
    assert plain.body.endswith(bytes(data.data[length:]))


def test_http_keeps_the_parameters_that_are_there() -> None:
    body = json.dumps({"parameters": {"temperature": 0.5, 'a "b"': "c"}, "inputs": []}).encode()
    head = b"POST /x HTTP/1.1\r\nHost: h\r\ncontent-length: %d\r\n\r\n" % len(body)
    target = make_target()
    request = TritonService().placer(target, [EncodedRequest(head, body)]).place(0, Place(9, start=True, end=False))
    assert json.loads(request.body) == {
        "parameters": {
            "temperature": 0.5,
            'a "b"': "c",
            "sequence_id": 9,
            "sequence_start": True,
            "sequence_end": False,
        },
        "inputs": [],
    }
    assert request.head == (
        b"POST /x HTTP/1.1\r\nHost: h\r\nInference-Header-Content-Length: %d\r\nContent-Length: %d\r\n\r\n"
        % (len(request.body), len(request.body))
    )


@pytest.mark.parametrize(
    ("scheme", "request_"),
    [
        ("grpc", EncodedRequest(b"", b"\x01\0\0\0\x01x")),
        ("http", EncodedRequest(b"POST /x HTTP/1.1\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\n", b"{}")),
    ],
)
def test_compressed_requests_are_refused(scheme: str, request_: EncodedRequest) -> None:
    with pytest.raises(InputError, match=r"^input.compression goes neither with "):
        TritonService().placer(make_target(scheme=scheme), [request_])
