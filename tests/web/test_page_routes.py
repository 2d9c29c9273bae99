"""What is done from a probe's page: the form, its token, and who may not send it."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from starlette.applications import Starlette

from exporter.baseline.actions import BaselineActions
from exporter.baseline.store import BaselineStore
from exporter.schedule.actions import ProbeActions
from exporter.web.auth import TokenGuard
from exporter.web.page_routes import page_action_routes
from tests.builders import make_facts
from tests.metrics.results import make_measurement, make_result
from tests.schedule.test_actions import REPLICA, A, B, Stage

BEGIN = 1_767_225_600.0
TOKEN = "open sesame"


class Desk:
    """The form's path over a real scheduler and real baselines."""

    def __init__(self, folder: Path) -> None:
        self.stage = Stage(folder)
        self.store = BaselineStore(folder / "baselines", lambda: BEGIN + 9000)
        stage = self.stage
        probe_actions = ProbeActions(stage.scheduler, stage.gate, stage.pauses, lambda: stage.probes, list)
        routes = page_action_routes(
            probe_actions,
            BaselineActions(self.store, lambda: stage.probes),
            lambda: stage.probes,
            TokenGuard(str(folder / "token"), {}),
            "0.1.0",
        )
        transport = httpx.ASGITransport(Starlette(routes=routes))
        self.client = httpx.AsyncClient(transport=transport, base_url="http://canary")

    async def post(self, action: str, probe: str = "a", token: str = TOKEN, **headers: str) -> tuple[int, str]:
        data = {"action": action, "token": token}
        response = await self.client.post(f"/probes/{probe}", data=data, headers=headers)
        return response.status_code, response.text


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    desk = Desk(tmp_path)
    yield desk
    desk.store.close()
    await desk.client.aclose()
    await desk.stage.client.aclose()
    for future in desk.stage.running.values():
        future.set_result(None)
    assert await desk.stage.scheduler.drain(1)


async def test_sweep_pause_and_resume(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        status, page = await desk.post("sweep-now", "b")
    assert (status, "the sweep begins" in page) == (200, True)
    assert [record.fields["by"] for record in caplog.records if record.name == "exporter.audit"] == ["127.0.0.1"]  # type: ignore[attr-defined]
    status, page = await desk.post("pause")
    assert status == 200
    assert desk.stage.gate.pause(A)
    assert not desk.stage.gate.pause(B)
    assert '<a href="../probes/a">Back to the probe</a>' in page
    status, _ = await desk.post("resume")
    assert (status, desk.stage.gate.pause(A)) == (200, "")


async def test_what_is_refused_is_given_in_words(desk: Desk) -> None:
    await desk.post("sweep-now")
    status, page = await desk.post("sweep-now")
    assert (status, "a sweep of the probe" in page) == (409, True)
    status, page = await desk.post("pin")
    assert (status, "has no sweeps yet" in page) == (409, True)
    assert (await desk.post("sweep-now", "nothing"))[0] == 404
    assert (await desk.post("pin", "nothing"))[0] == 404
    assert (await desk.post("clear"))[0] == 400


async def test_a_pin_is_previewed_before_it_is_made(desk: Desk) -> None:
    for number in range(30):
        result = make_result(
            A,
            started_unix_s=BEGIN + 300 * number,
            facts=make_facts(),
            measurements=(make_measurement(A.levels[0], foreign_requests=0),),
        )
        desk.store.judge(result)
    before = desk.store.current(A)
    assert before is not None
    pinned = {name: state.versions["1"].pin for name, state in before.levels.items()}
    status, page = await desk.post("pin-preview")
    assert (status, "would pin version 1 from 30 sweeps" in page) == (200, True)
    assert {name: state.versions["1"].pin for name, state in before.levels.items()} == pinned
    status, page = await desk.post("pin")
    assert (status, "pinned version 1 from 30 sweeps" in page) == (200, True)
    assert {name: state.versions["1"].pin for name, state in before.levels.items()} != pinned


@pytest.mark.parametrize("token", ["", "wrong", "open sesame2", "é"])
async def test_without_the_token_nothing_is_done(token: str, desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    status, page = await desk.post("pause", token=token)
    assert (status, "no valid token" in page) == (401, True)
    assert not desk.stage.gate.pause(A)
    (record,) = caplog.records
    assert record.fields["path"] == "/probes/a"  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://canary:81"},
    ],
)
async def test_a_form_of_another_site_is_refused_whatever_it_bears(headers: dict[str, str], desk: Desk) -> None:
    assert (await desk.post("pause", **headers))[0] == 403
    assert not desk.stage.gate.pause(A)


@pytest.mark.parametrize(
    "headers", [{"Sec-Fetch-Site": "same-origin", "Origin": "http://canary"}, {"Origin": "http://canary"}]
)
async def test_our_own_form_is_taken(headers: dict[str, str], desk: Desk) -> None:
    assert (await desk.post("pause", **headers))[0] == 200


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"action=pause&token=open+sesame", "text/plain"),
        (b'{"action": "pause", "token": "open sesame"}', "application/json"),
        (b"action=pause&token=open+sesame&x=" + b"x" * 20_000, "application/x-www-form-urlencoded"),
        (b"\xff", "application/x-www-form-urlencoded"),
        (b"&".join(b"a=1" for _ in range(100)), "application/x-www-form-urlencoded"),
    ],
)
async def test_what_is_no_form_of_ours(body: bytes, kind: str, desk: Desk) -> None:
    response = await desk.client.post("/probes/a", content=body, headers={"Content-Type": kind})
    assert response.status_code == 413
    assert not desk.stage.gate.pause(A)


async def test_the_token_in_the_url_is_none(desk: Desk) -> None:
    response = await desk.client.post("/probes/a?token=open+sesame&action=pause", data={"action": "pause"})
    assert response.status_code == 401


async def test_a_name_with_a_slash(desk: Desk) -> None:
    status, page = await desk.post("pause", REPLICA.name.replace("/", "%2F"))
    assert (status, desk.stage.gate.pause(REPLICA) != "") == (200, True)
    assert 'href="../probes/asr%2F10.0.0.1%3A8001"' in page
