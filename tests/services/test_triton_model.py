"""Triton's messages as facts: HTTP and gRPC give the same."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf import json_format
from tritonclient.grpc import model_config_pb2, service_pb2

from exporter.core.facts import DurationStat, TensorSpec
from exporter.services.oip.control import latest_version
from exporter.services.triton.model import config_hash, model_facts, model_statistics


def config(**fields: Any) -> model_config_pb2.ModelConfig:
    return json_format.ParseDict({"name": "m", "backend": "python"} | fields, model_config_pb2.ModelConfig())


def facts(config_message: Any, *shapes: list[int]) -> Any:
    metadata = service_pb2.ModelMetadataResponse(name="m", versions=["1", "10", "9"], platform="p")
    for number, shape in enumerate(shapes):
        metadata.inputs.add(name=f"I{number}", datatype="FP32", shape=shape)
        metadata.outputs.add(name=f"O{number}", datatype="FP32", shape=shape)
    server = service_pb2.ServerMetadataResponse(name="triton", version="2.51.0", extensions=["statistics"])
    return model_facts(server, metadata, config_message, "")


@pytest.mark.parametrize(
    ("max_batch_size", "shape"), [(0, (-1, 16)), (8, (16,))], ids=["unbatched", "batch dimension taken off"]
)
def test_shapes(max_batch_size: int, shape: tuple[int, ...]) -> None:
    found = facts(config(max_batch_size=max_batch_size), [-1, 16])
    assert found.inputs == (TensorSpec("I0", "FP32", shape),)
    assert found.outputs == (TensorSpec("O0", "FP32", shape),)


def test_plain_facts() -> None:
    found = facts(config(), [1])
    assert (found.name, found.version, found.platform, found.backend) == ("m", "10", "p", "python")
    assert (found.server_name, found.server_version, found.has_statistics) == ("triton", "2.51.0", True)
    assert not any((found.decoupled, found.sequence, found.ensemble, found.response_cache))


@pytest.mark.parametrize(
    ("flag", "fields"),
    [
        ("decoupled", {"model_transaction_policy": {"decoupled": True}}),
        ("sequence", {"sequence_batching": {}}),
        ("ensemble", {"ensemble_scheduling": {}}),
        ("response_cache", {"response_cache": {"enable": True}}),
    ],
)
def test_flags(flag: str, fields: dict[str, Any]) -> None:
    found = facts(config(**fields), [1])
    flags = {name: getattr(found, name) for name in ("decoupled", "sequence", "ensemble", "response_cache")}
    assert flags == dict.fromkeys(flags, False) | {flag: True}


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"dynamic_batching": {}, "max_batch_size": 8}, True),
        ({"dynamic_batching": {}, "max_batch_size": 1}, False),
        ({"max_batch_size": 8}, False),
    ],
)
def test_requests_can_meet_in_a_batch_of_two_and_more(fields: dict[str, Any], expected: bool) -> None:
    assert facts(config(**fields), [-1, 1]).dynamic_batching is expected


def test_optional_inputs() -> None:
    message = config(input=[{"name": "I0", "optional": True}, {"name": "I1"}])
    assert [spec.optional for spec in facts(message, [1], [1]).inputs] == [True, False]


@pytest.mark.parametrize(("versions", "latest"), [([], ""), (["1"], "1"), (["2", "10", "9"], "10"), (["main"], "main")])
def test_latest_version(versions: list[str], latest: str) -> None:
    assert latest_version(versions) == latest


def test_config_hash_sees_what_matters_and_not_how_it_is_written() -> None:
    plain = config_hash(config())
    assert len(plain) == 12
    assert config_hash(config(max_batch_size=0, input=[])) == plain
    assert config_hash(config(max_batch_size=1)) != plain
    assert config_hash(config(dynamic_batching={})) != plain


def test_statistics() -> None:
    message = service_pb2.ModelStatistics(name="m", version="1", inference_count=6, execution_count=3)
    names = ["success", "fail", "queue", "compute_input", "compute_infer", "compute_output", "cache_hit", "cache_miss"]
    for number, name in enumerate(names, 1):
        getattr(message.inference_stats, name).count = number
        getattr(message.inference_stats, name).ns = number * 100
    found = model_statistics(message)
    assert (found.name, found.version, found.inference_count, found.execution_count) == ("m", "1", 6, 3)
    assert [getattr(found, name) for name in names] == [DurationStat(n, n * 100) for n in range(1, 9)]
