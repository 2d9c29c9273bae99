"""The hostile server against the control plane of every kind, by HTTP and gRPC: whatever it does, there are facts
within their bounds or one short reason, soon, in little memory, and never an error of ours."""

from __future__ import annotations

import asyncio
import contextlib
import pickle
import time
import tracemalloc
from typing import Any

import pytest

from exporter.core.bounds import CONTROL_BYTES, MESSAGE, NAME
from exporter.core.errors import PreflightError
from exporter.core.facts import ModelFacts
from exporter.core.outcome import Reason
from exporter.core.probe import Probe
from exporter.core.units import NS
from exporter.core.untrusted_text import clean_name
from exporter.services import SERVICES
from exporter.services.bounded import BoundedControl
from exporter.worker.ipc import Failure, without_secrets
from tests.builders import make_probe, make_target
from tests.hostile.behaviours import BOTH, HTTP_ONLY
from tests.hostile.in_process import in_process
from tests.hostile.server import Behaviour, HostileServer
from tests.waiting import patient

KINDS = [("triton", "http"), ("triton", "grpc"), ("oip", "http"), ("oip", "grpc")]
KINDS += [("tfserving", "http"), ("tfserving", "grpc"), ("torchserve", "http"), ("openai", "http")]
CASES = [
    pytest.param(kind, scheme, behaviour, id=f"{kind}-{scheme}-{name}")
    for kind, scheme in KINDS
    for name, behaviour in ({**BOTH, **HTTP_ONLY} if scheme == "http" else BOTH).items()
]


def probe_of(kind: str, scheme: str, port: int) -> Probe:
    changes: dict[str, Any] = {"management_url": f"http://127.0.0.1:{port}"} if kind == "torchserve" else {}
    target = make_target(kind=kind, scheme=scheme, port=port, connect_timeout_ns=5 * NS, **changes)
    return make_probe(target=target, model="m")


async def preflight(kind: str, scheme: str, port: int) -> ModelFacts | PreflightError:
    """As a worker's session asks."""
    probe = probe_of(kind, scheme, port)
    control = BoundedControl(SERVICES[kind]().control(probe.target, probe.target.connect_timeout_ns), probe.target)
    return await asked(control, probe)


async def asked(control: BoundedControl, probe: Probe) -> ModelFacts | PreflightError:
    try:
        facts = await control.preflight(probe.model, probe.version, probe.composing_models, probe.input)
        await control.snapshot(facts)
        assert await control.served_version(probe.model) == clean_name(facts.version)
    except PreflightError as error:
        return error
    finally:
        await control.close()
    return facts


@pytest.mark.parametrize(("kind", "scheme"), KINDS)
async def test_the_honest_server_is_fit(kind: str, scheme: str) -> None:
    async with HostileServer(lambda _path, response: response).serve(scheme) as port:
        facts = await preflight(kind, scheme, port)
    assert isinstance(facts, ModelFacts), facts


@pytest.mark.parametrize(("kind", "scheme", "behaviour"), CASES)
async def test_preflight(kind: str, scheme: str, behaviour: Behaviour) -> None:
    async with HostileServer(behaviour).serve(scheme) as port:
        begin_ns = time.monotonic_ns()
        found = await preflight(kind, scheme, port)
    assert time.monotonic_ns() - begin_ns < patient(6) * NS
    assert_bounded(found)


@pytest.mark.parametrize("name", ["honest", *BOTH, *HTTP_ONLY])
async def test_preflight_in_process(name: str) -> None:
    """Of a library that does the same; what is of HTTP alone (codings, redirects) is JSON that is none here."""
    control = in_process({"honest": lambda _path, response: response, **BOTH, **HTTP_ONLY}[name])
    found = await asked(control, make_probe(model="m"))
    assert_bounded(found)
    assert isinstance(found, ModelFacts) or name != "honest"


def assert_bounded(found: ModelFacts | PreflightError) -> None:
    if isinstance(found, ModelFacts):
        names = (found.name, found.version, found.platform, found.backend, found.server_name, found.server_version)
        assert all(len(name) <= NAME and (not name or name.isprintable()) for name in names)
        assert len(pickle.dumps(found)) < 1 << 20
        return
    assert found.reason is not Reason.INTERNAL
    sent = without_secrets(Failure(True, found.reason, str(found)))
    assert isinstance(sent, Failure)
    assert sent.text.isprintable()
    assert len(sent.text) <= MESSAGE
    sent.text.encode()


async def test_a_redirect_leads_nowhere_and_is_named_before_any_load() -> None:
    for kind, scheme in KINDS:
        async with HostileServer(BOTH["redirects"]).serve(scheme) as port:
            found = await preflight(kind, scheme, port)
        assert isinstance(found, PreflightError)
        assert "a redirect to http://127.0.0.1:9/elsewhere, which is not followed" in str(found), (kind, scheme)


@pytest.mark.parametrize(("kind", "scheme"), KINDS)
async def test_a_large_response_costs_its_bound(kind: str, scheme: str) -> None:
    async with HostileServer(BOTH["is larger than is taken"]).serve(scheme) as port:
        tracemalloc.start()
        found = await preflight(kind, scheme, port)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert isinstance(found, PreflightError)
    assert found.reason is Reason.PROTOCOL, found
    # The server is in this process, too, and has the 9 MiB in two or three copies.
    assert peak < 6 * CONTROL_BYTES


async def test_a_worker_outlives_what_any_of_it_does() -> None:
    from exporter.worker.local import LocalWorker

    worker = await LocalWorker.spawn()
    try:
        for kind, scheme in KINDS:
            for name in ("nests deeply", "has lone surrogates", "is noise", "has numbers for texts"):
                behaviour = {**BOTH, **HTTP_ONLY}[name]
                async with HostileServer(behaviour).serve(scheme) as port, asyncio.timeout(20):
                    with contextlib.suppress(PreflightError):
                        await worker.preflight(probe_of(kind, scheme, port))
                assert worker.alive, (kind, scheme, name)
    finally:
        await worker.kill()
