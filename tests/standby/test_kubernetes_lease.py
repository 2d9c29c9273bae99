"""The lease as a Lease object, against a scripted API server."""

from __future__ import annotations

import contextlib
import gzip
import json
import re
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from exporter.core.bounds import LEASE_BYTES
from exporter.core.units import NS
from exporter.standby.kubernetes_lease import KubernetesLease, LeaseApiError, pod_config
from tests.standby.api_server import ScriptedApi, config_of

DURATION_NS = 15 * NS
PATH = "/apis/coordination.k8s.io/v1/namespaces/monitoring/leases"


@pytest.fixture
def api(tmp_path: Path) -> Iterator[ScriptedApi]:
    with ScriptedApi(tmp_path) as api:
        yield api


def store(api: ScriptedApi, limit_s: float = 60.0) -> KubernetesLease:
    return KubernetesLease(api.config, "canary-0", limit_s)


def test_it_is_made_read_renewed_and_given_up(api: ScriptedApi) -> None:
    ours, theirs = store(api), store(api)
    assert ours.read() is None
    first = ours.replace(None, "a", DURATION_NS)
    assert first is not None
    assert (first.holder, first.duration_ns, first.token) == ("a", DURATION_NS, "1")
    assert theirs.read() == first
    second = ours.replace(first, "a", DURATION_NS)
    assert second is not None
    third = ours.replace(second, "", DURATION_NS)
    assert third is not None
    assert third.holder == ""
    assert [(method, path) for method, path, _ in api.requests] == [
        ("GET", f"{PATH}/canary-0"),
        ("POST", PATH),
        ("GET", f"{PATH}/canary-0"),
        ("PUT", f"{PATH}/canary-0"),
        ("PUT", f"{PATH}/canary-0"),
    ]


def test_the_object_is_one_that_the_api_accepts_and_people_can_read(api: ScriptedApi) -> None:
    ours = store(api)
    seen = ours.replace(None, "a", DURATION_NS)
    seen = ours.replace(seen, "a", DURATION_NS)
    seen = ours.replace(seen, "b", 12_500_000_000)
    assert api.lease is not None
    spec = api.lease["spec"]
    assert (api.lease["kind"], api.lease["apiVersion"]) == ("Lease", "coordination.k8s.io/v1")
    assert (spec["holderIdentity"], spec["leaseDurationSeconds"], spec["leaseTransitions"]) == ("b", 13, 2)
    for stamp in ("renewTime", "acquireTime"):
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", spec[stamp])


def test_of_two_writers_one_succeeds(api: ScriptedApi) -> None:
    ours, theirs = store(api), store(api)
    assert theirs.read() is None
    seen = ours.replace(None, "a", DURATION_NS)
    assert theirs.replace(None, "b", DURATION_NS) is None
    found = theirs.read()
    assert ours.replace(seen, "a", DURATION_NS) is not None
    assert theirs.replace(found, "b", DURATION_NS) is None


def test_what_is_older_than_what_was_seen_last_is_not_replaced(api: ScriptedApi) -> None:
    ours = store(api)
    first = ours.replace(None, "a", DURATION_NS)
    second = ours.replace(first, "a", DURATION_NS)
    assert ours.replace(first, "a", DURATION_NS) is None
    assert ours.replace(second, "a", DURATION_NS) is not None


def test_what_others_wrote_into_the_object_stays(api: ScriptedApi) -> None:
    ours = store(api)
    ours.replace(None, "a", DURATION_NS)
    assert api.lease is not None
    api.lease["metadata"]["annotations"] = {"owner": "sre"}
    api.lease["spec"]["strategy"] = "OldestEmulationVersion"
    ours.replace(ours.read(), "a", DURATION_NS)
    assert api.lease["metadata"]["annotations"] == {"owner": "sre"}
    assert api.lease["spec"]["strategy"] == "OldestEmulationVersion"


def test_an_object_that_was_deleted_is_made_again(api: ScriptedApi) -> None:
    ours = store(api)
    seen = ours.replace(None, "a", DURATION_NS)
    api.lease = None
    assert ours.replace(seen, "a", DURATION_NS) is None
    assert ours.read() is None
    assert ours.replace(None, "a", DURATION_NS) is not None


def test_a_token_that_was_replaced_is_read_again(api: ScriptedApi) -> None:
    ours = store(api)
    good = api.token_file.read_text()
    api.token_file.write_text("old")
    with pytest.raises(LeaseApiError, match="401: Unauthorized"):
        ours.read()
    api.token_file.write_text(good)
    assert ours.read() is None


def test_the_stamps_of_others_stay_as_they_are(api: ScriptedApi) -> None:
    """The API takes none without its six digits, and many an encoder leaves out those of a whole second."""
    ours = store(api)
    ours.replace(None, "a", DURATION_NS)
    assert api.lease is not None
    api.lease["spec"]["acquireTime"] = "2026-12-01T12:00:00.000000Z"
    assert ours.replace(ours.read(), "a", DURATION_NS) is not None
    assert api.lease["spec"]["acquireTime"] == "2026-12-01T12:00:00.000000Z"


def status_of(code: int, message: str) -> tuple[int, bytes]:
    return code, json.dumps({"kind": "Status", "apiVersion": "v1", "code": code, "message": message}).encode()


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (status_of(403, "leases is\nforbidden\x1b[31m"), "403: leases is forbidden [31m"),
        (status_of(404, "the server could not find the requested resource"), "404: the server could not find"),
        ((500, b"<html>\x1b[31mno"), "neither a Lease nor a Status"),
        ((200, b"{"), "neither a Lease nor a Status"),
        ((200, b"\xff"), "neither a Lease nor a Status"),
        ((200, b"[" * 50_000 + b"]" * 50_000), "neither a Lease nor a Status"),
        ((403, b'{"message":' + b"[" * 50_000 + b"]" * 50_000 + b"}"), "neither a Lease nor a Status"),
        ((200, b"[]"), "neither a Lease nor a Status"),
        ((200, b'[["metadata", []]]'), "neither a Lease nor a Status"),
        ((200, b'{"metadata": {}}'), "neither a Lease nor a Status"),
        ((200, b'{"metadata": {"resourceVersion": "1"}, "spec": [1]}'), "neither a Lease nor a Status"),
        ((200, b'{"metadata": {"resourceVersion": "1"}, "spec": {"leaseDurationSeconds": "x"}}'), "neither a Lease"),
        ((500, b" " * (LEASE_BYTES + 1)), "is larger than 256 KiB"),
    ],
)
def test_what_the_server_may_send_instead_is_one_clear_error(
    api: ScriptedApi, reply: tuple[int, bytes], words: str
) -> None:
    api.reply = reply
    with pytest.raises(LeaseApiError) as raised:
        store(api).replace(None, "a", DURATION_NS)
    assert str(raised.value).startswith("create of the Lease canary-0: ")
    assert words in str(raised.value)
    assert str(raised.value).isprintable()


@pytest.mark.parametrize(
    "kind", [{}, {"Content-Type": "text/html"}, {"Content-Type": "application/json; charset=zlib"}]
)
def test_what_is_not_of_the_api_at_all_is_reported_by_its_status(api: ScriptedApi, kind: dict[str, str]) -> None:
    api.headers, api.reply = kind, (502, b"<html>\x1b[31mno")
    with pytest.raises(LeaseApiError, match="502: Server error '502 Bad Gateway' for url"):
        store(api).read()


def test_no_redirect_is_followed(api: ScriptedApi) -> None:
    api.headers, api.reply = {"Location": "/elsewhere"}, (302, b"")
    with pytest.raises(LeaseApiError, match="302: Redirect response"):
        store(api).read()
    assert [path for _, path, _ in api.requests] == [f"{PATH}/canary-0"]


def test_a_body_that_is_compressed_is_not_unpacked(api: ScriptedApi) -> None:
    """256 KiB of gzip may be 256 MiB. None is asked for."""
    api.headers |= {"Content-Encoding": "gzip"}
    api.reply = 200, gzip.compress(b'{"metadata": {"resourceVersion": "1"}}')
    with pytest.raises(LeaseApiError, match="neither a Lease nor a Status"):
        store(api).read()


def test_the_proxies_of_the_environment_do_not_matter(api: ScriptedApi, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert store(api).read() is None


@pytest.mark.parametrize("content", [None, b"", b"a\nb", b"\xff", "\N{SNOWMAN}".encode()])
def test_a_token_that_cannot_be_used_is_one_clear_error(api: ScriptedApi, content: bytes | None) -> None:
    api.token_file.unlink()
    if content is not None:
        api.token_file.write_bytes(content)
    with pytest.raises(LeaseApiError, match="get of the Lease canary-0: "):
        store(api).read()


def test_a_server_that_is_not_there_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("a")
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(LeaseApiError, match="get of the Lease canary-0: connection refused"):
        KubernetesLease(config_of(port, tmp_path / "token"), "canary-0", 60.0).read()


def test_a_server_that_hangs_is_left_in_time(api: ScriptedApi) -> None:
    api.delay_s = 1.0
    with pytest.raises(LeaseApiError, match=r"no response within 0\.2 s"):
        store(api, 0.2).read()


@pytest.mark.parametrize("begin", [b"HTTP/1.1 200 OK\r\nX-A: ", b"HTTP/1.1 200 OK\r\nContent-Length: 9000\r\n\r\n{"])
def test_a_server_that_drips_is_left_in_time(tmp_path: Path, begin: bytes) -> None:
    (tmp_path / "token").write_text("a")
    with socket.create_server(("127.0.0.1", 0)) as server:

        def drip() -> None:
            client, _ = server.accept()
            with client, contextlib.suppress(OSError):
                client.sendall(begin)
                while True:
                    time.sleep(0.02)
                    client.sendall(b" ")

        thread = threading.Thread(target=drip, daemon=True)
        thread.start()
        with pytest.raises(LeaseApiError, match=r"no response within 0\.5 s"):
            KubernetesLease(config_of(server.getsockname()[1], tmp_path / "token"), "canary-0", 0.5).read()
        thread.join()


def test_where_the_api_server_of_a_pod_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"KUBERNETES_SERVICE_HOST": "fd00::1", "KUBERNETES_SERVICE_PORT": "6443"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(LeaseApiError, match=r"No such file or directory: .*/token"):
        pod_config(str(tmp_path))
    (tmp_path / "token").write_text("x")
    (tmp_path / "namespace").write_text("canary")
    found = pod_config(str(tmp_path))
    assert (found.cluster.server, found.namespace) == ("https://[fd00::1]:6443", "canary")
    assert found.cluster.certificate_auth == str(tmp_path / "ca.crt")
    with pytest.raises(LeaseApiError, match=r"get of the Lease canary-0: TLS ca_file .*ca\.crt cannot be used"):
        KubernetesLease(found, "canary-0", 60.0).read()
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST")
    with pytest.raises(LeaseApiError, match="KUBERNETES_SERVICE_HOST is not set"):
        pod_config(str(tmp_path))
