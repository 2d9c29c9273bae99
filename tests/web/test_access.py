"""Users, certificates and headers of the web configuration file, and that it is followed."""

from __future__ import annotations

import asyncio
import base64
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import bcrypt
import httpx
import pytest
from starlette.applications import Starlette

from exporter.commands.baseline.command import BaselineCommand, CommandError
from exporter.commands.baseline.command import run as run_command
from exporter.core.errors import ConfigError
from exporter.metrics.page import MetricsPage
from exporter.web import access as access_module
from exporter.web.access import Passwords, WebAccess
from exporter.web.app import WebSources, create_app
from exporter.web.auth import TokenGuard
from exporter.web.http_server import WebServer
from tests.metrics.results import make_exporter_facts
from tests.metrics.scenario import make_scenario
from tests.transport.certificates import Certificates

PATHS = ("/", "/metrics", "/api/status", "/static/style.css", "/nowhere")


@pytest.fixture(scope="module")
def hashed() -> str:
    return bcrypt.hashpw(b"open sesame", bcrypt.gensalt(4)).decode()


@pytest.fixture
def page() -> Iterator[MetricsPage]:
    page = MetricsPage(make_scenario(), make_exporter_facts(), max_series=100_000)
    yield page
    page.close()


@pytest.fixture
def web_file(tmp_path: Path) -> Path:
    return tmp_path / "web.yml"


def make_app(page: MetricsPage, access: WebAccess, token_file: str = "") -> Starlette:
    facts = make_exporter_facts()
    return create_app(
        WebSources(
            make_scenario(),
            page,
            facts,
            healthy=lambda: True,
            ready=lambda: True,
            access=access,
            guard=TokenGuard(token_file, {}),
        )
    )


def client_of(app: Starlette) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://canary")


async def statuses(client: httpx.AsyncClient, headers: dict[str, str] | None = None) -> set[int]:
    return {(await client.get(path, headers=headers)).status_code for path in PATHS}


def problem(access: WebAccess) -> str:
    return str(access.error or "")


def basic(user: str, password: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


@pytest.mark.parametrize(
    "headers",
    [
        {},
        basic("alice", "wrong"),
        basic("mallory", "open sesame"),
        basic("", ""),
        {"Authorization": "Basic %%%"},
        {"Authorization": "Basic"},
        {"Authorization": "Digest abc"},
        {"Authorization": "Bearer wrong"},
        {"Authorization": "Bearer "},
    ],
)
async def test_who_may_not_read(
    headers: dict[str, str], page: MetricsPage, web_file: Path, hashed: str, tmp_path: Path
) -> None:
    web_file.write_text(f"basic_auth_users: {{alice: {hashed}}}")
    (tmp_path / "token").write_text("the token")
    async with client_of(make_app(page, WebAccess(web_file), str(tmp_path / "token"))) as client:
        assert await statuses(client, headers) == {401}
        response = await client.get("/metrics", headers=headers)
        assert response.headers["www-authenticate"].startswith("Basic realm=")
        assert response.headers["x-content-type-options"] == "nosniff"
        assert (await client.get("/-/healthy", headers=headers)).status_code == 200
        assert (await client.get("/-/ready", headers=headers)).status_code == 200


async def test_a_change_that_is_refused_before_its_path_is_reported(
    page: MetricsPage, web_file: Path, hashed: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    web_file.write_text(f"basic_auth_users: {{alice: {hashed}}}")
    (tmp_path / "token").write_text("the token")
    async with client_of(make_app(page, WebAccess(web_file), str(tmp_path / "token"))) as client:
        for method in ("GET", "POST"):
            response = await client.request(method, "/-/reload", headers={"Authorization": "Bearer wrong"})
            assert response.status_code == 401
    (record,) = caplog.records
    error = "who sent it may not even read"
    reported = {"path": "/-/reload", "by": "127.0.0.1", "status": 401, "error": error, "left_out": 0}
    assert (record.name, record.fields) == ("exporter.audit", reported)  # type: ignore[attr-defined]


async def test_users_and_the_bearer_of_the_token_may_read(
    page: MetricsPage, web_file: Path, hashed: str, tmp_path: Path
) -> None:
    web_file.write_text(f"basic_auth_users: {{alice: {hashed}}}")
    (tmp_path / "token").write_text("the token")
    access = WebAccess(web_file)
    async with client_of(make_app(page, access, str(tmp_path / "token"))) as client:
        assert await statuses(client, basic("alice", "open sesame")) == {200, 404}
        assert access.passwords.comparisons == 1
        assert await statuses(client, {"Authorization": "Bearer the token"}) == {200, 404}
        assert access.passwords.comparisons == 1


async def test_without_users_no_password_is_asked_for(page: MetricsPage, web_file: Path) -> None:
    web_file.write_text("http_server_config: {headers: {X-Frame-Options: sameorigin, X-XSS-Protection: '0'}}")
    async with client_of(make_app(page, WebAccess(web_file))) as client:
        response = await client.get("/metrics")
        assert response.status_code == 200
        assert response.headers["x-frame-options"] == "sameorigin"
        assert response.headers["x-xss-protection"] == "0"
        assert response.headers["referrer-policy"] == "no-referrer"


async def test_wrong_passwords_are_remembered_apart_from_right_ones(
    hashed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(access_module, "_KEPT_RESULTS", 3)
    passwords, users = Passwords(), {"alice": hashed}
    assert await passwords.matches(users, "alice", b"open sesame") is True
    for number in range(5):
        assert await passwords.matches(users, "alice", b"%d" % number) is False
    assert passwords.comparisons == 6
    assert await passwords.matches(users, "alice", b"open sesame") is True
    assert await passwords.matches(users, "alice", b"4") is False
    assert passwords.comparisons == 6
    assert await passwords.matches(users, "alice", b"0") is False
    assert passwords.comparisons == 7


async def test_a_crowd_of_wrong_passwords_is_bounded(hashed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access_module, "WAITING_PASSWORDS", 4)
    passwords, users = Passwords(), {"alice": hashed}
    assert await passwords.matches(users, "alice", b"open sesame") is True
    crowd = [asyncio.create_task(passwords.matches(users, "alice", b"%d" % number)) for number in range(20)]
    await asyncio.sleep(0)
    assert await passwords.matches(users, "alice", b"open sesame") is True
    responses = await asyncio.gather(*crowd)
    # One is compared and four wait; the right one takes the place of one, unless the first had ended by then.
    assert responses.count(None) in (14, 15)
    assert responses.count(None) + responses.count(False) == 20


async def test_who_has_the_right_password_comes_next_in_a_flood_of_wrong_ones(hashed: str) -> None:
    passwords, users = Passwords(), {"alice": hashed}
    flood = [asyncio.create_task(passwords.matches(users, "alice", b"%d" % number)) for number in range(40)]
    await asyncio.sleep(0)
    assert await passwords.matches(users, "alice", b"open sesame") is True
    assert passwords.comparisons <= 3
    assert await asyncio.gather(*flood) == [False] * 40


async def test_addresses_take_turns(hashed: str) -> None:
    passwords, users = Passwords(), {"alice": hashed}
    one = [asyncio.create_task(passwords.matches(users, "alice", b"%d" % number, "a")) for number in range(20)]
    await asyncio.sleep(0)
    other = asyncio.create_task(passwords.matches(users, "alice", b"open sesame", "b"))
    await asyncio.sleep(0)
    one += [asyncio.create_task(passwords.matches(users, "alice", b"%d" % number, "a")) for number in range(20, 40)]
    assert await other is True
    assert passwords.comparisons <= 10, "of 41; on a busy machine some more than the first three"
    await asyncio.gather(*one)


async def test_an_unknown_user_costs_what_a_known_one_does(monkeypatch: pytest.MonkeyPatch) -> None:
    users = {f"user{cost}": bcrypt.hashpw(b"x", bcrypt.gensalt(cost)).decode() for cost in (4, 5, 6)}
    compared: list[bytes] = []

    def compare(_: bytes, stored: bytes) -> bool:
        compared.append(stored)
        return True

    monkeypatch.setattr(access_module, "_compare", compare)
    passwords = Passwords()
    for number in range(100):
        assert await passwords.matches(users, f"stranger{number}", b"x") is False
    assert {stored.decode() for stored in compared} == set(users.values())
    again = len(compared)
    assert await passwords.matches(users, "stranger0", b"y") is False
    assert compared[again] == compared[0]


@pytest.mark.parametrize("password", [b"x" * 100, b"\0", b"\xff"])
async def test_strange_passwords_are_wrong_ones(password: bytes, hashed: str) -> None:
    assert await Passwords().matches({"alice": hashed}, "alice", password) is False


async def test_the_file_is_followed(page: MetricsPage, web_file: Path, hashed: str) -> None:
    web_file.write_text("")
    access = WebAccess(web_file)
    async with client_of(make_app(page, access)) as client:
        assert (await client.get("/metrics")).status_code == 200
        web_file.write_text(f"basic_auth_users: {{alice: {hashed}}}")
        access.refresh()
        assert (await client.get("/metrics")).status_code == 401
        web_file.write_text("basic_auth_users: {alice: plain}")
        access.refresh()
        assert "must be a bcrypt hash" in problem(access)
        assert (await client.get("/metrics")).status_code == 401
        web_file.write_text("tls_server_config: {cert_file: a, key_file: b}")
        access.refresh()
        assert "cannot be read" in problem(access)
        web_file.write_text("{}")
        access.refresh()
        assert problem(access) == ""
        assert (await client.get("/metrics")).status_code == 200


# --- TLS --------------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def serving(page: MetricsPage, access: WebAccess) -> AsyncIterator[str]:
    server = WebServer(make_app(page, access), "127.0.0.1", 0, access.endpoint)
    try:
        yield f"https://{await server.start()}"
    finally:
        await server.stop()


def trusting(certificates: Certificates, client: str = "") -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=certificates.ca)
    if client == "client":
        context.load_cert_chain(certificates.client, certificates.client_key)
    return context


async def ask(url: str, path: str, context: ssl.SSLContext) -> int:
    async with httpx.AsyncClient(verify=context, trust_env=False) as client:
        return (await client.get(url + path)).status_code


def write_tls(web_file: Path, certificates: Certificates, more: str = "", name: str = "server") -> None:
    cert, key = (certificates.server, certificates.server_key)
    if name == "client":
        cert, key = certificates.client, certificates.client_key
    web_file.write_text(f"tls_server_config: {{cert_file: {cert}, key_file: {key}{more}}}\n")


async def test_over_tls(page: MetricsPage, web_file: Path, certificates: Certificates) -> None:
    write_tls(web_file, certificates)
    async with serving(page, WebAccess(web_file)) as url:
        assert await ask(url, "/metrics", trusting(certificates)) == 200
        with pytest.raises(httpx.TransportError):
            await ask(url.replace("https", "http"), "/metrics", trusting(certificates))


async def test_old_versions_are_refused(page: MetricsPage, web_file: Path, certificates: Certificates) -> None:
    write_tls(web_file, certificates, ", min_version: TLS13")
    old = trusting(certificates)
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    async with serving(page, WebAccess(web_file)) as url:
        with pytest.raises(httpx.ConnectError):
            await ask(url, "/metrics", old)
        assert await ask(url, "/metrics", trusting(certificates)) == 200


async def test_mutual_tls_leaves_health_open(page: MetricsPage, web_file: Path, certificates: Certificates) -> None:
    mutual = f", client_auth_type: RequireAndVerifyClientCert, client_ca_file: {certificates.ca}"
    write_tls(web_file, certificates, mutual)
    async with serving(page, WebAccess(web_file)) as url:
        assert await ask(url, "/metrics", trusting(certificates, "client")) == 200
        assert await ask(url, "/metrics", trusting(certificates)) == 403
        assert await ask(url, "/-/healthy", trusting(certificates)) == 200
        assert await ask(url, "/-/ready", trusting(certificates)) == 200


async def test_an_authority_that_is_taken_back_loses_its_connections(
    page: MetricsPage, web_file: Path, certificates: Certificates
) -> None:
    mutual = ", client_auth_type: RequireAndVerifyClientCert, client_ca_file: "
    write_tls(web_file, certificates, f"{mutual}{certificates.ca}")
    access = WebAccess(web_file)
    async with (
        serving(page, access) as url,
        httpx.AsyncClient(verify=trusting(certificates, "client"), trust_env=False) as client,
    ):
        assert (await client.get(f"{url}/metrics")).status_code == 200
        write_tls(web_file, certificates, f"{mutual}{certificates.other_ca}")
        await asyncio.to_thread(access.refresh)
        await asyncio.sleep(0.1)
        with pytest.raises(httpx.TransportError):
            await client.get(f"{url}/metrics")


@pytest.mark.parametrize(("names", "status"), [("canary.test", 200), ("127.0.0.1", 200), ("other.test", 403)])
async def test_only_certificates_with_an_allowed_name(
    names: str, status: int, page: MetricsPage, web_file: Path, certificates: Certificates
) -> None:
    mutual = f", client_auth_type: RequireAndVerifyClientCert, client_ca_file: {certificates.ca}"
    write_tls(web_file, certificates, f"{mutual}, client_allowed_sans: [{names}]")
    async with serving(page, WebAccess(web_file)) as url:
        assert await ask(url, "/metrics", trusting(certificates, "client")) == status


async def test_a_certificate_of_another_authority_is_turned_away(
    page: MetricsPage, web_file: Path, certificates: Certificates
) -> None:
    mutual = f", client_auth_type: VerifyClientCertIfGiven, client_ca_file: {certificates.other_ca}"
    write_tls(web_file, certificates, mutual)
    async with serving(page, WebAccess(web_file)) as url:
        assert await ask(url, "/metrics", trusting(certificates)) == 200
        with pytest.raises(httpx.TransportError):
            await ask(url, "/-/healthy", trusting(certificates, "client"))


async def test_a_rotated_certificate_is_served_without_a_restart(
    page: MetricsPage, web_file: Path, certificates: Certificates
) -> None:
    write_tls(web_file, certificates)
    access = WebAccess(web_file)
    async with serving(page, access) as url:
        assert (await subject(url)) == "canary server"
        write_tls(web_file, certificates, name="client")
        access.refresh()
        assert (await subject(url)) == "canary client"
        web_file.write_text(f"tls_server_config: {{cert_file: {certificates.ca}, key_file: {certificates.server_key}}}")
        access.refresh()
        assert "key values mismatch" in problem(access)
        assert (await subject(url)) == "canary client"
        web_file.write_text("")
        access.refresh()
        assert "needs a restart" in problem(access)
        assert (await subject(url)) == "canary client"


async def subject(url: str) -> str:
    """The common name of the certificate that is served."""
    host, _, port = url.removeprefix("https://").partition(":")
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    _, writer = await asyncio.open_connection(host, int(port), ssl=context)
    der: bytes = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.close()
    return next(name for name in ("canary server", "canary client") if name.encode() in der)


@pytest.mark.parametrize("name", ["cert_file", "key_file", "client_ca_file"])
def test_files_that_cannot_be_used_are_reported(name: str, web_file: Path, certificates: Certificates) -> None:
    files = {"cert_file": certificates.server, "key_file": certificates.server_key, "client_ca_file": certificates.ca}
    bad = web_file.with_name("bad.pem")
    bad.write_text("not PEM")
    lines = "".join(f"  {key}: {bad if key == name else value}\n" for key, value in files.items())
    web_file.write_text(f"tls_server_config:\n{lines}  client_auth_type: VerifyClientCertIfGiven\n")
    with pytest.raises(ConfigError, match=r"bad\.pem.*cannot be used: "):
        WebAccess(web_file)
    bad.unlink()
    with pytest.raises(ConfigError, match=r"bad\.pem.*: No such file or directory"):
        WebAccess(web_file)


async def test_the_command_line_trusts_an_authority_without_key_usage_under_every_python(
    page: MetricsPage, web_file: Path, plain_certificates: Certificates
) -> None:
    write_tls(web_file, plain_certificates)
    async with serving(page, WebAccess(web_file)) as url:
        command = BaselineCommand("show", "a", url, ca_file=plain_certificates.ca)
        with pytest.raises(CommandError, match="404: "):  # this application has no baselines
            await asyncio.to_thread(run_command, command)


@pytest.mark.parametrize(
    ("known", "allowed", "reported"),
    [(True, True, "404: "), (True, False, "401: Unauthorized"), (False, True, "its certificate is not accepted: ")],
    ids=["all right", "wrong token", "unknown authority"],
)
async def test_the_command_line_over_tls_where_users_are_asked_for_passwords(
    known: bool,
    allowed: bool,
    reported: str,
    page: MetricsPage,
    web_file: Path,
    certificates: Certificates,
    hashed: str,
) -> None:
    write_tls(web_file, certificates)
    web_file.write_text(f"{web_file.read_text()}basic_auth_users: {{alice: {hashed}}}\n")
    tokens = [web_file.with_name(name) for name in ("right", "wrong")]
    for token in tokens:
        token.write_text(token.name)
    access = WebAccess(web_file)
    server = WebServer(make_app(page, access, str(tokens[0])), "127.0.0.1", 0, access.endpoint)
    command = BaselineCommand(
        "show",
        "addsub",
        f"https://{await server.start()}",
        token_file=tokens[0 if allowed else 1],
        ca_file=certificates.ca if known else certificates.other_ca,
    )
    with pytest.raises(CommandError, match=reported):  # this application has no baselines
        await asyncio.to_thread(run_command, command)
    await server.stop()


@pytest.mark.parametrize(
    ("name", "reported"),
    [
        ("client", "404: "),
        (None, "403: an allowed client certificate is required"),
        ("nowhere", "TLS client certificate .*nowhere cannot be used: No such file or directory"),
    ],
)
async def test_the_command_line_where_certificates_are_asked_for(
    name: str | None, reported: str, page: MetricsPage, web_file: Path, certificates: Certificates
) -> None:
    write_tls(
        web_file, certificates, f", client_auth_type: RequireAndVerifyClientCert, client_ca_file: {certificates.ca}"
    )
    files = {"client": (certificates.client, certificates.client_key), "nowhere": (web_file.with_name("nowhere"), None)}
    cert_file, key_file = files[name] if name else (None, None)
    async with serving(page, WebAccess(web_file)) as url:
        command = BaselineCommand("show", "a", url, ca_file=certificates.ca, cert_file=cert_file, key_file=key_file)
        with pytest.raises(CommandError, match=reported):  # this application has no baselines
            await asyncio.to_thread(run_command, command)
