"""The kind `torchserve` against scripted endpoints: what is sent, and why a preflight fails."""

from __future__ import annotations

import asyncio
import json
from asyncio import StreamReader, StreamWriter
from email.parser import BytesParser
from pathlib import Path
from typing import Any

import h11
import numpy as np
import pytest

from exporter.core.errors import InputError, PreflightError
from exporter.core.facts import ModelFacts
from exporter.core.outcome import Outcome, Reason
from exporter.core.probe import InputOptions, MeasurementOptions, StopRules
from exporter.core.target import Header
from exporter.core.units import NS
from exporter.core.window import LevelEnd, Window
from exporter.engine.plan import LevelPlan
from exporter.payload import make_dataset, make_steps
from exporter.services.torchserve import BODY, FILE, OUTPUT, TorchServeService
from exporter.transport.call import Response
from exporter.worker.local import LocalWorker
from tests.builders import concurrency, make_probe, make_target
from tests.services.asking import facts_of
from tests.services.test_triton_control import pages
from tests.transport.scripted import serving

SERVICE = TorchServeService()
HEALTHY: dict[str, tuple[int, str]] = {"/ping": (200, '{"status": "Healthy"}'), "/predictions/m": (200, "{}")}


async def facts_with(changes: dict[str, tuple[int, str]], **target: Any) -> ModelFacts:
    async with serving(pages(HEALTHY | changes)) as port:
        if "management_url" in target:
            target["management_url"] = target["management_url"].format(port)
        probe = make_probe(target=make_target(kind="torchserve", port=port, **target), model="m")
        return await facts_of(SERVICE, probe.target, probe)


def strings(*words: bytes) -> Any:
    tensor = np.empty(len(words), np.object_)
    tensor[:] = words
    return tensor


async def sent(inputs: Any, **options: Any) -> tuple[h11.Request, bytes]:
    target = make_target(kind="torchserve", path="/x", headers=(Header("Authorization", "Bearer t"),))
    probe = make_probe(target=target, model="m", version="2.0", input=InputOptions(**options))
    (request,) = SERVICE.encode(probe, await facts_with({}), [inputs], "s1")
    server = h11.Connection(h11.SERVER)
    server.receive_data(request.head + request.body)
    head = server.next_event()
    assert isinstance(head, h11.Request)
    return head, request.body


@pytest.mark.parametrize(
    ("body", "options", "kind"),
    [
        (b'{"x": [1, 2]}', {}, b"application/json"),
        (b"\xff\x00", {}, b"application/octet-stream"),
        (b'"a"', {"content_type": "text/plain"}, b"text/plain"),
    ],
)
async def test_bodies(body: bytes, options: dict[str, Any], kind: bytes) -> None:
    head, found = await sent({BODY: strings(body)}, **options)
    assert (head.target, found) == (b"/x/predictions/m/2.0", body)
    headers = dict(head.headers)
    assert (headers[b"content-type"], headers[b"triton-canary"]) == (kind, b"s1")
    assert headers[b"authorization"] == b"Bearer t"


async def test_files_go_as_a_form_as_with_perf_analyzer(tmp_path: Path) -> None:
    content = b"--triton-canary\r\n\x00\xff"
    (tmp_path / "kitten.jpg").write_bytes(content)
    head, body = await sent({FILE: strings(str(tmp_path / "kitten.jpg").encode())})
    kind = dict(head.headers)[b"content-type"]
    form = BytesParser().parsebytes(b"Content-Type: " + kind + b"\r\n\r\n" + body)
    parts: Any = form.get_payload()
    (part,) = parts
    assert part.get_param("name", header="content-disposition") == "data"
    assert body.count(content) == 1
    assert kind == b"multipart/form-data; boundary=triton-canary-"


async def test_files_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(b"abc")
    head, body = await sent({FILE: strings(str(tmp_path / "a.bin").encode())}, content_type="image/jpeg")
    assert (dict(head.headers)[b"content-type"], body) == (b"image/jpeg", b"abc")


async def test_input_that_is_none() -> None:
    for inputs in ({}, {FILE: strings(b"a"), BODY: strings(b"b")}):
        with pytest.raises(InputError, match="a request has one of TORCHSERVE_INPUT"):
            await sent(inputs)
    with pytest.raises(InputError, match="TORCHSERVE_INPUT '/no/such': cannot be read: No such file"):
        await sent({FILE: strings(b"/no/such")})


async def test_the_data_of_a_probe(tmp_path: Path) -> None:
    facts = await facts_with({})
    written = InputOptions(shapes=((BODY, (1,)),), string_data='{"x": 1}')
    assert make_steps(facts, written)[0][BODY].tolist() == [b'{"x": 1}']
    (tmp_path / "data.json").write_text(
        json.dumps({"data": [{FILE: ["a.jpg"]}, {BODY: ["[1]"]}], "validation_data": [{}, {OUTPUT: ["2"]}]})
    )
    steps = make_dataset(facts, InputOptions(source="files", paths=(str(tmp_path / "data.json"),))).steps
    assert [list(step.inputs) for step in steps] == [[FILE], [BODY]]
    (found,) = SERVICE.decode_response(facts, Response((b"2",), b"HTTP/1.1 200 OK\r\n\r\n"))
    assert found[OUTPUT].tolist() == steps[1].expected[0][OUTPUT].tolist() == [b"2"]


# --- preflight -------------------------------------------------------------------------------------------------------

STARTING, RUNNING = {"id": "9000", "status": "UNLOADING"}, {"id": "9001", "status": "READY"}
WORKERS = [{"modelVersion": "1.0", "workers": [STARTING, RUNNING]}]
NO_WORKER = [{"modelVersion": "1.0", "workers": [STARTING]}]
TOKEN = '{"code": 400, "type": "InvalidKeyException", "message": "Token Authorization failed."}'
UNKNOWN = '{"code": 404, "type": "ModelNotFoundException", "message": "Model not found: m"}'

REFUSALS: list[tuple[dict[str, tuple[int, str]], Reason, str]] = [
    ({"/ping": (503, "")}, Reason.SERVER_NOT_READY, "reported HTTP 503"),
    ({"/ping": (401, "")}, Reason.AUTH, "reported HTTP 401"),
    ({"/predictions/m": (404, UNKNOWN)}, Reason.MODEL_UNKNOWN, "Model not found: m"),
    ({"/predictions/m": (400, TOKEN)}, Reason.AUTH, "Token Authorization failed"),
    ({"/management/models/m": (200, json.dumps(NO_WORKER))}, Reason.MODEL_NOT_READY, "worker 9000 unloading"),
    ({"/management/models/m": (200, "[]")}, Reason.PROTOCOL, "JSON that is not TorchServe's"),
    ({"/management/models/m": (400, TOKEN)}, Reason.AUTH, "Token Authorization failed"),
]


@pytest.mark.parametrize(("changes", "reason", "text"), REFUSALS)
async def test_why_a_preflight_fails(changes: dict[str, tuple[int, str]], reason: Reason, text: str) -> None:
    management = {"/management/models/m": (200, json.dumps(WORKERS))}
    with pytest.raises(PreflightError, match=text) as caught:
        await facts_with(management | changes, management_url=MANAGEMENT)
    assert caught.value.reason is reason


UNHEALTHY, PARTIAL = (500, '{"status": "Unhealthy"}'), (200, '{"status": "Partial Healthy"}')
MANAGEMENT = "http://127.0.0.1:{}/management"


@pytest.mark.parametrize(
    ("ping", "status"),
    [(UNHEALTHY, "'Unhealthy'"), ((200, '{"status": ""}'), "'in no known state'"), ((500, '{"status": 1}'), "1")],
)
async def test_a_server_whose_models_have_no_worker(ping: tuple[int, str], status: str) -> None:
    text = f"reports that it is {status}, which can be of any of its models; give management_url"
    with pytest.raises(PreflightError, match=text) as caught:
        await facts_with({"/ping": ping})
    assert caught.value.reason is Reason.SERVER_NOT_READY


@pytest.mark.parametrize("ping", [UNHEALTHY, PARTIAL, HEALTHY["/ping"]])
async def test_with_the_management_endpoint_this_models_workers_decide(ping: tuple[int, str]) -> None:
    """The server's own word is of all its models, and another one's may be broken."""
    facts = await facts_with(
        {"/ping": ping, "/management/models/m": (200, json.dumps(WORKERS))}, management_url=MANAGEMENT
    )
    assert facts.version == "1.0"
    with pytest.raises(PreflightError, match="model 'm' has no worker that is ready") as caught:
        await facts_with(
            {"/ping": ping, "/management/models/m": (200, json.dumps(NO_WORKER))}, management_url=MANAGEMENT
        )
    assert caught.value.reason is Reason.MODEL_NOT_READY


async def test_without_it_some_healthy_models_are_enough() -> None:
    assert (await facts_with({"/ping": PARTIAL})).name == "m"


async def test_the_management_endpoint_reports_the_version() -> None:
    management = {"/management/models/m": (200, json.dumps(WORKERS))}
    facts = await facts_with(management, management_url=MANAGEMENT)
    assert (facts.version, facts.max_batch_size, facts.has_statistics) == ("1.0", 0, False)


async def test_healthy_and_hanging() -> None:
    """TorchServe without its workers' packages states that it is healthy, and never responses: requests time out."""

    async def script(reader: StreamReader, writer: StreamWriter) -> None:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            if head.startswith(b"POST"):
                await asyncio.sleep(60)
            writer.write(b'HTTP/1.1 200 OK\r\nContent-Length: 21\r\n\r\n{"status": "Healthy"}')

    worker = await LocalWorker.spawn()
    async with serving(script) as port:
        probe = make_probe(
            target=make_target(kind="torchserve", port=port),
            model="m",
            input=InputOptions(shapes=((BODY, (1,)),), string_data="1"),
            measurement=MeasurementOptions(window_ns=NS // 4, request_timeout_ns=NS // 10),
            stop=StopRules(error_min_requests=2),
        )
        facts = await worker.preflight(probe)
        plan = LevelPlan("sweep", probe, facts, concurrency(1), 1000, 20 * NS)
        events = [event async for event in worker.run_level(plan)]
    await worker.kill()
    end = events[-1]
    assert isinstance(end, LevelEnd)
    assert end.reason is Reason.ERROR_RATIO
    assert end.text.endswith("; last: timeout: no response within 0.1 s")
    outcomes = {code for event in events if isinstance(event, Window) for code in event.columns.outcome.tolist()}
    assert outcomes == {int(Outcome.TIMEOUT)}
