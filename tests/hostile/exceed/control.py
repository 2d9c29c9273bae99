"""The bounds of control responses, and of what is sent by their word."""

from __future__ import annotations

from dataclasses import replace

import pytest

from exporter.core.errors import InputError, PreflightError
from exporter.core.facts import BatchStat, ModelStatistics, ServerSnapshot, TensorSpec
from exporter.core.outcome import Reason
from exporter.core.probe import InputOptions
from exporter.core.units import NS
from exporter.core.untrusted_text import clean_name, clean_text, load_json
from exporter.payload.generate import generate
from exporter.services import SERVICES
from exporter.services.bounded import BoundedControl, bounded_facts, bounded_models, bounded_snapshot
from exporter.services.triton.shared_memory import SharedMemory
from exporter.worker.ipc import Failure, without_secrets
from tests.builders import make_facts, make_target
from tests.hostile.exceed.registry import exceeds
from tests.hostile.server import HostileServer

LARGE = 64 << 20
TENSOR = TensorSpec("T", "FP32", (4,))


@exceeds("TEXT")
def text() -> None:
    assert len(clean_text("x" * LARGE)) == 300


@exceeds("MESSAGE")
def message() -> None:
    shown = without_secrets(Failure(True, Reason.PROTOCOL, "x" * LARGE))
    assert isinstance(shown, Failure)
    assert len(shown.text) == 1000


@exceeds("NAME")
def name() -> None:
    assert len(clean_name("x" * LARGE)) == 128
    assert len(bounded_facts(make_facts(platform="x" * LARGE)).platform) == 128


def refused(inputs: tuple[TensorSpec, ...], text: str) -> None:
    for facts in (make_facts(inputs=inputs), make_facts(outputs=inputs)):
        with pytest.raises(ValueError, match=text):
            bounded_facts(facts)


@exceeds("TENSOR_NAME")
def tensor_name() -> None:
    refused((replace(TENSOR, name="x" * 513),), "a name of 513 characters")
    refused((replace(TENSOR, name="x" * LARGE),), "a name of 67108864 characters")


@exceeds("TENSORS")
def tensors() -> None:
    refused((TENSOR,) * 1001, "at most 1000 are taken")
    refused((TENSOR,) * 100_000, "at most 1000 are taken")


@exceeds("DIMENSIONS")
def dimensions() -> None:
    refused((replace(TENSOR, shape=(1,) * 33),), "at most 32 are taken")


@exceeds("VERSIONS")
def versions() -> None:
    models = tuple(ModelStatistics("m", str(number)) for number in range(100_000))
    assert len(bounded_snapshot(ServerSnapshot(1, 2, models)).models) == 1000


@exceeds("BATCH_SIZES")
def batch_sizes() -> None:
    batches = tuple(BatchStat(size, 1, 1) for size in range(100_000))
    (model,) = bounded_snapshot(ServerSnapshot(1, 2, (ModelStatistics("m", "1", batches=batches),))).models
    assert len(model.batches) == 1000


@exceeds("READY_MODELS")
def ready_models() -> None:
    assert len(bounded_models([str(number) for number in range(100_000)])) == 10_000


@exceeds("NESTING")
def nesting() -> None:
    for depth in (66, 200_000):
        with pytest.raises(ValueError, match="nested more than 64 levels deep"):
            load_json(b"[" * depth + b"]" * depth)
    assert load_json(b"[" * 64 + b"]" * 64)


@exceeds("CONTROL_BYTES")
async def control_bytes() -> None:
    """By HTTP and gRPC, of a server that sends 9 MiB as metadata."""
    body = b"[" + b" " * (9 << 20) + b"]"
    for scheme in ("http", "grpc"):
        async with HostileServer(lambda _, response: replace(response, body=body)).serve(scheme) as port:
            await _preflight_fails(scheme, port)


async def _preflight_fails(scheme: str, port: int) -> None:
    target = make_target(scheme=scheme, port=port, connect_timeout_ns=30 * NS)
    control = BoundedControl(SERVICES["triton"]().control(target, target.connect_timeout_ns), target)
    with pytest.raises(PreflightError) as caught:
        await control.preflight("m", "")
    await control.close()
    assert caught.value.reason is Reason.PROTOCOL, caught.value


@exceeds("REQUEST_BYTES")
def request_bytes() -> None:
    """A shape that the server's metadata gives."""
    facts = make_facts(max_batch_size=0, inputs=(TensorSpec("T", "FP32", ((1 << 28) + 1,)),))
    for source in ("random", "zero"):
        with pytest.raises(InputError, match="1073741828 bytes in all: expected at most 1073741824"):
            generate(facts, InputOptions(source=source))


@exceeds("SHARED_OUTPUT_BYTES")
async def shared_output_bytes() -> None:
    memory = SharedMemory(make_target(), "system")
    with pytest.raises(InputError, match="expected at most 4294967296 bytes, found 4362076160"):
        await memory.place_outputs([64 << 20], 65)
    await memory.close()
