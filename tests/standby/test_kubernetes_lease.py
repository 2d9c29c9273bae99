"""The lease as a Lease object, against a scripted API server."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from exporter.core.bounds import LEASE_BYTES
from exporter.core.units import NS
from exporter.standby.kubernetes_lease import ApiServer, KubernetesLease, LeaseApiError
from tests.standby.api_server import ScriptedApi

DURATION_NS = 15 * NS
PATH = "/apis/coordination.k8s.io/v1/namespaces/monitoring/leases"


@pytest.fixture
def api(tmp_path: Path) -> Iterator[ScriptedApi]:
    with ScriptedApi(tmp_path) as api:
        yield api


def store(api: ScriptedApi, limit_s: float = 60.0) -> KubernetesLease:
    return KubernetesLease(api.server, "monitoring", "canary-0", limit_s)


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


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        ((403, b'{"message": "leases is forbidden"}'), "403: leases is forbidden"),
        ((500, b"<html>\x1b[31mno"), "500: <html>"),
        ((302, b""), "302"),
        ((200, b"{"), "not JSON"),
        ((200, b"[" * 500 + b"]" * 500), "not JSON"),
        ((200, b"[]"), "sent no Lease"),
        ((200, b'{"metadata": {}}'), "sent no Lease"),
        ((200, b'{"metadata": {"resourceVersion": "1"}, "spec": {"leaseDurationSeconds": "x"}}'), "sent no Lease"),
        ((200, b" " * (LEASE_BYTES + 1)), "is larger than 256 KiB"),
    ],
)
def test_what_the_server_may_send_instead_is_one_clear_error(
    api: ScriptedApi, reply: tuple[int, bytes], words: str
) -> None:
    api.reply = reply
    with pytest.raises(LeaseApiError) as raised:
        store(api).read()
    assert words in str(raised.value)
    assert "\x1b" not in str(raised.value)


def test_a_server_that_hangs_is_left_in_time(api: ScriptedApi) -> None:
    api.delay_s = 1.0
    with pytest.raises(LeaseApiError, match=r"no response within 0\.2 s"):
        store(api, 0.2).read()


def test_where_the_api_server_of_a_pod_is() -> None:
    environ = {"KUBERNETES_SERVICE_HOST": "fd00::1", "KUBERNETES_SERVICE_PORT": "6443"}
    found = ApiServer.of_pod(environ, Path("/folder"))
    assert (found.url, found.token_file, found.ca_file) == (
        "https://[fd00::1]:6443",
        Path("/folder/token"),
        Path("/folder/ca.crt"),
    )
    with pytest.raises(LeaseApiError, match="KUBERNETES_SERVICE_HOST"):
        ApiServer.of_pod({})
