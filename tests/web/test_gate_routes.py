"""The gates' paths as their clients use them: a pipeline, Flagger's webhook and Argo Rollouts' web provider, each with
the request that its documentation gives, made from the manifests in examples/gate."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import jsonschema
import pytest
import yaml
from starlette.applications import Starlette

from exporter.daemon import gates as gates_module
from exporter.web.auth import TokenGuard
from exporter.web.gate_routes import gate_routes
from exporter.web.openapi import document
from exporter.web.probe_routes import NoSweep
from tests.daemon.test_gates import REQUEST, Desk
from tests.web.test_api_routes import strict

TOKEN = "open sesame"
BEARER = {"Authorization": f"Bearer {TOKEN}"}
EXAMPLES = Path(__file__).parents[2] / "examples" / "gate"


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    monkeypatch.setattr(gates_module, "TURN_SECONDS", 0.001)
    return Desk(tmp_path / "gates.json")


@pytest.fixture
async def client(desk: Desk, tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    (tmp_path / "token").write_text(TOKEN)
    app = Starlette(routes=gate_routes(desk.gates, TokenGuard(str(tmp_path / "token"), {})))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://canary") as client:
        yield client
    await desk.gates.close()


async def test_a_pipeline_starts_waits_and_reads(client: httpx.AsyncClient, desk: Desk) -> None:
    started = await client.post("/api/v1/gates", json=REQUEST, headers=BEARER)
    assert (started.status_code, started.json()["state"]) == (202, "running")
    ended = await client.get("/api/v1/gates/r1", params={"wait": "5m"})
    assert (ended.status_code, ended.json()["verdict"], ended.json()["passed"]) == (200, "equivalent", True)
    again = await client.post("/api/v1/gates", json=REQUEST, headers=BEARER)
    assert (again.status_code, again.json()) == (200, ended.json())
    assert (await client.get("/api/v1/gates")).json() == {"gates": [ended.json()]}
    assert (await client.get("/api/v1/gates/none")).status_code == 404


@pytest.mark.parametrize(
    ("body", "headers", "status", "text"),
    [
        (REQUEST, {}, 401, "Authorization"),
        (REQUEST, {"Authorization": "Bearer x"}, 401, "Authorization"),
        (b"{", BEARER, 400, "the body is not JSON"),
        (b"[" * 100_000, BEARER, 400, "the body has more than 64 KiB"),
        (REQUEST | {"stable": ""}, BEARER, 400, "stable: is missing"),
        (REQUEST | {"candidate": "old"}, BEARER, 400, "is the same model at the same server"),
        (REQUEST | {"stable": "elsewhere"}, BEARER, 404, "no probe is named elsewhere"),
    ],
)
@pytest.mark.parametrize("path", ["/api/v1/gates", "/api/v1/gates/flagger"])
async def test_what_starts_nothing(
    client: httpx.AsyncClient, desk: Desk, path: str, body: Any, headers: dict[str, str], status: int, text: str
) -> None:
    if path.endswith("flagger") and isinstance(body, dict):
        body = {"name": "a", "namespace": "b", "phase": "Progressing", "metadata": body}
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    response = await client.post(path, content=content, headers=headers)
    assert response.status_code == status
    assert text in response.text
    assert desk.gates.all() == []


async def test_a_wait_that_is_no_duration(client: httpx.AsyncClient, desk: Desk) -> None:
    for response in (
        await client.post("/api/v1/gates?wait=5", json=REQUEST, headers=BEARER),
        await client.get("/api/v1/gates/r1?wait=5"),
    ):
        assert response.status_code == 400
        assert response.json()["problems"] == [
            "wait: must be a duration with its unit, as '500ms', '5s', '2m', '1h30m' or '90d'"
        ]
    assert desk.gates.all() == []


async def test_who_only_reads_waits_a_minute_at_most(
    client: httpx.AsyncClient, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[float] = []

    async def wait(_gates: object, _gate_id: str, seconds: float) -> None:
        asked.append(seconds)

    monkeypatch.setattr(type(desk.gates), "wait", wait)
    await client.get("/api/v1/gates/r1?wait=20m")
    await client.post("/api/v1/gates?wait=20m", json=REQUEST, headers=BEARER)
    await client.post("/api/v1/gates?wait=20h", json=REQUEST, headers=BEARER)
    assert asked == [60, 1200, 3600]


async def test_an_id_that_was_used_otherwise(client: httpx.AsyncClient) -> None:
    await client.post("/api/v1/gates", json=REQUEST, headers=BEARER)
    response = await client.post("/api/v1/gates", json=REQUEST | {"level": "1"}, headers=BEARER)
    assert (response.status_code, response.json()["problems"]) == (
        409,
        ["gate r1 was requested with other options: use another id"],
    )


async def test_every_document_is_what_openapi_describes(client: httpx.AsyncClient, desk: Desk) -> None:
    components = strict(document("0")["components"])

    def check(name: str, body: Any) -> None:
        schema = {"$ref": f"#/components/schemas/{name}", "components": components}
        jsonschema.Draft202012Validator(schema).validate(body)

    check("GateRequestBody", REQUEST)
    for slower in (1.0, 1.5):
        desk.slower = slower
        request = REQUEST | {"id": f"at {slower}".replace(" ", "-")}
        check("GateReport", (await client.post("/api/v1/gates", json=request, headers=BEARER)).json())
        check("GateReport", (await client.get(f"/api/v1/gates/{request['id']}?wait=5m")).json())
    desk.gives = [NoSweep.PAUSED]
    check("GateReport", (await client.post("/api/v1/gates?wait=5m", json=REQUEST, headers=BEARER)).json())
    check("GateListReport", (await client.get("/api/v1/gates")).json())
    check("GateErrorReport", (await client.post("/api/v1/gates", json={}, headers=BEARER)).json())
    check("GateErrorReport", (await client.get("/api/v1/gates/none")).json())


# --- Flagger --------------------------------------------------------------------------------------------------------


def flagger_call(checksum: str = "6d5c9f") -> tuple[str, dict[str, Any]]:
    """Path and body of the call that Flagger makes for the example: its documented payload with the webhook's
    metadata."""
    (canary,) = yaml.safe_load_all((EXAMPLES / "flagger.yaml").read_text())
    (hook,) = canary["spec"]["analysis"]["webhooks"]
    metadata = hook["metadata"]
    assert all(isinstance(value, str) for value in metadata.values())
    metadata |= {"stable": "old", "candidate": "new", "token": TOKEN}
    name = canary["metadata"]
    body = {
        "name": name["name"],
        "namespace": name["namespace"],
        "phase": "WaitingPromotion",
        "checksum": checksum,
        "metadata": metadata,
    }
    return urlsplit(hook["url"]).path, body


@pytest.mark.parametrize(
    ("slower", "status", "text"),
    [
        (1.0, 200, "gate ml/resnet/6d5c9f: equivalent\n"),
        (0.5, 200, "gate ml/resnet/6d5c9f: better: p99: better by more than 10 %"),
        (1.5, 422, "gate ml/resnet/6d5c9f: worse: p99: worse by more than 10 %"),
    ],
)
async def test_flagger_waits_for_200(
    client: httpx.AsyncClient, desk: Desk, slower: float, status: int, text: str
) -> None:
    desk.slower = slower
    path, body = flagger_call()
    first = await client.post(path, json=body)
    assert (first.status_code, first.text) == (409, "gate ml/resnet/6d5c9f is running: 0 pairs so far\n")
    await desk.ended("ml/resnet/6d5c9f")
    later = await client.post(path, json=body)
    assert later.status_code == status
    assert later.text.startswith(text)
    assert later.text.count("\n") == 1
    assert len(desk.ran) == 20


async def test_flagger_gets_no_pass_from_an_undecided_gate_nor_from_the_release_before(
    client: httpx.AsyncClient, desk: Desk
) -> None:
    path, body = flagger_call()
    await client.post(path, json=body)
    await desk.ended("ml/resnet/6d5c9f")
    assert (await client.post(path, json=body)).status_code == 200
    desk.block = True
    path, body = flagger_call("another")
    assert (await client.post(path, json=body)).status_code == 409
    await desk.gates.close()
    response = await client.post(path, json=body)
    assert response.status_code == 422
    assert "undecided: the daemon was shut down during the gate" in response.text


async def test_flagger_with_the_wrong_token(client: httpx.AsyncClient, desk: Desk) -> None:
    path, body = flagger_call()
    body["metadata"]["token"] = "x"
    assert (await client.post(path, json=body)).status_code == 401
    assert (await client.post(path, json=body, headers=BEARER)).status_code == 401
    del body["metadata"]["token"]
    assert (await client.post(path, json=body)).status_code == 401
    assert desk.gates.all() == []
    assert (await client.post(path, json=body, headers=BEARER)).status_code == 409


# --- Argo Rollouts --------------------------------------------------------------------------------------------------


def argo_call(release: str = "7f9c") -> tuple[dict[str, Any], str, Any]:
    """The request of the web provider, by its documentation: arguments put in, method, headers and body as given; and
    the JSON path and condition by which the response is read."""
    template, rollout = yaml.safe_load_all((EXAMPLES / "argo-web.yaml").read_text())
    names = {argument["name"] for argument in template["spec"]["args"]}
    (metric,) = template["spec"]["metrics"]
    assert metric.keys() == {"name", "successCondition", "provider"}
    web = metric["provider"]["web"]
    values = {"release": release, "api-token": TOKEN}
    assert names == values.keys()

    def put_in(text: str) -> str:
        return re.sub(r"\{\{ *args\.([\w-]+) *\}\}", lambda found: values[found[1]], text)

    assert web["timeoutSeconds"] > 1200
    step = rollout["spec"]["strategy"]["canary"]["steps"][1]["analysis"]
    assert step["templates"] == [{"templateName": template["metadata"]["name"]}]
    body = put_in(web["body"]).replace("resnet-stable", "old").replace("resnet-canary", "new")
    url = urlsplit(put_in(web["url"]))
    request = {
        "method": web["method"],
        "url": f"{url.path}?{url.query}",
        "headers": {header["key"]: put_in(header["value"]) for header in web["headers"]},
        "content": body,
    }
    return request, web["jsonPath"], metric["successCondition"]


@pytest.mark.parametrize(("slower", "success"), [(1.0, True), (0.5, True), (1.5, False), (None, False)])
async def test_argo_reads_the_verdict(
    client: httpx.AsyncClient, desk: Desk, slower: float | None, success: bool
) -> None:
    if slower is None:
        desk.gives = [NoSweep.PAUSED]
    desk.slower = slower or 1.0
    request, path, condition = argo_call()
    for _ in range(2):  # Argo repeats what was cut off
        response = await client.request(**request)
        assert response.status_code == 200
        assert (path, condition) == ("{$.passed}", "result == true")
        assert response.json()["passed"] is success
        assert response.json()["id"] == "resnet/7f9c"
    assert len(desk.ran) == (20 if slower else 0)


async def test_argo_with_the_wrong_token_or_probe_is_an_error(client: httpx.AsyncClient) -> None:
    request, _, _ = argo_call()
    wrong = request | {"headers": request["headers"] | {"Authorization": "Bearer x"}}
    assert (await client.request(**wrong)).status_code == 401
    unknown = request | {"content": request["content"].replace('"new"', '"none"')}
    assert (await client.request(**unknown)).status_code == 404
