"""The paths that show the configuration and have it read again."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from starlette.applications import Starlette

from exporter.core.errors import ConfigError
from exporter.web.action_routes import config_routes
from exporter.web.auth import TokenGuard

BEARER = {"Authorization": "Bearer open sesame"}


class Desk:
    def __init__(self) -> None:
        self.reasons: list[str] = []
        self.error: ConfigError | None = None

    async def reload(self, why: str) -> ConfigError | None:
        self.reasons.append(why)
        return self.error


@pytest.fixture
def desk() -> Desk:
    return Desk()


@pytest.fixture
async def client(desk: Desk, tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    (tmp_path / "token").write_text("open sesame")
    guard = TokenGuard(str(tmp_path / "token"), {})
    app = Starlette(routes=config_routes(desk.reload, lambda: "targets: []\n", guard))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://canary") as client:
        yield client


async def test_a_reload(client: httpx.AsyncClient, desk: Desk) -> None:
    assert (await client.post("/-/reload", headers=BEARER)).status_code == 200
    assert desk.reasons == ["request of 127.0.0.1"]


async def test_a_bad_configuration_is_a_500_with_every_error(client: httpx.AsyncClient, desk: Desk) -> None:
    desk.error = ConfigError(["canary.yaml:1: one", "canary.yaml:2: two"])
    response = await client.post("/-/reload", headers=BEARER)
    assert response.status_code == 500
    assert "the old configuration is still in use:\ncanary.yaml:1: one\ncanary.yaml:2: two\n" in response.text


@pytest.mark.parametrize(
    ("method", "headers", "status"), [("GET", BEARER, 405), ("POST", {}, 401), ("POST", {"Authorization": "x"}, 401)]
)
async def test_others_cause_nothing(
    method: str,
    headers: dict[str, str],
    status: int,
    client: httpx.AsyncClient,
    desk: Desk,
    caplog: pytest.LogCaptureFixture,
) -> None:
    assert (await client.request(method, "/-/reload", headers=headers)).status_code == status
    assert desk.reasons == []
    reported = [record.fields for record in caplog.records]  # type: ignore[attr-defined]
    assert [(fields["path"], fields["status"], fields["by"]) for fields in reported] == (
        [("/-/reload", 401, "127.0.0.1")] if status == 401 else []
    )


async def test_the_configuration_is_shown(client: httpx.AsyncClient) -> None:
    response = await client.get("/config")
    assert (response.status_code, response.text) == (200, "targets: []\n")
    assert response.headers["content-type"].startswith("text/plain")
