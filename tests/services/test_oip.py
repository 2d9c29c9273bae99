"""The kind `oip` without Triton's extensions: what is sent, what is read, and why a preflight fails."""

from __future__ import annotations

import json
from typing import Any

import h11
import numpy as np
import pytest
from tritonclient.grpc import service_pb2

from exporter.core.errors import InputError, PreflightError, ProtocolError
from exporter.core.facts import ModelFacts, TensorSpec
from exporter.core.outcome import Reason
from exporter.core.probe import DEFAULT_INPUT, InputOptions
from exporter.demo.triton import EmbeddedTriton
from exporter.payload import make_steps
from exporter.services.oip.service import OipService
from exporter.transport.call import Response
from tests.builders import make_facts, make_probe, make_target
from tests.services.asking import facts_of, response_to
from tests.services.test_triton_control import pages
from tests.transport.scripted import serving

SERVICE = OipService()
SPECS = (TensorSpec("X", "FP32", (2, 2)), TensorSpec("WORDS", "BYTES", (1,)), TensorSpec("N", "UINT64", (1,)))
FACTS = make_facts(name="m", max_batch_size=0, inputs=SPECS, binary_tensors=False)
INPUTS = {
    "X": np.array([[1, 2.5], [-3, 0]], np.float32),
    "WORDS": np.array(["äß".encode()], np.object_),
    "N": np.array([2**64 - 1], np.uint64),
}


def oip_target(port: int = 8080, scheme: str = "http", **changes: Any) -> Any:
    return make_target(name="other", kind="oip", scheme=scheme, port=port, **changes)


def sent(facts: ModelFacts, inputs: Any = INPUTS, **options: Any) -> tuple[h11.Request, bytes]:
    probe = make_probe(target=oip_target(path="/prefix"), model="m", version="3", input=InputOptions(**options))
    (request,) = SERVICE.encode(probe, facts, [inputs], "s1")
    server = h11.Connection(h11.SERVER)
    server.receive_data(request.head + request.body)
    head = server.next_event()
    assert isinstance(head, h11.Request)
    return head, request.body


def test_without_the_extension_tensors_go_as_json() -> None:
    head, body = sent(FACTS, parameters=(("priority_class", "low"),))
    assert head.target == b"/prefix/v2/models/m/versions/3/infer"
    assert dict(head.headers)[b"content-type"] == b"application/json"
    assert dict(head.headers)[b"triton-canary"] == b"s1"
    assert json.loads(body) == {
        "id": "triton-canary-s1-0",
        "parameters": {"priority_class": "low"},
        "inputs": [
            {"name": "X", "shape": [2, 2], "datatype": "FP32", "data": [1.0, 2.5, -3.0, 0.0]},
            {"name": "WORDS", "shape": [1], "datatype": "BYTES", "data": ["äß"]},
            {"name": "N", "shape": [1], "datatype": "UINT64", "data": [2**64 - 1]},
        ],
    }


def test_with_the_extension_they_go_in_binary_form() -> None:
    head, body = sent(make_facts(name="m", max_batch_size=0, inputs=SPECS, binary_tensors=True))
    length = int(dict(head.headers)[b"inference-header-content-length"])
    assert body[length : length + 16] == INPUTS["X"].tobytes()


@pytest.mark.parametrize(
    ("datatype", "value", "text"),
    [
        ("FP16", np.zeros(1, np.float16), "'X': the server takes no binary tensors over HTTP, which FP16 needs"),
        ("FP32", np.array([np.nan], np.float32), "'X': has NaN or Infinity, which JSON cannot express"),
        ("BYTES", np.array([b"\xff"], np.object_), "'X': is not valid UTF-8"),
    ],
)
def test_what_json_cannot_state(datatype: str, value: Any, text: str) -> None:
    facts = make_facts(name="m", inputs=(TensorSpec("X", datatype, (1,)),), binary_tensors=False)
    with pytest.raises(InputError, match=text):
        sent(facts, {"X": value})


CONTENTS: list[tuple[str, str, Any]] = [
    ("BOOL", "bool_contents", np.array([[True, False]])),
    ("INT8", "int_contents", np.array([[-128, 127]], np.int8)),
    ("INT64", "int64_contents", np.array([[-(2**63), 2**63 - 1]], np.int64)),
    ("UINT32", "uint_contents", np.array([[0, 2**32 - 1]], np.uint32)),
    ("UINT64", "uint64_contents", np.array([[0, 2**64 - 1]], np.uint64)),
    ("FP32", "fp32_contents", np.array([[1.5, -2]], np.float32)),
    ("FP64", "fp64_contents", np.array([[0.1, 1e300]], np.float64)),
    ("BYTES", "bytes_contents", np.array([[b"a", b"\xff"]], np.object_)),
]


def response(datatype: str, field: str, tensor: Any) -> Any:
    message = service_pb2.ModelInferResponse()
    output = message.outputs.add(name="OUT", datatype=datatype, shape=tensor.shape)
    getattr(output.contents, field).extend(tensor.ravel().tolist())
    return message


@pytest.mark.parametrize(("datatype", "field", "tensor"), CONTENTS)
def test_responses_with_contents(datatype: str, field: str, tensor: Any) -> None:
    message = response(datatype, field, tensor).SerializeToString()
    (outputs,) = SERVICE.decode_response(FACTS, Response((message,)))
    assert outputs["OUT"].dtype == tensor.dtype
    np.testing.assert_array_equal(outputs["OUT"], tensor)


def test_raw_responses() -> None:
    message = service_pb2.ModelInferResponse(raw_output_contents=[np.array([7], np.int32).tobytes()])
    message.outputs.add(name="OUT", datatype="INT32", shape=[1])
    (outputs,) = SERVICE.decode_response(FACTS, Response((message.SerializeToString(),)))
    assert outputs["OUT"].tolist() == [7]


def test_responses_that_are_none() -> None:
    short = response("FP32", "fp32_contents", np.zeros((1, 2), np.float32))
    short.outputs[0].shape[:] = [3]
    half = service_pb2.ModelInferResponse()
    half.outputs.add(name="OUT", datatype="FP16", shape=[1])
    for message in (b"\xff", short.SerializeToString(), half.SerializeToString()):
        with pytest.raises(ProtocolError, match="the response is not an inference response"):
            SERVICE.decode_response(FACTS, Response((message,)))


# --- preflight -------------------------------------------------------------------------------------------------------

MODEL: dict[str, Any] = {"name": "m", "versions": None, "platform": "", "inputs": [], "outputs": []}
PAGES: dict[str, tuple[int, str]] = {
    "/v2/health/live": (200, "{}"),
    "/v2/health/ready": (200, "{}"),
    "/v2": (200, json.dumps({"name": "other", "version": "1.2", "extensions": []})),
    "/v2/models/m/ready": (200, ""),
    "/v2/models/m": (200, json.dumps(MODEL)),
}


async def facts_with(changes: dict[str, tuple[int, str]], options: InputOptions = DEFAULT_INPUT) -> ModelFacts:
    async with serving(pages(PAGES | changes)) as port:
        probe = make_probe(target=oip_target(port), model="m", input=options)
        return await facts_of(SERVICE, probe.target, probe)


async def test_what_the_server_does_not_report_is_asked_of_the_configuration() -> None:
    options = InputOptions(datatypes=(("A", "FP32"), ("B", "INT64")), shapes=(("A", (1, 4)), ("B", (2,))))
    facts = await facts_with({}, options)
    assert facts.inputs == (TensorSpec("A", "FP32", (1, 4)), TensorSpec("B", "INT64", (2,)))
    assert (facts.server_name, facts.server_version, facts.version, facts.max_batch_size) == ("other", "1.2", "", 0)
    assert (facts.has_statistics, facts.binary_tensors, facts.config_hash) == (False, False, "")


KNOWN_INPUT = json.dumps(MODEL | {"inputs": [{"name": "A", "datatype": "FP32", "shape": [-1, 4]}]})

ERRORS: list[tuple[dict[str, tuple[int, str]], InputOptions, Reason, str]] = [
    ({}, InputOptions(), Reason.BAD_INPUT, "does not report the inputs of model 'm': give input.datatypes and"),
    (
        {},
        InputOptions(datatypes=(("A", "FP32"),)),
        Reason.BAD_INPUT,
        "input 'A' of model 'm': the server does not report",
    ),
    ({"/v2/models/m": (200, KNOWN_INPUT)}, InputOptions(batch_size=2), Reason.BAD_INPUT, "has no batch dimension"),
    (
        {"/v2/models/m/ready": (404, ""), "/v2/models/m": (404, '{"error": "no m"}')},
        InputOptions(),
        Reason.MODEL_UNKNOWN,
        "model 'm' is not known to",
    ),
    (
        {"/v2/models/m/ready": (503, ""), "/v2/models/m": (200, KNOWN_INPUT)},
        InputOptions(),
        Reason.MODEL_NOT_READY,
        "model 'm' is known to",
    ),
    ({"/v2/health/ready": (503, "")}, InputOptions(), Reason.SERVER_NOT_READY, "reports that it is not ready"),
    ({"/v2/health/live": (404, ""), "/v2": (404, "")}, InputOptions(), Reason.PROTOCOL, "reported HTTP 404"),
]


@pytest.mark.parametrize(("changes", "options", "reason", "text"), ERRORS)
async def test_why_a_preflight_fails(
    changes: dict[str, tuple[int, str]], options: InputOptions, reason: Reason, text: str
) -> None:
    with pytest.raises(PreflightError, match=text) as caught:
        await facts_with(changes, options)
    assert caught.value.reason is reason


@pytest.mark.parametrize("scheme", ["http", "grpc"])
async def test_triton_is_such_a_server_too(triton: EmbeddedTriton, scheme: str) -> None:
    port = triton.grpc_port if scheme == "grpc" else triton.http_port
    options = InputOptions(shapes=(("INPUT0", (2, 16)), ("INPUT1", (2, 16))))
    probe = make_probe(target=oip_target(port, scheme), input=options)
    facts = await facts_of(SERVICE, probe.target, probe)
    assert (facts.inputs[0].shape, facts.max_batch_size, facts.binary_tensors) == ((-1, 16), 0, True)
    (inputs,) = make_steps(facts, options)
    outputs = await response_to(SERVICE, probe, facts, inputs)
    sent_tensors: Any = inputs
    np.testing.assert_allclose(outputs["OUTPUT0"], sent_tensors["INPUT0"] + sent_tensors["INPUT1"], rtol=1e-6)
