"""The runbooks as pages of the daemon: each alert's, without links that lead nowhere, and nothing else."""

from __future__ import annotations

import re

import httpx
import pytest
from starlette.applications import Starlette

from exporter.web.runbook_routes import runbook_routes
from tests.rules.test_rules import NAMES


@pytest.fixture
def client() -> httpx.AsyncClient:
    app = Starlette(routes=runbook_routes("1.2.3"))
    return httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://canary")


@pytest.mark.parametrize("name", NAMES)
async def test_each_alert_has_its_page(client: httpx.AsyncClient, name: str) -> None:
    response = await client.get(f"/runbooks/{name}")
    assert response.status_code == 200
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    assert f"<h1>{name}</h1>" in response.text
    assert "<h2>What to do</h2>" in response.text
    main = response.text.partition("<main")[2]
    for link in re.findall(r'href="([^"]+)"', main):
        if not link.startswith(("http", "#")):
            assert (await client.get(f"/runbooks/{link}")).status_code == 200, link


async def test_the_list_has_all_of_them(client: httpx.AsyncClient) -> None:
    text = (await client.get("/runbooks/")).text
    assert [name for name in NAMES if f'<a href="{name}">' not in text] == []
    response = await client.get("/runbooks")
    assert (response.status_code, response.headers["location"]) == (308, "runbooks/")


@pytest.mark.parametrize("name", ["Nope", "..%2f..%2falerts", "index.md%00", "%3Cscript%3E"])
async def test_nothing_else_is_shown(client: httpx.AsyncClient, name: str) -> None:
    response = await client.get(f"/runbooks/{name}")
    assert (response.status_code, "script" in response.text) == (404, False)
