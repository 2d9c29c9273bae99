"""The application: paths, methods, statuses, headers."""

from __future__ import annotations

import gzip
from collections.abc import AsyncIterator

import httpx
import pytest
from starlette.applications import Starlette

from tests.web.conftest import Signs

PATHS = ("/", "/metrics", "/-/healthy", "/-/ready", "/api/status", "/static/style.css", "/static/page.js")


@pytest.fixture
async def client(app: Starlette) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://canary", headers={"Accept-Encoding": ""}) as it:
        yield it


@pytest.mark.parametrize(
    ("path", "content_type", "content"),
    [
        ("/", "text/html; charset=utf-8", "Triton Canary</title>"),
        ("/static/page.js", "text/javascript; charset=utf-8", '"use strict"'),
        (
            "/metrics",
            "text/plain; version=0.0.4; charset=utf-8",
            'triton_canary_up{target="triton-http",probe="addsub"',
        ),
        ("/-/healthy", "text/plain; charset=utf-8", "Healthy\n"),
        ("/-/ready", "text/plain; charset=utf-8", "Ready\n"),
        ("/api/status", "application/json", '"version": "0.1.0"'),
        ("/static/style.css", "text/css; charset=utf-8", "prefers-color-scheme: dark"),
    ],
)
async def test_pages(path: str, content_type: str, content: str, client: httpx.AsyncClient) -> None:
    response = await client.get(path)
    assert (response.status_code, response.headers["content-type"]) == (200, content_type)
    assert content in response.text
    policy = response.headers["content-security-policy"]
    assert "default-src 'none'; script-src 'self'; style-src 'self';" in policy
    assert "unsafe" not in policy
    assert response.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("path", PATHS)
async def test_methods(path: str, client: httpx.AsyncClient) -> None:
    assert (await client.head(path)).status_code == 200
    for method in ("POST", "PUT", "DELETE", "PATCH"):
        response = await client.request(method, path)
        assert response.status_code == 405
        assert set(response.headers["allow"].split(", ")) == {"GET", "HEAD"}


@pytest.mark.parametrize("path", ["/nothing", "/metrics/", "/-/", "/-/reload", "/../etc/passwd", "/%00"])
async def test_unknown_paths(path: str, client: httpx.AsyncClient) -> None:
    response = await client.get(path)
    assert response.status_code == 404
    assert "content-security-policy" in response.headers


async def test_health_and_readiness(client: httpx.AsyncClient, signs: Signs) -> None:
    signs.healthy = False
    assert [(await client.get(path)).status_code for path in ("/-/healthy", "/-/ready")] == [503, 200]
    signs.healthy, signs.ready = True, False
    assert [(await client.get(path)).status_code for path in ("/-/healthy", "/-/ready")] == [200, 503]
    assert (await client.get("/api/status")).json()["ready"] is False


async def test_the_status_as_json(client: httpx.AsyncClient) -> None:
    status = (await client.get("/api/status")).json()
    assert {key: status[key] for key in ("ready", "version")} == {"ready": True, "version": "0.1.0"}
    states = [(probe["target"], probe["state"], probe["reason"]) for probe in status["probes"]]
    assert states == [
        ("triton-http", "failed", "unreachable"),
        ("triton-grpc", "unstable", "unstable"),
        ("triton-http", "never", ""),
        ("vllm", "regressed", ""),
        ("triton-http", "ok", ""),
    ]
    assert [level["level"] for level in status["probes"][1]["levels"]] == ["100", "200"]
    assert status["probes"][0]["next_run_unix_s"] == 1_700_000_060.0
    assert status["probes"][0]["age_seconds"] == 39.75


async def test_metrics_are_negotiated(client: httpx.AsyncClient) -> None:
    headers = {"Accept": "application/openmetrics-text;version=1.0.0", "Accept-Encoding": "gzip"}
    async with client.stream("GET", "/metrics", headers=headers) as response:
        body = gzip.decompress(b"".join([part async for part in response.aiter_raw()]))
    assert response.headers["content-encoding"] == "gzip"
    assert response.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    assert response.headers["vary"] == "Accept, Accept-Encoding"
    assert body.endswith(b"# EOF\n")


async def test_metrics_are_selected_by_name(client: httpx.AsyncClient) -> None:
    names_asked = {"name[]": ["triton_canary_up", "triton_canary_inferences_total"]}
    text = (await client.get("/metrics", params=names_asked)).text
    names = {line.partition("{")[0] for line in text.splitlines() if not line.startswith("#")}
    assert names == {"triton_canary_up", "triton_canary_inferences_total"}
