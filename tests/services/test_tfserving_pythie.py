"""The kind `tfserving` against pythie-serving, a server of the same protocol, and its messages against TensorFlow's own
generated classes."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from exporter.core.facts import TensorSpec
from exporter.core.outcome import Outcome
from exporter.core.probe import InputOptions
from exporter.payload import make_dataset, make_steps
from exporter.services.tfserving import tfserving_pb2 as pb
from exporter.services.tfserving.messages import available
from exporter.services.tfserving.service import PREDICT, TfServingService
from exporter.wire.grpc_messages import MESSAGE_PREFIX
from tests.builders import make_facts, make_probe, make_target
from tests.servers.pythie_serving import PythieServing
from tests.services.asking import facts_of, response_to
from tests.services.test_tfserving import METADATA, STATUS, WHOLE, Handlers, scripted

SERVICE = TfServingService()


@pytest.fixture(scope="module")
def port(pythie_serving: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    server = PythieServing.prepared(pythie_serving, tmp_path_factory.mktemp("pythie"))
    with server.running():
        yield server.port


OPTIONS = InputOptions(datatypes=(("fruit", "BYTES"), ("size", "INT64")), shapes=(("fruit", (3, 1)), ("size", (3, 1))))


def prices(port: int, options: InputOptions = OPTIONS, model: str = "prices") -> Any:
    target = make_target(name="tf", kind="tfserving", scheme="grpc", port=port)
    return make_probe(target=target, model=model, input=options)


def strings(*words: str) -> Any:
    return np.array([[word.encode()] for word in words], np.object_)


async def test_predictions(port: int) -> None:
    """Numbers go raw and strings listed; the response is INT64 only because one price needs it."""
    probe = prices(port)
    facts = await facts_of(SERVICE, probe.target, probe)
    inputs = {"size": np.array([[2], [2], [7]], np.int64), "fruit": strings("apple", "Äpfel", "pear")}
    outputs = await response_to(SERVICE, probe, facts, inputs)
    assert outputs["predictions"].dtype == np.int64
    assert outputs["predictions"].tolist() == [25, 5_000_000_000, -1]


async def test_predictions_by_data_of_a_file(port: int, tmp_path: Path) -> None:
    data = {"data": [{"size": [1, 2, 1], "fruit": ["apple", "apple", "none"]}]}
    (tmp_path / "data.json").write_text(json.dumps(data))
    options = InputOptions(
        source="files", paths=(str(tmp_path / "data.json"),), datatypes=OPTIONS.datatypes, shapes=OPTIONS.shapes
    )
    probe = prices(port, options)
    facts = await facts_of(SERVICE, probe.target, probe)
    (step,) = make_dataset(facts, options).steps
    outputs = await response_to(SERVICE, probe, facts, step.inputs)
    assert outputs["predictions"].dtype == np.int32
    assert outputs["predictions"].tolist() == [10, 25, -1]


async def test_what_the_server_refuses(port: int) -> None:
    probe = prices(port, model="nope")
    facts = await facts_of(SERVICE, probe.target, probe)
    outcome, text = await response_to(SERVICE, probe, facts, make_steps(facts, OPTIONS)[0])
    assert outcome is Outcome.SERVER_ERROR
    assert "Unknown model: nope" in text


SPECS = tuple(
    TensorSpec(datatype.lower(), datatype, (2, 3))
    for datatype in "BOOL UINT8 UINT16 UINT32 UINT64 INT8 INT16 INT32 INT64 FP16 FP32 FP64 BYTES".split()  # noqa: SIM905
)
THEIRS = """
import json, sys
from importlib import import_module

prefix = sys.argv[1]
types_pb2 = import_module(f"{prefix}tensorflow.core.framework.types_pb2")
predict_pb2 = import_module(f"{prefix}tensorflow_serving.apis.predict_pb2")

given = json.load(sys.stdin)
request = predict_pb2.PredictRequest()
request.model_spec.name = "m"
request.model_spec.version.value = 7
request.model_spec.signature_name = "serving_default"
for name, (code, shape, content, strings) in given.items():
    tensor = request.inputs[name]
    tensor.dtype = types_pb2.DataType.Value(code)
    for size in shape:
        tensor.tensor_shape.dim.add(size=size)
    tensor.tensor_content = bytes.fromhex(content)
    tensor.string_val.extend(bytes.fromhex(string) for string in strings)
print(request.SerializeToString(deterministic=True).hex())
"""
CODES = {"FP16": "DT_HALF", "FP32": "DT_FLOAT", "FP64": "DT_DOUBLE", "BYTES": "DT_STRING"}


def test_messages_are_tensorflows_byte_for_byte(tensorflow_protobuf: Path, pythie_serving: Path) -> None:
    """As its package of generated classes writes them, and as those do that pythie-serving brings along."""
    facts = make_facts(name="m", inputs=SPECS, max_batch_size=0)
    probe = make_probe(target=make_target(kind="tfserving", scheme="grpc"), model="m", version="7")
    (inputs,) = make_steps(facts, InputOptions())
    (request,) = SERVICE.encode(probe, facts, [inputs], "s1")
    given = {}
    for spec in SPECS:
        tensor: Any = inputs[spec.name]
        is_text = spec.datatype == "BYTES"
        given[spec.name] = (
            CODES.get(spec.datatype, f"DT_{spec.datatype}"),
            tensor.shape,
            "" if is_text else tensor.tobytes().hex(),
            [word.hex() for word in tensor.ravel()] if is_text else [],
        )
    for folder, prefix in ((tensorflow_protobuf, ""), (pythie_serving, "pythie_serving.tensorflow_proto.")):
        theirs = written_by(folder, THEIRS, prefix, given)
        assert request.body[MESSAGE_PREFIX.size :].hex() == theirs, prefix


def written_by(folder: Path, program: str, prefix: str = "", given: Any = None) -> Any:
    """What a program prints that uses the generated classes in an environment."""
    command = [str(folder / "bin" / "python"), "-c", program, prefix]
    done = subprocess.run(command, input=json.dumps(given), capture_output=True, text=True, check=True)
    return done.stdout.strip()


THEIR_QUESTIONS = """
import json
from pythie_serving.tensorflow_proto.tensorflow_serving.apis import (
    get_model_metadata_pb2, get_model_status_pb2, predict_pb2
)

status = get_model_status_pb2.GetModelStatusRequest()
status.model_spec.name = "m"
status.model_spec.version.value = 7
metadata = get_model_metadata_pb2.GetModelMetadataRequest()
metadata.model_spec.name = "m"
metadata.model_spec.version_label = "stable"
metadata.metadata_field.append("signature_def")
predict = predict_pb2.PredictRequest()
predict.model_spec.name = "m"
predict.model_spec.version_label = "stable"
predict.model_spec.signature_name = "other"
print(json.dumps([each.SerializeToString(deterministic=True).hex() for each in (status, metadata, predict)]))
"""


async def test_questions_are_tensorflows_byte_for_byte(pythie_serving: Path) -> None:
    """What preflight asks, as it went over the wire, and a request for a label. Of both packages only this one has all
    that the status needs."""
    theirs = [bytes.fromhex(each) for each in json.loads(written_by(pythie_serving, THEIR_QUESTIONS))]
    seen: list[Any] = []
    async with scripted(WHOLE, seen, version="7") as probe:
        await facts_of(SERVICE, probe.target, probe)
    status = {method: request for method, request, _ in seen}[STATUS]
    seen.clear()
    async with scripted(WHOLE, seen, version="stable") as probe:
        await facts_of(SERVICE, probe.target, probe)
        metadata = {method: request for method, request, _ in seen}[METADATA]
        other = replace(probe, input=InputOptions(signature="other"))
        (request,) = SERVICE.encode(other, make_facts(inputs=()), [{}], "s1")
    assert [status, metadata, request.body[MESSAGE_PREFIX.size :]] == theirs


THEIR_RESPONSES = """
import json
from pythie_serving.tensorflow_proto.tensorflow.core.framework import types_pb2
from pythie_serving.tensorflow_proto.tensorflow_serving.apis import (
    get_model_metadata_pb2, get_model_status_pb2, predict_pb2
)

status = get_model_status_pb2.GetModelStatusResponse()
status.model_version_status.add(version=3, state=get_model_status_pb2.ModelVersionStatus.AVAILABLE)
failed = status.model_version_status.add(version=4, state=get_model_status_pb2.ModelVersionStatus.END)
failed.status.error_code = 5
failed.status.error_message = "no file"

signatures = get_model_metadata_pb2.SignatureDefMap()
signature = signatures.signature_def["serving_default"]
signature.method_name = "tensorflow/serving/predict"
for name, inout, dtype in (("x", signature.inputs, types_pb2.DT_FLOAT), ("y", signature.outputs, types_pb2.DT_INT64)):
    inout[name].name = name + ":0"
    inout[name].dtype = dtype
    inout[name].tensor_shape.dim.add(size=-1, name="batch")
    inout[name].tensor_shape.dim.add(size=3)
signature.inputs["any"].dtype = types_pb2.DT_STRING
signature.inputs["any"].tensor_shape.unknown_rank = True
metadata = get_model_metadata_pb2.GetModelMetadataResponse()
metadata.model_spec.name = "m"
metadata.model_spec.version.value = 3
metadata.metadata["signature_def"].Pack(signatures)

predict = predict_pb2.PredictResponse()
predict.model_spec.name = "m"
listed = {
    "float": (types_pb2.DT_FLOAT, "float_val", [1.5, -2.0]),
    "double": (types_pb2.DT_DOUBLE, "double_val", [0.1]),
    "int": (types_pb2.DT_INT32, "int_val", [-1, 2]),
    "int8": (types_pb2.DT_INT8, "int_val", [-128]),
    "uint16": (types_pb2.DT_UINT16, "int_val", [65535]),
    "string": (types_pb2.DT_STRING, "string_val", [b"a", b"\\xff"]),
    "int64": (types_pb2.DT_INT64, "int64_val", [-(2**63)]),
    "bool": (types_pb2.DT_BOOL, "bool_val", [True, False]),
    "half": (types_pb2.DT_HALF, "half_val", [0x3C00, 0xC000]),
    "uint32": (types_pb2.DT_UINT32, "uint32_val", [2**32 - 1]),
    "uint64": (types_pb2.DT_UINT64, "uint64_val", [2**64 - 1]),
}
for name, (dtype, field, values) in listed.items():
    tensor = predict.outputs[name]
    tensor.dtype = dtype
    tensor.version_number = 1
    getattr(tensor, field).extend(values)
    tensor.tensor_shape.dim.add(size=2)
print(json.dumps([each.SerializeToString().hex() for each in (status, metadata, predict)]))
"""
LISTED = {
    "float": np.array([1.5, -2], np.float32),
    "double": np.array([0.1, 0.1]),
    "int": np.array([-1, 2], np.int32),
    "int8": np.array([-128, -128], np.int8),
    "uint16": np.array([65535, 65535], np.uint16),
    "string": np.array([b"a", b"\xff"], np.object_),
    "int64": np.array([-(2**63)] * 2, np.int64),
    "bool": np.array([True, False]),
    "half": np.array([1, -2], np.float16),
    "uint32": np.array([2**32 - 1] * 2, np.uint32),
    "uint64": np.array([2**64 - 1] * 2, np.uint64),
}


async def test_responses_that_tensorflows_classes_wrote(pythie_serving: Path) -> None:
    """A status, signatures with a version, and a prediction whose values are listed, as each is understood here."""
    responses = json.loads(written_by(pythie_serving, THEIR_RESPONSES))
    status, metadata, prediction = map(bytes.fromhex, responses)
    handlers: Handlers = {STATUS: lambda _: status, METADATA: lambda _: metadata, PREDICT: lambda _: prediction}
    options = InputOptions(shapes=(("any", (2,)), ("x", (5, 3))))
    async with scripted(handlers, version="stable", input=options) as probe:
        facts = await facts_of(SERVICE, probe.target, probe)
        outputs = await response_to(SERVICE, probe, facts, {})
    assert available(pb.GetModelStatusResponse.FromString(status), "m", "") == (3,)
    assert pb.GetModelStatusResponse.FromString(status).model_version_status[1].status.error_message == "no file"
    assert (facts.version, facts.max_batch_size) == ("3", 0)
    assert facts.inputs == (TensorSpec("any", "BYTES", (2,)), TensorSpec("x", "FP32", (-1, 3)))
    assert facts.outputs == (TensorSpec("y", "INT64", (-1, 3)),)
    assert outputs.keys() == LISTED.keys()
    for name, tensor in LISTED.items():
        assert outputs[name].dtype == tensor.dtype
        np.testing.assert_array_equal(outputs[name], tensor)
