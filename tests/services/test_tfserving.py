"""The kind `tfserving` against a scripted server: what it reports, its errors, and both protocols' messages."""

from __future__ import annotations

import base64
import json
import re
from asyncio import StreamReader, StreamWriter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import grpc
import numpy as np
import pytest

from exporter.core.datatypes import DATATYPES
from exporter.core.errors import PreflightError, ProtocolError
from exporter.core.facts import ModelFacts, TensorSpec
from exporter.core.outcome import Outcome, Reason
from exporter.core.probe import InputOptions, Probe
from exporter.core.target import Header
from exporter.payload import make_steps
from exporter.services.tfserving import tfserving_pb2 as pb
from exporter.services.tfserving.messages import (
    MAX_BATCH_SIZE,
    Reported,
    model_facts,
    model_spec,
    read_tensor,
    write_tensor,
)
from exporter.services.tfserving.service import PREDICT, TfServingService
from exporter.transport.call import Response
from tests.builders import make_facts, make_probe, make_target
from tests.services.asking import facts_of, response_to
from tests.services.test_triton_control import pages
from tests.transport.scripted import serving

SERVICE = TfServingService()
STATUS = "/tensorflow.serving.ModelService/GetModelStatus"
METADATA = "/tensorflow.serving.PredictionService/GetModelMetadata"


def tensor_info(dtype: int, *dims: int) -> pb.TensorInfo:
    info = pb.TensorInfo(dtype=dtype)
    for size in dims:
        info.tensor_shape.dim.add(size=size)
    return info


SIGNATURES = pb.SignatureDefMap()
SIGNATURES.signature_def["serving_default"].inputs["x"].CopyFrom(tensor_info(pb.DT_FLOAT, -1, 3))
SIGNATURES.signature_def["serving_default"].inputs["id"].CopyFrom(tensor_info(pb.DT_STRING, -1))
SIGNATURES.signature_def["serving_default"].outputs["y"].CopyFrom(tensor_info(pb.DT_DOUBLE, -1, 3))
SIGNATURES.signature_def["whole"].inputs["x"].CopyFrom(tensor_info(pb.DT_INT64, 2, 2))
SIGNATURES.signature_def["__saved_model_init_op"].method_name = ""


def metadata_response(_request: bytes) -> bytes:
    response = pb.GetModelMetadataResponse()
    response.metadata["signature_def"].type_url = "type.googleapis.com/tensorflow.serving.SignatureDefMap"
    response.metadata["signature_def"].value = SIGNATURES.SerializeToString()
    return bytes(response.SerializeToString())


def status_response(*states: tuple[int, int, str]) -> Callable[[bytes], bytes]:
    response = pb.GetModelStatusResponse()
    for version, state, text in states:
        entry = response.model_version_status.add(version=version, state=state)
        entry.status.error_message = text
    return lambda _request: response.SerializeToString()


def double(request: bytes) -> bytes:
    """A model that doubles its x."""
    given = pb.PredictRequest.FromString(request)
    response = pb.PredictResponse(model_spec=given.model_spec)
    tensor = read_tensor(given.inputs["x"]).astype(np.float64) * 2
    write_tensor(response.outputs["y"], TensorSpec("y", "FP64", ()), tensor)
    return bytes(response.SerializeToString())


AVAILABLE = status_response((3, 30, ""), (12, 30, ""), (13, 20, ""))
Handlers = dict[str, Callable[[bytes], bytes] | grpc.StatusCode]
WHOLE: Handlers = {STATUS: AVAILABLE, METADATA: metadata_response, PREDICT: double}


class Scripted(grpc.GenericRpcHandler):  # type: ignore[misc]
    """Responses, or refuses, each method as it is reported; the others are UNIMPLEMENTED."""

    def __init__(self, handlers: Handlers, seen: list[Any]) -> None:
        self._handlers = handlers
        self._seen = seen

    def service(self, details: Any) -> Any:
        handler = self._handlers.get(details.method)
        if handler is None:
            return None

        async def response(request: bytes, context: Any) -> bytes:
            self._seen.append((details.method, request, dict(context.invocation_metadata())))
            if isinstance(handler, grpc.StatusCode):
                await context.abort(handler, "states the script")
            assert callable(handler)
            return handler(request)

        return grpc.unary_unary_rpc_method_handler(response)


@asynccontextmanager
async def scripted(handlers: Handlers, seen: list[Any] | None = None, **changes: Any) -> AsyncIterator[Probe]:
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((Scripted(handlers, [] if seen is None else seen),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    target = make_target(
        name="tf", kind="tfserving", scheme="grpc", port=port, headers=(Header("x-who", value="canary"),)
    )
    try:
        yield make_probe(**{"target": target, "model": "m", **changes})
    finally:
        await server.stop(None)


async def test_facts_by_signature() -> None:
    seen: list[Any] = []
    async with scripted(WHOLE, seen, version="12") as probe:
        facts = await facts_of(SERVICE, probe.target, probe)
        other = make_probe(target=probe.target, model="m", input=InputOptions(signature="whole"))
        whole = await facts_of(SERVICE, probe.target, other)
    assert facts.inputs == (TensorSpec("id", "BYTES", ()), TensorSpec("x", "FP32", (3,)))
    assert facts.outputs == (TensorSpec("y", "FP64", (3,)),)
    assert (facts.version, facts.asked_version, facts.max_batch_size) == ("12", "12", MAX_BATCH_SIZE)
    assert (whole.inputs, whole.max_batch_size, whole.version) == ((TensorSpec("x", "INT64", (2, 2)),), 0, "12")
    assert pb.GetModelStatusRequest.FromString(seen[0][1]).model_spec.version.value == 12
    assert seen[0][2]["x-who"] == "canary"


async def test_a_prediction_and_its_values() -> None:
    seen: list[Any] = []
    options = InputOptions(batch_size=2, string_data="ä")
    async with scripted(WHOLE, seen, input=options) as probe:
        facts = await facts_of(SERVICE, probe.target, probe)
        (inputs,) = make_steps(facts, options)
        outputs = await response_to(SERVICE, probe, facts, inputs)
    assert inputs["x"].shape == (2, 3)
    np.testing.assert_allclose(outputs["y"], inputs["x"].astype(np.float64) * 2)
    method, request, metadata = seen[-1]
    message = pb.PredictRequest.FromString(request)
    assert (method, metadata["triton-canary"], message.model_spec.signature_name) == (
        PREDICT,
        "sweep",
        "serving_default",
    )
    assert list(message.inputs["id"].string_val) == ["ä".encode()] * 2
    assert not message.model_spec.HasField("version")


async def test_a_server_that_only_predicts() -> None:
    options = InputOptions(datatypes=(("x", "FP32"),), shapes=(("x", (2, 3)),))
    async with scripted({PREDICT: double}, input=options) as probe:
        facts = await facts_of(SERVICE, probe.target, probe)
        (inputs,) = make_steps(facts, options)
        outputs = await response_to(SERVICE, probe, facts, inputs)
        silent = make_probe(target=probe.target, model="m")
        with pytest.raises(PreflightError, match="does not report the inputs of model 'm'"):
            await facts_of(SERVICE, probe.target, silent)
    assert (facts.inputs, facts.max_batch_size) == ((TensorSpec("x", "FP32", (2, 3)),), 0)
    np.testing.assert_allclose(outputs["y"], inputs["x"].astype(np.float64) * 2)


def metadata_of(version: int) -> Callable[[bytes], bytes]:
    response = pb.GetModelMetadataResponse.FromString(metadata_response(b""))
    response.model_spec.version.value = version
    return lambda _request: bytes(response.SerializeToString())


@pytest.mark.parametrize(
    ("asked", "metadata", "served"),
    [
        ("stable", metadata_of(3), "3"),
        ("stable", metadata_response, ""),
        ("stable", grpc.StatusCode.UNIMPLEMENTED, ""),
        ("", metadata_of(3), "3"),
        ("", metadata_response, "12"),
        ("7", metadata_of(3), "7"),
    ],
)
async def test_the_version_that_responds(asked: str, metadata: Any, served: str) -> None:
    """Which version bears a label only the server knows: 3 and 12 are ready, and it need not be the newest."""
    options = InputOptions(datatypes=(("x", "FP32"),), shapes=(("x", (2, 3)),))
    async with scripted(WHOLE | {METADATA: metadata}, version=asked, input=options) as probe:
        facts = await facts_of(SERVICE, probe.target, probe)
    assert (facts.version, facts.asked_version) == (served, asked if asked.isdigit() else "")


def rankless() -> pb.SignatureDefMap:
    signatures = pb.SignatureDefMap()
    inputs = signatures.signature_def["serving_default"].inputs
    inputs["x"].CopyFrom(tensor_info(pb.DT_FLOAT))
    inputs["x"].tensor_shape.unknown_rank = True
    inputs["n"].CopyFrom(tensor_info(pb.DT_INT32))
    return signatures


RANKLESS = Reported(signatures=rankless())


@pytest.mark.parametrize(
    "options",
    [
        InputOptions(shapes=(("x", (1, 3)),)),
        InputOptions(shapes=(("x", (1, 3)),), datatypes=(("n", "INT32"), ("x", "FP32"))),
    ],
)
def test_an_input_of_unknown_rank_has_the_shape_that_is_given(options: InputOptions) -> None:
    """A scalar beside it has reported its shape."""
    facts = model_facts("m", "", RANKLESS, options, False)
    assert facts.inputs == (TensorSpec("n", "INT32", ()), TensorSpec("x", "FP32", (1, 3)))
    (tensors,) = make_steps(facts, options)
    assert {name: tensor.shape for name, tensor in tensors.items()} == {"n": (), "x": (1, 3)}


@pytest.mark.parametrize(
    ("reported", "options", "text"),
    [
        (
            RANKLESS,
            InputOptions(),
            "input 'x' of model 'm': the server does not report its shape: set it in",
        ),
        (Reported(), InputOptions(batch_size=8), "input.batch_size 8: the server reports no batch dimension"),
        (
            Reported(signatures=SIGNATURES),
            InputOptions(batch_size=2, signature="whole"),
            "comes first in all inputs and varies: give whole shapes in input.shapes, and batch_size 1",
        ),
    ],
)
def test_what_must_be_given(reported: Reported, options: InputOptions, text: str) -> None:
    with pytest.raises(PreflightError, match=text) as caught:
        model_facts("m", "", reported, options, False)
    assert caught.value.reason is Reason.BAD_INPUT


REFUSALS: list[tuple[Handlers, Reason, str]] = [
    ({STATUS: grpc.StatusCode.NOT_FOUND}, Reason.MODEL_UNKNOWN, "reported NOT_FOUND: states the script"),
    ({STATUS: grpc.StatusCode.UNAUTHENTICATED}, Reason.AUTH, "reported UNAUTHENTICATED"),
    ({STATUS: grpc.StatusCode.PERMISSION_DENIED}, Reason.AUTH, "reported PERMISSION_DENIED"),
    ({STATUS: grpc.StatusCode.UNAVAILABLE}, Reason.UNREACHABLE, "reported UNAVAILABLE"),
    ({STATUS: grpc.StatusCode.DEADLINE_EXCEEDED}, Reason.PREFLIGHT_TIMEOUT, "reported DEADLINE_EXCEEDED"),
    ({STATUS: grpc.StatusCode.INTERNAL}, Reason.PROTOCOL, "reported INTERNAL"),
    (
        {STATUS: status_response((1, 20, ""), (2, 50, "no file"))},
        Reason.MODEL_NOT_READY,
        r"not ready: version 1 loading; version 2 end \(no file\)",
    ),
    ({STATUS: status_response()}, Reason.MODEL_NOT_READY, "it has no version"),
    ({METADATA: grpc.StatusCode.INVALID_ARGUMENT}, Reason.PROTOCOL, "reported INVALID_ARGUMENT"),
]


@pytest.mark.parametrize(("handlers", "reason", "text"), REFUSALS)
async def test_why_a_preflight_fails(handlers: Handlers, reason: Reason, text: str) -> None:
    async with scripted(WHOLE | handlers) as probe:
        with pytest.raises(PreflightError, match=text) as caught:
            await facts_of(SERVICE, probe.target, probe)
    assert caught.value.reason is reason


async def test_an_unknown_signature_names_those_that_are() -> None:
    async with scripted(WHOLE, input=InputOptions(signature="no")) as probe:
        with pytest.raises(PreflightError, match=r"no signature 'no'; .* 'serving_default', 'whole'"):
            await facts_of(SERVICE, probe.target, probe)


@pytest.mark.parametrize(
    ("code", "outcome"),
    [
        (grpc.StatusCode.INVALID_ARGUMENT, Outcome.CLIENT_ERROR),
        (grpc.StatusCode.NOT_FOUND, Outcome.CLIENT_ERROR),
        (grpc.StatusCode.FAILED_PRECONDITION, Outcome.CLIENT_ERROR),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, Outcome.OVERLOAD),
        (grpc.StatusCode.UNAVAILABLE, Outcome.OVERLOAD),
        (grpc.StatusCode.DEADLINE_EXCEEDED, Outcome.TIMEOUT),
        (grpc.StatusCode.UNAUTHENTICATED, Outcome.AUTH_ERROR),
        (grpc.StatusCode.INTERNAL, Outcome.SERVER_ERROR),
    ],
)
async def test_how_a_prediction_fails(code: grpc.StatusCode, outcome: Outcome) -> None:
    facts = make_facts(name="m", inputs=(TensorSpec("x", "FP32", (1,)),))
    async with scripted({PREDICT: code}) as probe:
        found = await response_to(SERVICE, probe, facts, {"x": np.zeros((1, 1), np.float32)})
    assert found == (outcome, f"{code.name}: states the script")


# --- messages --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("version", "expected"),
    [("", {}), ("7", {"version": 7}), ("canary", {"version_label": "canary"})],
)
def test_versions_are_numbers_or_labels(version: str, expected: dict[str, Any]) -> None:
    spec = model_spec("m", version)
    found = {"version": spec.version.value} if spec.HasField("version") else {}
    if spec.version_label:
        found["version_label"] = spec.version_label
    assert found == expected


LISTED: list[tuple[int, str, list[Any], tuple[int, ...], Any]] = [
    (pb.DT_FLOAT, "float_val", [1.5], (2, 2), np.full((2, 2), 1.5, np.float32)),
    (pb.DT_INT8, "int_val", [-1, 2], (3,), np.array([-1, 2, 2], np.int8)),
    (pb.DT_UINT16, "int_val", [65535], (1,), np.array([65535], np.uint16)),
    (pb.DT_HALF, "half_val", [0x3C00, 0xC000], (2,), np.array([1, -2], np.float16)),
    (pb.DT_BOOL, "bool_val", [True, False], (2,), np.array([True, False])),
    (pb.DT_INT64, "int64_val", [-(2**63)], (1,), np.array([-(2**63)], np.int64)),
    (pb.DT_UINT64, "uint64_val", [2**64 - 1], (), np.array(2**64 - 1, np.uint64)),
    (pb.DT_STRING, "string_val", [b"a", b"b"], (2, 1), np.array([[b"a"], [b"b"]], np.object_)),
]


@pytest.mark.parametrize(("dtype", "field", "values", "shape", "expected"), LISTED)
def test_listed_elements(dtype: int, field: str, values: list[Any], shape: tuple[int, ...], expected: Any) -> None:
    message = pb.TensorProto(dtype=dtype)
    getattr(message, field).extend(values)
    for size in shape:
        message.tensor_shape.dim.add(size=size)
    found = read_tensor(message)
    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("datatype", DATATYPES)
def test_what_is_written_can_be_read(datatype: str) -> None:
    spec = TensorSpec("x", datatype, (2, 3))
    (inputs,) = make_steps(make_facts(inputs=(spec,), max_batch_size=0), InputOptions())
    message = pb.TensorProto()
    write_tensor(message, spec, inputs["x"])
    np.testing.assert_array_equal(read_tensor(message), inputs["x"])


@pytest.mark.parametrize(
    "message",
    [b"\xff", pb.PredictResponse(outputs={"y": pb.TensorProto(dtype=pb.DT_INVALID)}).SerializeToString()],
)
def test_responses_that_are_none(message: bytes) -> None:
    with pytest.raises(ProtocolError, match="the response is not a prediction"):
        SERVICE.decode_response(make_facts(), Response((message,)))


# --- REST ------------------------------------------------------------------------------------------------------------

REST_METADATA = {
    "model_spec": {"name": "m", "signature_name": "", "version": "12"},
    "metadata": {
        "signature_def": {
            "signature_def": {
                "serving_default": {
                    "inputs": {
                        "x": {
                            "dtype": "DT_FLOAT",
                            "tensor_shape": {"dim": [{"size": "-1", "name": ""}, {"size": "2", "name": ""}]},
                            "name": "serving_default_x:0",
                        }
                    },
                    "outputs": {"y": {"dtype": "DT_FLOAT", "tensor_shape": {"dim": [{"size": "-1"}, {"size": "2"}]}}},
                    "method_name": "tensorflow/serving/predict",
                }
            }
        }
    },
}
REST_STATUS = {
    "model_version_status": [
        {"version": "12", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
    ]
}
REST_PAGES: dict[str, tuple[int, str]] = {
    "/v1/models/m": (200, json.dumps(REST_STATUS)),
    "/v1/models/m/metadata": (200, json.dumps(REST_METADATA)),
}


async def doubling(reader: StreamReader, writer: StreamWriter) -> None:
    """A REST server with one model, `m`, which doubles its x; it refuses what it is asked to by x itself."""
    while True:
        head = await reader.readuntil(b"\r\n\r\n")
        path = head.split()[1].decode()
        length = re.search(rb"(?i)content-length: (\d+)", head)
        content = await reader.readexactly(int(length[1]) if length else 0)
        status, body = REST_PAGES.get(path, (404, '{"error": "Malformed request"}'))
        if path == "/v1/models/m:predict":
            given = json.loads(content)
            [status] = {value for row in given["inputs"]["x"] for value in row if value >= 400} or [200]
            response = {"outputs": (2 * np.array(given["inputs"]["x"])).tolist()}
            body = json.dumps(response if status == 200 else {"error": given["signature_name"]})
        writer.write(f"HTTP/1.1 {int(status)} x\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())


async def rest_prediction(x: list[list[float]], model: str = "m") -> Any:
    async with serving(doubling) as port:
        probe = make_probe(target=make_target(kind="tfserving", port=port), model="m")
        facts = await facts_of(SERVICE, probe.target, probe)
        return await response_to(SERVICE, replace(probe, model=model), facts, {"x": np.array(x, np.float32)})


async def test_a_prediction_over_rest_and_its_values() -> None:
    outputs = await rest_prediction([[1, 2.5], [-3, 0]])
    assert (list(outputs), outputs["y"].dtype) == (["y"], np.float32)
    np.testing.assert_array_equal(outputs["y"], [[2, 5], [-6, 0]])


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        (400, Outcome.CLIENT_ERROR),
        (401, Outcome.AUTH_ERROR),
        (404, Outcome.CLIENT_ERROR),
        (412, Outcome.CLIENT_ERROR),
        (429, Outcome.OVERLOAD),
        (500, Outcome.SERVER_ERROR),
        (503, Outcome.OVERLOAD),
    ],
)
async def test_how_a_prediction_over_rest_fails(status: int, outcome: Outcome) -> None:
    assert await rest_prediction([[1, status]]) == (
        outcome,
        f'HTTP {status}: {{"error": "serving_default"}}',
    )


async def test_a_model_that_is_gone_when_it_is_asked_over_rest() -> None:
    assert await rest_prediction([[1, 2]], "n") == (
        Outcome.CLIENT_ERROR,
        'HTTP 404: {"error": "Malformed request"}',
    )


async def rest_facts(changes: dict[str, tuple[int, str]]) -> ModelFacts:
    async with serving(pages(REST_PAGES | changes)) as port:
        probe = make_probe(target=make_target(kind="tfserving", port=port), model="m")
        return await facts_of(SERVICE, probe.target, probe)


async def test_facts_over_rest() -> None:
    facts = await rest_facts({})
    assert (facts.inputs, facts.outputs) == ((TensorSpec("x", "FP32", (2,)),), (TensorSpec("y", "FP32", (2,)),))
    assert (facts.version, facts.max_batch_size) == ("12", MAX_BATCH_SIZE)


@pytest.mark.parametrize(("reported", "served"), [({"version": "3"}, "3"), ({}, "")])
async def test_the_version_of_a_label_over_rest(reported: dict[str, str], served: str) -> None:
    metadata = json.dumps(REST_METADATA | {"model_spec": {"name": "m", **reported}})
    labelled = {"/v1/models/m/labels/stable": REST_PAGES["/v1/models/m"]}
    async with serving(pages(labelled | {"/v1/models/m/labels/stable/metadata": (200, metadata)})) as port:
        probe = make_probe(target=make_target(kind="tfserving", port=port), model="m", version="stable")
        facts = await facts_of(SERVICE, probe.target, probe)
    assert facts.version == served


@pytest.mark.parametrize(
    ("changes", "reason", "text"),
    [
        ({"/v1/models/m": (404, '{"error": "Could not find any versions"}')}, Reason.MODEL_UNKNOWN, "HTTP 404: "),
        ({"/v1/models/m": (401, "")}, Reason.AUTH, "HTTP 401"),
        ({"/v1/models/m": (200, "<html>")}, Reason.PROTOCOL, "sent a response that is not JSON"),
        ({"/v1/models/m": (200, '{"model_version_status": 3}')}, Reason.PROTOCOL, "not TensorFlow Serving's"),
        ({"/v1/models/m": (200, "{}")}, Reason.MODEL_NOT_READY, "it has no version"),
        ({"/v1/models/m/metadata": (200, "{}")}, Reason.PROTOCOL, "sent no signatures"),
    ],
)
async def test_why_a_preflight_over_rest_fails(changes: dict[str, tuple[int, str]], reason: Reason, text: str) -> None:
    with pytest.raises(PreflightError, match=text) as caught:
        await rest_facts(changes)
    assert caught.value.reason is reason


def test_requests_over_rest() -> None:
    facts = make_facts(inputs=(TensorSpec("x", "FP16", (2,)), TensorSpec("s", "BYTES", ())))
    target = make_target(kind="tfserving", path="/tf")
    probe = make_probe(target=target, model="a b", version="canary")
    inputs = {"x": np.array([[0.5, 2]], np.float16), "s": np.array([b"\xff"], np.object_)}
    (request,) = SERVICE.encode(probe, facts, [inputs], "s1")
    assert request.head.startswith(b"POST /tf/v1/models/a%20b/labels/canary:predict HTTP/1.1\r\n")
    b64 = base64.b64encode(b"\xff").decode()
    assert json.loads(request.body) == {
        "signature_name": "serving_default",
        "inputs": {"x": [[0.5, 2.0]], "s": [{"b64": b64}]},
    }


HEAD = b"HTTP/1.1 200 OK\r\n\r\n"
TWO = (TensorSpec("a", "FP32", (2,)), TensorSpec("b", "BYTES", ()))
RESPONSES: list[tuple[Any, tuple[TensorSpec, ...], dict[str, Any]]] = [
    ([[1, 2]], TWO[:1], {"a": np.array([[1, 2]], np.float32)}),
    (
        {"a": [[1, 2]], "b": ["x", {"b64": "/w=="}]},
        TWO,
        {"a": np.array([[1, 2]], np.float32), "b": np.array([b"x", b"\xff"], np.object_)},
    ),
    ([1.5], (), {"outputs": np.array([1.5])}),
]


@pytest.mark.parametrize(("outputs", "specs", "expected"), RESPONSES)
def test_responses_over_rest(outputs: Any, specs: tuple[TensorSpec, ...], expected: dict[str, Any]) -> None:
    body = json.dumps({"outputs": outputs}).encode()
    (found,) = SERVICE.decode_response(make_facts(outputs=specs), Response((body,), HEAD))
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert found[name].dtype == tensor.dtype
        np.testing.assert_array_equal(found[name], tensor)


@pytest.mark.parametrize("body", [b"{}", b"no", b"[]", b'{"outputs": [[1], [1, 2]]}', b'{"outputs": {"a": ["x"]}}'])
def test_responses_over_rest_that_are_none(body: bytes) -> None:
    with pytest.raises(ProtocolError, match="the response is not a prediction"):
        SERVICE.decode_response(make_facts(outputs=TWO[:1]), Response((body,), HEAD))
