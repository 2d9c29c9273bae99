"""The paths about baselines, the token, the actions behind them, and the command that asks for them."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette

from exporter.baseline.actions import BaselineActions
from exporter.baseline.file_format import encode
from exporter.baseline.store import BaselineStore
from exporter.cli import run as run_cli
from exporter.commands.baseline.command import BaselineCommand, CommandError, run
from exporter.core.probe import BaselineOptions, Probe, Schedule
from exporter.core.units import NS
from exporter.web.auth import TOKEN_VARIABLE, TokenGuard
from exporter.web.baseline_routes import baseline_routes
from exporter.web.http_server import WebServer
from tests.builders import concurrency, make_facts, make_probe
from tests.metrics.results import make_measurement, make_result

BEGIN = 1_767_225_600.0
BEARER = {"Authorization": "Bearer open sesame"}


def probe() -> Probe:
    options = BaselineOptions(pin_ns=7 * 86_400 * NS)
    levels = (concurrency(1), concurrency(4))
    return make_probe(schedule=Schedule(60 * NS), baseline=options, levels=levels)


def sweep(store: BaselineStore, count: int, version: str = "1", first: int = 0) -> None:
    measurements = tuple(make_measurement(level, foreign_requests=0) for level in probe().levels)
    for each in range(count):
        at_s = BEGIN + 300 * (first + each)
        facts = make_facts(version=version)
        store.judge(make_result(probe(), started_unix_s=at_s, facts=facts, measurements=measurements))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[BaselineStore]:
    store = BaselineStore(tmp_path / "baselines", lambda: BEGIN + 9000)
    yield store
    store.close()


@pytest.fixture
def app(store: BaselineStore, tmp_path: Path) -> Starlette:
    (tmp_path / "token").write_text("open sesame\n")
    actions = BaselineActions(store, lambda: [probe()])
    return Starlette(routes=baseline_routes(actions, TokenGuard(str(tmp_path / "token"), {})))


@pytest.fixture
async def client(app: Starlette) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://canary") as client:
        yield client


async def levels(client: httpx.AsyncClient) -> dict[str, Any]:
    response = await client.get("/api/baseline/addsub")
    found: dict[str, Any] = response.json()["levels"]
    return found


# --- actions ---------------------------------------------------------------------------------------------------------


async def test_show(client: httpx.AsyncClient, store: BaselineStore) -> None:
    assert await levels(client) == {}
    sweep(store, 3)
    reported = (await levels(client))["concurrency 4"]
    assert (reported["accepted_version"], reported["served_version"]) == ("", "1")
    assert reported["versions"]["1"] == {
        "sweeps_remembered": 3,
        "pinned_unix_s": None,
        "provisional": None,
        "final": None,
        "regressions": [],
        "note": "",
        "signals": {},
    }


async def test_pin_one_level(client: httpx.AsyncClient, store: BaselineStore, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "exporter.audit")
    sweep(store, 30)
    response = await client.post("/api/baseline/addsub/pin?level=4", headers=BEARER)
    since = "2026-01-01 00:00:12 UTC"
    assert (response.status_code, response.json()) == (
        200,
        {
            "done": [
                f"concurrency 4: pinned version 1 from 30 sweeps since {since}",
                "concurrency 4: the next sweeps are compared with "
                "latency p50 4 ms, latency p99 16 ms, throughput 333.2/s",
            ]
        },
    )
    reported = await levels(client)
    assert reported["concurrency 1"]["versions"]["1"]["pinned_unix_s"] is None
    pinned = reported["concurrency 4"]["versions"]["1"]
    assert (pinned["pinned_unix_s"], pinned["provisional"]) == (BEGIN + 9000, False)
    p50 = pinned["signals"]["latency_p50"]
    assert p50["by_hour_of_week"] == pytest.approx([0.004] * 168)
    assert (p50["noise_ratio"], p50["sweeps"], p50["worse_than_accepted"]) == (0.0, 30, 1.0)
    assert (p50["timezone"], p50["bimodal"]) == ("UTC", False)
    assert pinned["signals"]["throughput"]["by_hour_of_week"][0] == pytest.approx(333.25)
    (record,) = caplog.records
    assert record.fields["action"] == "pin"  # type: ignore[attr-defined]
    assert record.fields["by"] == "127.0.0.1"  # type: ignore[attr-defined]


async def test_accept_a_new_version(client: httpx.AsyncClient, store: BaselineStore) -> None:
    sweep(store, 30)
    await client.post("/api/baseline/addsub/pin", headers=BEARER)
    sweep(store, 25, version="2", first=30)
    assert (await levels(client))["concurrency 1"]["accepted_version"] == "1"
    response = await client.post("/api/baseline/addsub/accept", headers=BEARER)
    first, compared, *_ = response.json()["done"]
    assert first == "concurrency 1: accepted and pinned version 2 from 25 sweeps since 2026-01-01 02:30:12 UTC"
    assert "latency p50 4 ms (was 4 ms)" in compared
    assert (await levels(client))["concurrency 1"]["accepted_version"] == "2"
    response = await client.post("/api/baseline/addsub/accept?level=4", headers=BEARER)
    (nothing,) = response.json()["done"]
    assert nothing.startswith("concurrency 4: nothing changed: version 2 is the accepted one already")


async def test_a_dry_run_prints_and_changes_nothing(client: httpx.AsyncClient, store: BaselineStore) -> None:
    sweep(store, 30)
    before = await levels(client)
    response = await client.post("/api/baseline/addsub/pin?level=4&dry_run=true&since=6h", headers=BEARER)
    would, compared = response.json()["done"]
    assert would == "concurrency 4: would pin version 1 from 30 sweeps since 2026-01-01 00:00:12 UTC"
    assert "the next sweeps are compared with" in compared
    assert await levels(client) == before


@pytest.mark.parametrize(
    ("since", "problem"),
    [
        ("yesterday", "neither a moment"),
        ("2027-01-01", "in the future"),
        ("2026-01-01T02:25", "1 sweeps of version 1 since 2026-01-01 02:25:00 UTC; at least 20"),
    ],
)
async def test_since_when(client: httpx.AsyncClient, store: BaselineStore, since: str, problem: str) -> None:
    sweep(store, 30)
    response = await client.post(f"/api/baseline/addsub/pin?since={since}", headers=BEARER)
    assert response.status_code == 409
    assert problem in response.text


async def test_clear(client: httpx.AsyncClient, store: BaselineStore) -> None:
    sweep(store, 2)
    response = await client.post("/api/baseline/addsub/clear?level=concurrency%201", headers=BEARER)
    assert response.json() == {"done": ["concurrency 1: forgotten"]}
    assert list(await levels(client)) == ["concurrency 4"]


async def test_export_and_import(client: httpx.AsyncClient, store: BaselineStore) -> None:
    sweep(store, 30)
    document = (await client.get("/api/baseline/addsub/export")).text
    assert document == encode("addsub", store.state("addsub"))
    before = await levels(client)
    await client.post("/api/baseline/addsub/clear", headers=BEARER)
    assert await levels(client) == {}
    response = await client.post("/api/baseline/addsub/import", headers=BEARER, content=document)
    assert "2 levels taken over" in response.json()["done"][0]
    assert await levels(client) == before


TOO_FEW = "3 sweeps of version 1 since 2026-01-01 00:00:12 UTC; at least 20 are needed\n"


@pytest.mark.parametrize(
    "body",
    [
        "[" * 200_000,
        '{"probe": "addsub", "loads": ' + '{"a":' * 100_000,
        '{"probe": "addsub", "loads": {"l": {"used_unix_s": 1e999, "levels": {}}}}',
    ],
)
@pytest.mark.parametrize("with_checksum", [True, False])
async def test_a_document_that_is_made_to_break_the_reader(
    client: httpx.AsyncClient, body: str, with_checksum: bool
) -> None:
    header = json.dumps({"triton_canary_baseline": 1, "sha256": hashlib.sha256(body.encode()).hexdigest()})
    document = f"{header}\n{body}\n" if with_checksum else body
    response = await client.post("/api/baseline/addsub/import", headers=BEARER, content=document)
    assert response.status_code == 409
    assert response.text.startswith("the document is rejected: ")
    assert len(response.text) < 1000


@pytest.mark.parametrize(
    ("path", "status", "text"),
    [
        ("nothing/pin", 404, "there is no probe 'nothing'\n"),
        ("addsub/pin?level=9", 404, "there is no level '9'; there are concurrency 1, concurrency 4\n"),
        ("addsub/pin?level=1", 409, f"concurrency 1: {TOO_FEW}"),
        ("addsub/accept?level=1", 409, f"concurrency 1: {TOO_FEW}"),
        ("addsub/import", 409, "the document is rejected: its first line has no version and checksum\n"),
    ],
)
async def test_what_cannot_be_done(
    client: httpx.AsyncClient,
    store: BaselineStore,
    path: str,
    status: int,
    text: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "exporter.audit")
    sweep(store, 3)
    before = encode("addsub", store.state("addsub"))
    response = await client.post(f"/api/baseline/{path}", headers=BEARER, content="no document")
    assert (response.status_code, response.text) == (status, text)
    assert encode("addsub", store.state("addsub")) == before
    (record,) = caplog.records
    name, _, action = path.partition("?")[0].partition("/")
    reported = {"action": action, "probe": name, "baseline_level": path.partition("=")[2], "by": "127.0.0.1"}
    assert record.getMessage() == "baseline change refused"
    assert record.fields == {**reported, "error": text.removesuffix("\n")}  # type: ignore[attr-defined]


async def test_nothing_is_remembered_yet(client: httpx.AsyncClient) -> None:
    response = await client.post("/api/baseline/addsub/pin", headers=BEARER)
    assert (response.status_code, response.text) == (409, "probe 'addsub' has no sweeps yet\n")


async def test_bodies_that_are_none(client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("exporter.web.baseline_routes._MAX_BODY_BYTES", 100)
    for body in (b"\xff\xfe", b"x" * 101):
        response = await client.post("/api/baseline/addsub/import", headers=BEARER, content=body)
        assert response.status_code == 413


# --- the token -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("given", [None, "", "Bearer", "Bearer wrong", "Basic open sesame", "open sesame", "Bearer é"])
async def test_without_the_token_nothing_is_changed(
    client: httpx.AsyncClient, store: BaselineStore, given: str | None
) -> None:
    sweep(store, 2)
    headers = httpx.Headers({} if given is None else {b"Authorization": given.encode()})
    for action in ("pin", "accept", "clear", "import"):
        response = await client.post(f"/api/baseline/addsub/{action}", headers=headers)
        assert (response.status_code, response.headers["www-authenticate"]) == (401, "Bearer")
    assert len(await levels(client)) == 2


def test_where_the_token_comes_from(tmp_path: Path) -> None:
    path = tmp_path / "token"
    nowhere = TokenGuard("", {}).refusal("Bearer x")
    assert nowhere is not None
    assert (nowhere.status, "set web.api_token_file or TRITON_CANARY_API_TOKEN" in nowhere.text) == (403, True)
    assert TokenGuard("", {TOKEN_VARIABLE: " x\n"}).refusal("bearer x") is None
    guard = TokenGuard(str(path), {TOKEN_VARIABLE: "x"})
    missing = guard.refusal("Bearer x")
    assert missing is not None
    assert (missing.status, missing.text) == (503, "web.api_token_file cannot be read: No such file or directory")
    assert missing.detail == str(path)
    path.write_bytes(b"\xff\xfe")
    unread = guard.refusal("Bearer x")
    assert unread is not None
    assert (unread.status, unread.text) == (503, "web.api_token_file cannot be read: it is not UTF-8 text")
    path.write_text("")
    empty = guard.refusal("Bearer ")
    assert empty is not None
    assert empty.status == 403
    for token in ("one", "two"):  # rotated: the new one holds at once
        path.write_text(token)
        assert guard.refusal(f"Bearer {token}") is None


# --- the command -----------------------------------------------------------------------------------------------------


@pytest.fixture
async def url(app: Starlette) -> AsyncIterator[str]:
    server = WebServer(app, "127.0.0.1", 0)
    yield f"http://{await server.start()}"
    await server.stop()


async def ask(action: str, url: str, **more: Any) -> str:
    import asyncio

    return await asyncio.to_thread(run, BaselineCommand(action, "addsub", url, **more))


async def test_the_command(url: str, store: BaselineStore, tmp_path: Path) -> None:
    sweep(store, 30)
    token_file = tmp_path / "token"
    assert "concurrency 1  1        -" in await ask("show", url), "not pinned yet"
    would = await ask("pin", url, level="concurrency 1", token_file=token_file, dry_run=True, since="6h")
    assert would.startswith("concurrency 1: would pin version 1 from 30 sweeps since")
    done = await ask("pin", url, level="concurrency 1", token_file=token_file)
    assert done.startswith("concurrency 1: pinned version 1 from 30 sweeps since")
    shown = json.loads(await ask("show", url, json=True))
    assert shown["probe"] == "addsub"
    lines = (await ask("show", url)).splitlines()
    assert lines[0] == "probe addsub: what its next sweeps are compared with"
    assert lines[2].split() == ["level", "version", "signal", "baseline", "noise", "sweeps", "pinned", "state"]
    p50 = shown["levels"]["concurrency 1"]["versions"]["1"]["signals"]["latency_p50"]["by_hour_of_week"]
    assert len(set(p50)) == 1
    [row] = [line for line in lines if line.startswith("concurrency 1  1 ") and "latency p50" in line]
    assert f" {p50[0] * 1000:.4g} ms  " in row
    assert row.endswith("accepted, served, full")
    exported = tmp_path / "exported"
    exported.write_text(await ask("export", url))
    assert (await ask("clear", url, token_file=token_file)).count("forgotten") == 2
    assert "taken over" in await ask("import", url, file=exported, token_file=token_file)
    with pytest.raises(CommandError, match="401: the request has no valid token"):
        await ask("clear", url)
    with pytest.raises(CommandError, match="404: there is no level '9'"):
        await ask("clear", url, level="9", token_file=token_file)


def test_a_daemon_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_cli(["baseline", "show", "addsub", "--url", "http://127.0.0.1:1"]) == 1
    assert capsys.readouterr().err == (
        "no daemon at http://127.0.0.1:1: connection refused; is it running (triton-canary serve), and is --url its "
        "web.listen?\n"
    )


def test_json_is_of_show(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_cli(["baseline", "pin", "addsub", "--json"]) == 3
    assert "--json belongs to show" in capsys.readouterr().err


def test_a_key_needs_a_certificate(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_cli(["baseline", "show", "addsub", "--key-file", "k"]) == 3
    assert capsys.readouterr().err == "triton-canary: --key-file needs --cert-file\n"


@pytest.mark.parametrize("arguments", [["import", "addsub"], ["pin", "addsub", "file"]])
def test_only_import_takes_a_file(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run_cli(["baseline", *arguments]) == 3
    assert "import needs a FILE" in capsys.readouterr().err


def test_since_is_of_pin(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_cli(["baseline", "accept", "addsub", "--since", "6h"]) == 3
    assert "--since, --dry-run and --force belong to pin" in capsys.readouterr().err
