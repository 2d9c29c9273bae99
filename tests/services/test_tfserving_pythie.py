"""The kind `tfserving` against pythie-serving, a server of the same protocol, and its messages against TensorFlow's own
generated classes."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from exporter.facts import TensorSpec
from exporter.outcome import Outcome
from exporter.payload import make_dataset, make_steps
from exporter.probe import InputOptions
from exporter.services.tfserving import TfServingService
from exporter.wire.grpc_messages import MESSAGE_PREFIX
from tests.builders import make_facts, make_probe, make_target
from tests.servers.pythie_serving import PythieServing
from tests.services.asking import answer_to, facts_of

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
    """Numbers go raw and strings listed; the answer is INT64 only because one price needs it."""
    probe = prices(port)
    facts = await facts_of(SERVICE, probe.target, probe)
    inputs = {"size": np.array([[2], [2], [7]], np.int64), "fruit": strings("apple", "Äpfel", "pear")}
    outputs = await answer_to(SERVICE, probe, facts, inputs)
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
    outputs = await answer_to(SERVICE, probe, facts, step.inputs)
    assert outputs["predictions"].dtype == np.int32
    assert outputs["predictions"].tolist() == [10, 25, -1]


async def test_what_the_server_refuses(port: int) -> None:
    probe = prices(port, model="nope")
    facts = await facts_of(SERVICE, probe.target, probe)
    outcome, text = await answer_to(SERVICE, probe, facts, make_steps(facts, OPTIONS)[0])
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
        command = [str(folder / "bin" / "python"), "-c", THEIRS, prefix]
        theirs = subprocess.run(command, input=json.dumps(given), capture_output=True, text=True, check=True)
        assert request.body[MESSAGE_PREFIX.size :].hex() == theirs.stdout.strip(), prefix
