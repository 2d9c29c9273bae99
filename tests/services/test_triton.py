"""Requests as they are encoded: the same as Triton's own client makes them, and marked as the canary's."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
from dataclasses import replace
from typing import Any

import h11
import numpy as np
import pytest
import tritonclient.grpc
import tritonclient.http
import tritonclient.http.aio
from tritonclient.grpc import service_pb2
from tritonclient.utils import InferenceServerException

from exporter.core.errors import InputError, PreflightError
from exporter.core.facts import TensorSpec
from exporter.core.outcome import Reason
from exporter.core.probe import InputOptions
from exporter.core.target import Header
from exporter.payload import make_steps
from exporter.services import SERVICES
from exporter.services.oip.requests import infer_path
from exporter.services.triton.service import TritonService
from exporter.transport.call import EncodedRequest
from exporter.transport.grpc_channel import GrpcChannel
from exporter.transport.http_channel import HttpChannel
from exporter.wire.codings import decompress
from tests.builders import make_facts, make_probe, make_target
from tests.transport.scripted import serving

SPECS = (
    TensorSpec("FLOATS", "FP32", (2, 3)),
    TensorSpec("HALVES", "BF16", (4,)),
    TensorSpec("FLAGS", "BOOL", (5,)),
    TensorSpec("WORDS", "BYTES", (2,)),
)
FACTS = make_facts(name="m", inputs=SPECS)
STEPS = make_steps(FACTS, InputOptions(batch_size=2, string_length=5))


def grpc_target(**changes: Any) -> Any:
    return make_target(scheme="grpc", port=8001, **changes)


def encode(
    target: Any, version: str = "", steps: Any = STEPS, facts: Any = FACTS, compression: str = "none"
) -> list[EncodedRequest]:
    options = InputOptions(compression=compression)
    return TritonService().encode(
        make_probe(target=target, model="m", version=version, input=options), facts, steps, "s1"
    )


def parse_http(request: EncodedRequest) -> tuple[h11.Request, bytes]:
    server = h11.Connection(h11.SERVER)
    server.receive_data(request.head + request.body)
    head = server.next_event()
    assert isinstance(head, h11.Request)
    body = b""
    while isinstance(event := server.next_event(), h11.Data):
        body += event.data
    assert isinstance(event, h11.EndOfMessage)
    assert server.trailing_data == (b"", False)
    return head, body


def test_http_request_is_whole_and_carries_the_tensors() -> None:
    target = make_target(headers=(Header("Authorization", value="x", prefix="Bearer "),), path="/triton")
    (request,) = encode(target, version="3")
    head, body = parse_http(request)
    headers = dict(head.headers)
    assert (head.method, head.target) == (b"POST", b"/triton/v2/models/m/versions/3/infer")
    assert headers[b"host"] == b"127.0.0.1:8000"
    assert headers[b"triton-canary"] == b"s1"
    assert headers[b"authorization"] == b"Bearer x"
    length = int(headers[b"inference-header-content-length"])
    described = json.loads(body[:length])
    assert described["id"] == "triton-canary-s1-0"
    assert described["parameters"] == {"binary_data_output": True}
    assert [(tensor["name"], tensor["datatype"], tensor["shape"]) for tensor in described["inputs"]] == [
        ("FLOATS", "FP32", [2, 2, 3]),
        ("HALVES", "BF16", [2, 4]),
        ("FLAGS", "BOOL", [2, 5]),
        ("WORDS", "BYTES", [2, 2]),
    ]
    floats: Any = STEPS[0]["FLOATS"]
    assert body[length : length + 48] == floats.tobytes()
    words: Any = STEPS[0]["WORDS"]
    assert body[-36:] == b"".join(b"\x05\0\0\0" + word for word in words.flat)


def test_grpc_request_is_the_message_that_tritons_client_makes() -> None:
    (request,) = encode(grpc_target(), version="3")
    inputs = []
    for spec in SPECS:
        tensor = STEPS[0][spec.name]
        inputs.append(tritonclient.grpc.InferInput(spec.name, list(tensor.shape), spec.datatype))
        inputs[-1].set_data_from_numpy(tensor)
    expected = tritonclient.grpc._utils._get_inference_request(
        "m", inputs, "3", "triton-canary-s1-0", None, 0, False, False, 0, None, None
    )
    assert request.head == b"triton-canary: s1"
    assert request.body[:5] == b"\0" + (len(request.body) - 5).to_bytes(4, "big")
    assert service_pb2.ModelInferRequest.FromString(request.body[5:]) == expected


@pytest.mark.parametrize("compression", ["gzip", "deflate"])
async def test_http_compression_is_what_tritons_client_sends(compression: str) -> None:
    """The length of the JSON part is that of the uncompressed body, the coding is over all of it."""
    received: list[tuple[h11.Request, bytes]] = []

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().split(b"content-length: ")[-1].split(b"\r\n")[0])
        received.append(parse_http(EncodedRequest(head, await reader.readexactly(length))))
        writer.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")

    (request,) = encode(make_target(), compression=compression)
    inputs = []
    for spec in SPECS:
        tensor = STEPS[0][spec.name]
        inputs.append(tritonclient.http.InferInput(spec.name, list(tensor.shape), spec.datatype))
        inputs[-1].set_data_from_numpy(tensor)
    async with serving(script) as port:
        client = tritonclient.http.aio.InferenceServerClient(f"127.0.0.1:{port}")
        with pytest.raises(InferenceServerException):
            await client.infer("m", inputs, request_id="triton-canary-s1-0", request_compression_algorithm=compression)
        await client.close()
    (theirs, their_body), (ours, our_body) = received[0], parse_http(request)
    assert theirs.target.decode().lstrip("/") == ours.target.decode().lstrip("/")
    names = (b"content-encoding", b"inference-header-content-length")
    assert {name: dict(ours.headers)[name] for name in names} == {name: dict(theirs.headers)[name] for name in names}
    assert dict(ours.headers)[b"content-encoding"] == compression.encode()
    unpacked = decompress(our_body, compression, 1 << 20)
    assert unpacked == decompress(their_body, compression, 1 << 20)
    (plain,) = encode(make_target())
    assert unpacked == plain.body
    assert dict(ours.headers)[b"content-length"] == str(len(our_body)).encode()


@pytest.mark.parametrize("compression", ["gzip", "deflate"])
def test_grpc_compression_is_of_the_message(compression: str) -> None:
    (request,) = encode(grpc_target(), compression=compression)
    (plain,) = encode(grpc_target())
    assert request.head == f"triton-canary: s1\ngrpc-encoding: {compression}".encode()
    assert request.body[:5] == b"\1" + (len(request.body) - 5).to_bytes(4, "big")
    assert decompress(request.body[5:], compression, 1 << 20) == plain.body[5:]


def test_each_step_has_an_id_of_its_own() -> None:
    requests = encode(grpc_target(), steps=STEPS * 3)
    ids = [service_pb2.ModelInferRequest.FromString(request.body[5:]).id for request in requests]
    assert ids == ["triton-canary-s1-0", "triton-canary-s1-1", "triton-canary-s1-2"]


@pytest.mark.parametrize(
    ("kind", "model", "version", "expected"),
    [
        ("triton", "m", "", "/v2/models/m/infer"),
        ("triton", "m", "2", "/v2/models/m/versions/2/infer"),
        ("triton", "a/b c?d#é", "", "/v2/models/a%2Fb%20c%3Fd%23%C3%A9/infer"),
        # Triton decodes nothing: all four were measured on the real one.
        ("triton", "SE-DKT+", "", "/v2/models/SE-DKT+/infer"),
        ("triton", "a:b", "", "/v2/models/a:b/infer"),
        ("triton", "v1.2@x", "", "/v2/models/v1.2@x/infer"),
        ("triton", "a%b", "", "/v2/models/a%b/infer"),
        ("oip", "a%b:c", "", "/v2/models/a%25b:c/infer"),
    ],
)
def test_infer_path(kind: str, model: str, version: str, expected: str) -> None:
    assert infer_path(make_probe(target=make_target(kind=kind), model=model, version=version)) == expected


@pytest.mark.parametrize("target", [make_target(), grpc_target()], ids=["http", "grpc"])
@pytest.mark.parametrize(
    ("tensors", "text"),
    [
        ({"NONE": np.zeros((1, 4), np.float32)}, "'NONE' is not an input of model 'm'"),
        ({"FLOATS": np.zeros((1, 4), np.int32)}, "FLOATS.*expected.*FP32"),
    ],
)
def test_tensors_that_do_not_fit(target: Any, tensors: Any, text: str) -> None:
    with pytest.raises(InputError) as caught:
        encode(target, steps=[tensors])
    assert all(part in str(caught.value) for part in text.replace(".*", "|").split("|"))


def test_token_that_cannot_be_read() -> None:
    with pytest.raises(PreflightError, match="NO_SUCH_TOKEN is not set") as caught:
        encode(make_target(headers=(Header("Authorization", env="NO_SUCH_TOKEN"),)))
    assert caught.value.reason is Reason.AUTH


def test_token_is_read_at_each_encoding(monkeypatch: pytest.MonkeyPatch) -> None:
    target = make_target(headers=(Header("Authorization", env="TOKEN"),))
    for token in ("one", "two"):
        monkeypatch.setenv("TOKEN", token)
        (request,) = encode(target)
        assert dict(parse_http(request)[0].headers)[b"authorization"] == token.encode()


@pytest.mark.parametrize(
    ("scheme", "in_flight", "connections"),
    [("http", 1, 1), ("https", 32, 32), ("grpc", 1, 1), ("grpc", 32, 1), ("grpcs", 33, 2), ("grpc", 256, 8)],
)
def test_connections(scheme: str, in_flight: int, connections: int) -> None:
    assert TritonService().connections(make_target(scheme=scheme), in_flight) == connections


@pytest.mark.parametrize(("streams", "connections"), [(1, 100), (3, 34), (99, 2), (100, 1), (1000, 1)])
def test_streams_per_connection(streams: int, connections: int) -> None:
    target = grpc_target(streams_per_connection=streams)
    assert TritonService().connections(target, 100) == connections
    assert TritonService().channel(target, print).capacity == streams
    assert TritonService().connections(make_target(streams_per_connection=streams), 100) == 100


def test_channels_follow_the_scheme() -> None:
    service = TritonService()
    assert isinstance(service.channel(make_target(), print), HttpChannel)
    channel = service.channel(grpc_target(), print)
    assert isinstance(channel, GrpcChannel)
    assert channel.capacity * service.connections(grpc_target(), 100) >= 100


def test_kinds_are_loaded_when_they_are_made() -> None:
    heavy = "any(name.startswith(('tritonclient', 'grpc')) for name in sys.modules)"
    code = f"import sys, exporter.services; sys.exit({heavy})"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    assert isinstance(SERVICES["triton"](), TritonService)


# --- priority --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "levels", "sent"), [("low", 3, 3), ("low", 1, 1), ("low", 0, None), ("default", 3, None)]
)
def test_priority_is_the_last_of_the_model_s_levels(asked: str, levels: int, sent: int | None) -> None:
    facts = make_facts(name="m", inputs=SPECS, priority_levels=levels)

    def made(target: Any) -> EncodedRequest:
        probe = make_probe(target=target, model="m", input=InputOptions(priority=asked))
        return TritonService().encode(probe, facts, STEPS, "s1")[0]

    head, body = parse_http(made(make_target()))
    length = int(dict(head.headers)[b"inference-header-content-length"])
    assert json.loads(body[:length]).get("parameters", {}).get("priority") == sent
    message = service_pb2.ModelInferRequest.FromString(made(grpc_target()).body[5:])
    found = message.parameters["priority"].uint64_param if "priority" in message.parameters else None
    assert found == sent


PARAMETERS: Any = (("headers", "x"), ("priority", 3), ("timeout", 1000))


@pytest.mark.parametrize("format_", ["binary", "json"])
def test_parameters_of_any_name_go_over_http(format_: str) -> None:
    """The client's library refuses these; Triton takes them, and perf_analyzer sends them over gRPC."""
    facts, options = make_facts(name="m"), InputOptions(parameters=PARAMETERS, format=format_)
    steps = make_steps(facts, options)
    request, plain = (
        TritonService().encode(make_probe(target=make_target(), input=given), facts, steps, "s")[0]
        for given in (options, replace(options, parameters=()))
    )
    length = re.search(rb"(?i)inference-header-content-length: (\d+)", request.head)
    content = json.loads(request.body[: int(length[1])] if length else request.body)
    assert dict(PARAMETERS).items() <= content["parameters"].items()
    without = re.search(rb"(?i)inference-header-content-length: (\d+)", plain.head)
    if length and without:
        assert request.body[int(length[1]) :] == plain.body[int(without[1]) :]


@pytest.mark.parametrize("datatype", ["FP16", "BF16"])
def test_half_floats_as_json_outputs_are_refused_before_the_load(datatype: str) -> None:
    facts = replace(FACTS, outputs=(TensorSpec("O", datatype, (1,)),))
    probe = make_probe(target=make_target(), input=InputOptions(batch_size=2, string_length=5, output_format="json"))
    with pytest.raises(InputError, match=rf"^output 'O': Triton sends {datatype} only in binary form"):
        TritonService().encode(probe, facts, STEPS, "s")
