"""The service kind against the real Triton: facts, statistics and values, over HTTP and gRPC."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.http.aio
from tritonclient.grpc import service_pb2
from tritonclient.http import InferResult

from exporter.core.errors import PreflightError
from exporter.core.facts import TensorSpec
from exporter.core.outcome import Outcome, Reason
from exporter.core.probe import InputOptions, MeasurementOptions
from exporter.core.target import Target, TlsOptions
from exporter.core.units import NS
from exporter.core.window import Window
from exporter.demo.triton import MODELS, EmbeddedTriton, free_ports
from exporter.engine.plan import LevelPlan
from exporter.payload import make_steps
from exporter.services.channel_factory import INFER_METHOD
from exporter.services.triton.control import TritonControl
from exporter.services.triton.service import TritonService
from exporter.transport.call import Call
from exporter.transport.http_channel import HttpChannel
from exporter.wire.http1 import decoded_body
from exporter.worker.local import LocalWorker
from tests.builders import concurrency, make_facts, make_probe, make_target
from tests.conftest import TritonFactory
from tests.transport.certificates import make_certificates
from tests.transport.nginx import nginx_serving
from tests.transport.scripted import Ended
from tests.waiting import PATIENCE_SECONDS
from tests.wire.test_grpc_servers import Client

SCHEMES = ["http", "grpc"]


def endpoint(triton: EmbeddedTriton, scheme: str, **changes: Any) -> Target:
    port = triton.grpc_port if scheme.startswith("grpc") else triton.http_port
    return make_target(scheme=scheme, port=port, **changes)


@pytest.mark.parametrize("scheme", SCHEMES)
async def test_facts(triton: EmbeddedTriton, scheme: str) -> None:
    control = TritonControl(endpoint(triton, scheme), 5 * NS)
    addsub = await control.preflight("addsub", "")
    assert (addsub.name, addsub.version, addsub.backend, addsub.max_batch_size) == ("addsub", "1", "python", 8)
    assert addsub.inputs == (TensorSpec("INPUT0", "FP32", (16,)), TensorSpec("INPUT1", "FP32", (16,)))
    assert (addsub.server_name, addsub.has_statistics) == ("triton", True)
    assert (await control.preflight("identity", "1")).inputs == (TensorSpec("INPUT0", "FP32", (-1,)),)
    repeat = await control.preflight("repeat", "")
    assert (repeat.decoupled, repeat.max_batch_size, repeat.inputs[0].shape) == (True, 0, (16,))
    assert (await control.preflight("accumulator", "")).sequence
    assert (await control.preflight("pipeline", "")).ensemble
    await control.close()


async def test_both_endpoints_agree(triton: EmbeddedTriton) -> None:
    controls = [TritonControl(endpoint(triton, scheme), 5 * NS) for scheme in SCHEMES]
    for model in ("addsub", "identity", "delay", "accumulator", "repeat", "pipeline"):
        over_http, over_grpc = [await control.preflight(model, "") for control in controls]
        assert over_http == over_grpc
        assert len(over_http.config_hash) == 12
    for control in controls:
        await control.close()


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize(
    ("model", "version", "text"),
    [("nope", "", "model 'nope' is not known to {}"), ("addsub", "7", "model 'addsub' has no version 7 at {}")],
)
async def test_unknown(triton: EmbeddedTriton, scheme: str, model: str, version: str, text: str) -> None:
    target = endpoint(triton, scheme)
    control = TritonControl(target, 5 * NS)
    with pytest.raises(PreflightError) as caught:
        await control.preflight(model, version)
    assert caught.value.reason is Reason.MODEL_UNKNOWN
    assert str(caught.value).startswith(text.format(target.url))
    await control.close()


@pytest.mark.parametrize("scheme", SCHEMES)
async def test_requests_are_served_and_counted(triton: EmbeddedTriton, scheme: str) -> None:
    service = TritonService()
    target = endpoint(triton, scheme)
    control = service.control(target, 5 * NS)
    facts = await control.preflight("addsub", "")
    (request,) = service.encode(
        make_probe(target=target), facts, make_steps(facts, InputOptions(batch_size=4)), "sweep"
    )
    before = await control.snapshot(facts)
    ended = Ended()
    channel = service.channel(target, ended)
    await channel.open()
    for count in range(1, 6):
        call = Call(0)
        call.deadline_ns = time.monotonic_ns() + 10 * NS
        channel.send(call, request)
        assert await ended.wait(count) == (Outcome.OK, "")
        assert 0 < call.sent_ns <= call.send_done_ns <= call.first_ns <= call.last_ns
    await channel.close()
    assert before is not None
    # Triton may count a request a moment after its response.
    while (after := await control.snapshot(facts)) and after.models[0].success.count < before.models[
        0
    ].success.count + 5:
        await asyncio.sleep(0.01)
    await control.close()
    assert after is not None
    assert before.asked_ns < before.received_ns < after.asked_ns < after.received_ns
    (first,), (last,) = before.models, after.models
    assert (last.name, last.version) == ("addsub", "1")
    assert last.success.count - first.success.count >= 5
    assert (last.inference_count or 0) - (first.inference_count or 0) >= 20
    assert last.compute_infer.ns > first.compute_infer.ns


COMPRESSIONS = ["none", "gzip", "deflate"]


@pytest.mark.parametrize("compression", COMPRESSIONS)
async def test_values_come_back(triton: EmbeddedTriton, compression: str) -> None:
    """A Triton with a wrong numpy responses every request, with empty tensors: so look at a value."""
    service = TritonService()
    target = endpoint(triton, "http")
    control = service.control(target, 5 * NS)
    facts = await control.preflight("addsub", "")
    await control.close()
    options = InputOptions(batch_size=2, compression=compression)
    (step,) = steps = make_steps(facts, options)
    (request,) = service.encode(make_probe(target=target, input=options), facts, steps, "sweep")
    bodies: list[bytes] = []
    done = asyncio.Event()

    def listener(call: Call) -> None:
        bodies.append(decoded_body(*channel.client.kept()))
        lengths.append(int(channel.client.header("inference-header-content-length") or 0))
        done.set()

    lengths: list[int] = []
    channel = HttpChannel(target, listener, keep_body=True)
    channel.send(Call(0), request)
    await done.wait()
    await channel.close()
    result = InferResult.from_response_body(bodies[0], header_length=lengths[0])
    first: Any = step["INPUT0"]
    second: Any = step["INPUT1"]
    assert np.array_equal(result.as_numpy("OUTPUT0"), first + second)
    assert np.array_equal(result.as_numpy("OUTPUT1"), first - second)
    assert json.loads(bodies[0][: lengths[0]])["id"] == "triton-canary-sweep-0"


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_values_come_back_over_grpc(triton: EmbeddedTriton, compression: str) -> None:
    """By the wire core alone: the channel keeps no messages."""
    facts = make_facts(inputs=(TensorSpec("INPUT0", "FP32", (16,)), TensorSpec("INPUT1", "FP32", (16,))))
    options = InputOptions(batch_size=2, compression=compression)
    (step,) = steps = make_steps(facts, options)
    probe = make_probe(target=endpoint(triton, "grpc"), input=options)
    (request,) = TritonService().encode(probe, facts, steps, "sweep")
    client = Client(triton.grpc_port)
    encoding = "identity" if compression == "none" else compression
    (message,) = client.finish(client.start(INFER_METHOD, request.body, encoding=encoding))
    client.sock.close()
    response = service_pb2.ModelInferResponse.FromString(message)
    first: Any = step["INPUT0"]
    second: Any = step["INPUT1"]
    assert [output.name for output in response.outputs] == ["OUTPUT0", "OUTPUT1"]
    assert response.raw_output_contents[0] == (first + second).tobytes()
    assert response.raw_output_contents[1] == (first - second).tobytes()
    assert response.id == "triton-canary-sweep-0"


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("compression", ["gzip", "deflate"])
async def test_large_compressed_requests(triton: EmbeddedTriton, scheme: str, compression: str) -> None:
    """1.28 MB of zeros go out as little, and come back as they were, request after request."""
    service = TritonService()
    target = endpoint(triton, scheme)
    options = InputOptions("zero", shapes=(("INPUT0", (320_000,)),), compression=compression)
    facts = make_facts(name="identity", inputs=(TensorSpec("INPUT0", "FP32", (-1,)),))
    probe = make_probe(target=target, model="identity", input=options)
    (request,) = service.encode(probe, facts, make_steps(facts, options), "sweep")
    ended = Ended()
    channel = service.channel(target, ended)
    for count in range(1, 4):
        call = Call(0)
        call.deadline_ns = time.monotonic_ns() + 10 * NS
        channel.send(call, request)
        assert await ended.wait(count) == (Outcome.OK, "")
        assert 0 < call.bytes_out < 10_000
        assert 1_280_000 < call.bytes_in < 1_281_000
    await channel.close()


@pytest.mark.parametrize("scheme", SCHEMES)
async def test_a_settled_target_is_asked_at_its_address(triton: EmbeddedTriton, scheme: str) -> None:
    """The name does not resolve: only the address can lead there, in the control plane and in the load."""
    target = endpoint(triton, scheme, host="replicas.test", address="127.0.0.1")
    service = TritonService()
    control = service.control(target, 5 * NS)
    facts = await control.preflight("addsub", "")
    assert await control.snapshot(facts) is not None
    await control.close()
    (request,) = service.encode(make_probe(target=target), facts, make_steps(facts, InputOptions()), "sweep")
    ended = Ended()
    channel = service.channel(target, ended)
    call = Call(0)
    call.deadline_ns = time.monotonic_ns() + 10 * NS
    channel.send(call, request)
    assert await ended.wait() == (Outcome.OK, "")
    await channel.close()


@pytest.mark.parametrize("scheme", SCHEMES)
async def test_no_proxy_of_the_environment_is_asked(
    triton: EmbeddedTriton, scheme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing listens where the environment states that the proxy is."""
    for name in ("http_proxy", "https_proxy", "grpc_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{free_ports(1)[0]}")
    monkeypatch.delenv("no_proxy", raising=False)
    control = TritonService().control(endpoint(triton, scheme), 5 * NS)
    assert (await control.preflight("addsub", "")).name == "addsub"
    await control.close()


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with one model in three versions, of which all are served."""
    folder = tmp_path_factory.mktemp("models")
    shutil.copytree(MODELS / "identity", folder / "identity")
    for version in ("3", "10"):
        shutil.copytree(folder / "identity" / "1", folder / "identity" / version)
    with (folder / "identity" / "config.pbtxt").open("a") as config:
        config.write("\nversion_policy { all { } }\n")
    return folder


async def test_highest_version_serves_and_an_unloaded_model_is_not_ready(
    triton_factory: TritonFactory, models: Path
) -> None:
    triton = triton_factory(models=models, model_control=True)
    triton.start()
    control = TritonControl(endpoint(triton, "http"), 5 * NS)
    facts = await control.preflight("identity", "")
    assert facts.version == "10"
    assert (await control.preflight("identity", "3")).version == "3"
    responded = await _responding_version(triton)
    assert responded == facts.version
    client = tritonclient.http.aio.InferenceServerClient(f"127.0.0.1:{triton.http_port}")
    await client.unload_model("identity")
    await client.close()
    for scheme in SCHEMES:
        unloaded = TritonControl(endpoint(triton, scheme), 5 * NS)
        reasons = set()
        async with asyncio.timeout(PATIENCE_SECONDS):
            # While it is being unloaded, the whole server reports that it is not ready.
            while Reason.MODEL_NOT_READY not in reasons:
                with pytest.raises(PreflightError) as caught:
                    await unloaded.preflight("identity", "")
                reasons.add(caught.value.reason)
        assert reasons <= {Reason.MODEL_NOT_READY, Reason.SERVER_NOT_READY}
        assert "model 'identity' is known to" in str(caught.value)
        await unloaded.close()
    await control.close()


async def _responding_version(triton: EmbeddedTriton) -> str:
    client = tritonclient.http.aio.InferenceServerClient(f"127.0.0.1:{triton.http_port}")
    tensor = tritonclient.http.InferInput("INPUT0", [1, 1], "FP32")
    tensor.set_data_from_numpy(np.zeros((1, 1), np.float32))
    result = await client.infer("identity", [tensor])
    await client.close()
    return str(result.get_response()["model_version"])


async def test_grpc_over_tls(triton_factory: TritonFactory, models: Path, tmp_path: Path) -> None:
    certificates = make_certificates(tmp_path)
    arguments = [
        "--grpc-use-ssl=1",
        "--grpc-use-ssl-mutual=1",
        f"--grpc-server-cert={certificates.server}",
        f"--grpc-server-key={certificates.server_key}",
        f"--grpc-root-cert={certificates.ca}",
    ]
    triton = triton_factory(models=models, extra_arguments=arguments)
    triton.start()
    ca, cert, key = str(certificates.ca), str(certificates.client), str(certificates.client_key)
    for tls in (
        TlsOptions(ca_file=ca, cert_file=cert, key_file=key),
        TlsOptions(verify=False, cert_file=cert, key_file=key),
        TlsOptions(ca_file=ca, verify_host=False, server_name="other.test", cert_file=cert, key_file=key),
    ):
        for place in ({}, {"host": "localhost"}, {"host": "canary.test", "address": "127.0.0.1"}):
            control = TritonControl(endpoint(triton, "grpcs", tls=tls, **place), 5 * NS)
            assert (await control.preflight("identity", "")).name == "identity"
            await control.close()
    for tls in (
        TlsOptions(ca_file=ca, server_name="other.test", cert_file=cert, key_file=key),
        TlsOptions(ca_file=str(certificates.other_ca), verify_host=False, cert_file=cert, key_file=key),
    ):
        stranger = TritonControl(endpoint(triton, "grpcs", tls=tls), 5 * NS)
        with pytest.raises(PreflightError) as caught:
            await stranger.preflight("identity", "")
        assert caught.value.reason is Reason.TLS
        await stranger.close()
    anonymous = TritonControl(endpoint(triton, "grpcs", tls=TlsOptions(ca_file=ca)), 5 * NS)
    with pytest.raises(PreflightError) as caught:
        await anonymous.preflight("identity", "")
    # This server closes without a TLS alert: the client cannot know that it was for want of a certificate. Whether it
    # reads the end or writes after it is a matter of moments.
    assert caught.value.reason is Reason.UNREACHABLE
    assert re.search("connection lost: .+ at once after the TLS handshake; it may ask for a client", str(caught.value))
    await anonymous.close()


async def test_https_with_certificates_on_both_sides(triton: EmbeddedTriton, tmp_path: Path) -> None:
    """Triton has no https of its own: nginx is in front of it, as a proxy would, and asks for our certificate. The
    control plane and the load go there by the name in the url, or settled on an address."""
    certificates = make_certificates(tmp_path)
    (port,) = free_ports(1)
    servers = f"""
  server {{
    listen 127.0.0.1:{port} ssl; server_name canary.test;
    ssl_certificate {certificates.server}; ssl_certificate_key {certificates.server_key};
    ssl_client_certificate {certificates.ca}; ssl_verify_client on;
    if ($host != $ssl_server_name) {{ return 421; }}
    location /triton/ {{ proxy_pass http://127.0.0.1:{triton.http_port}/; }}
  }}"""
    ca, cert, key = str(certificates.ca), str(certificates.client), str(certificates.client_key)
    ours = TlsOptions(ca_file=ca, cert_file=cert, key_file=key)
    place = {"host": "canary.test", "address": "127.0.0.1", "port": port, "path": "/triton"}
    service = TritonService()
    with nginx_serving(tmp_path, port, servers):
        target = make_target(scheme="https", tls=ours, **place)
        control = service.control(target, 5 * NS)
        facts = await control.preflight("addsub", "")
        assert await control.snapshot(facts) is not None
        await control.close()
        (request,) = service.encode(make_probe(target=target), facts, make_steps(facts, InputOptions()), "sweep")
        ended = Ended()
        channel = service.channel(target, ended)
        channel.send(Call(0), request)
        assert await ended.wait() == (Outcome.OK, "")
        await channel.close()
        anonymous = service.control(make_target(scheme="https", tls=TlsOptions(ca_file=ca), **place), 5 * NS)
        with pytest.raises(PreflightError, match="400 No required SSL certificate was sent"):
            await anonymous.preflight("addsub", "")
        await anonymous.close()


async def test_streams_per_connection(triton: EmbeddedTriton) -> None:
    """As many connections as are needed for six calls at once, counted by the kernel."""
    worker = await LocalWorker.spawn()
    found = {}
    for streams in (1, 4, 32):
        target = endpoint(triton, "grpc", streams_per_connection=streams)
        probe = make_probe(target=target, measurement=MeasurementOptions(window_ns=NS // 5))
        facts = await worker.preflight(probe)
        async for event in worker.run_level(LevelPlan("sweep", probe, facts, concurrency(6), 1_000_000, 20 * NS)):
            # Later windows may be on their way already, and their connections gone.
            if isinstance(event, Window) and not event.warm_up and streams not in found:
                found[streams] = established(triton.grpc_port, worker.pid)
                await worker.stop_level()
    await worker.kill()
    assert found == {1: 7, 4: 3, 32: 2}


def established(port: int, pid: int) -> int:
    """The connections of a process to the port, by IPv4 sockets; one of them is the control plane's."""
    suffix = f":{port:04X}"
    lines = Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]
    inodes = {fields[9] for fields in map(str.split, lines) if fields[2].endswith(suffix) and fields[3] == "01"}
    links = {os.readlink(link) for link in Path(f"/proc/{pid}/fd").iterdir() if link.is_symlink()}
    return len({f"socket:[{inode}]" for inode in inodes} & links)
