"""A pair with a Lease of Kubernetes, as the chart sets it up: each daemon in a file system that looks as in a pod."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from exporter.daemon.standby import lease_name
from exporter.schedule.sharding import Shard
from tests.daemon.standby_pair import Pair
from tests.programs import need, need_right
from tests.standby.api_server import ScriptedApi
from tests.standby.named_server import NamedServer
from tests.transport.certificates import Certificates

NAME = lease_name("triton-canary", Shard(0, 1))


def lease_of_the_chart() -> dict[str, Any]:
    """What is there before the first daemon: an object without a holder."""
    return {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"name": NAME, "namespace": "canary", "resourceVersion": "0", "labels": {"team": "a"}},
    }


def in_pod(folder: Path, name: str, api: ScriptedApi, certificates: Certificates) -> list[str]:
    """A command whose process finds the API server as a pod does, with a token of this name."""
    account = folder / f"account-{name}"
    account.mkdir()
    (account / "token").write_text(name)
    (account / "namespace").write_text("canary")
    (account / "ca.crt").write_bytes(certificates.ca.read_bytes())
    secrets = "/run/secrets/kubernetes.io"
    mount = f"mount -t tmpfs none /run && mkdir -p {secrets} && ln -s {account} {secrets}/serviceaccount"
    variables = f"KUBERNETES_SERVICE_HOST=127.0.0.1 KUBERNETES_SERVICE_PORT={api.port}"
    return ["unshare", "--mount", "sh", "-c", f'{mount} && exec env {variables} "$@"', "sh"]


@pytest.fixture
def api(tmp_path: Path, certificates: Certificates) -> Iterator[ScriptedApi]:
    with ScriptedApi(tmp_path, certificates.server_context()) as api:
        api.tokens = {"a", "b"}
        api.lease = lease_of_the_chart()
        api.may_create = False
        yield api


@pytest.fixture
def pair(tmp_path: Path, api: ScriptedApi, certificates: Certificates) -> Iterator[Pair]:
    need("mount")
    need_right("unshare", "--mount", "mount", "-t", "tmpfs", "none", "/run")
    wrappers = {name: in_pod(tmp_path, name, api, certificates) for name in "ab"}
    with NamedServer() as server, ExitStack() as stack:
        yield Pair(tmp_path, server, stack, lease="kubernetes", wrappers=wrappers)


def test_one_that_is_killed_is_replaced(pair: Pair, api: ScriptedApi) -> None:
    pair.start()
    pair.a.stop(signal.SIGKILL)
    pair.taken_over()
    assert api.lease is not None
    assert api.lease["spec"]["leaseTransitions"] == 2
    assert api.lease["metadata"]["labels"] == {"team": "a"}, "what others wrote stays"
    methods = {method for method, _, _ in api.requests}
    assert methods == {"GET", "PUT"}, "the rights of the chart's Role"
    assert {path.rpartition("/")[2] for _, path, _ in api.requests} == {NAME}


def test_one_that_is_cut_off_from_the_api_stops_before_the_other_begins(pair: Pair, api: ScriptedApi) -> None:
    """Its requests are taken in, and get no response."""
    pair.start()
    api.cut_off.add("a")
    pair.taken_over()
    assert "in time" in pair.a.wait_for_log("lease lost")["reason"]
    pair.b.wait_for(lambda: pair.server.sent_by("b") > 100)
    assert [name for name, _, _ in pair.server.turns()] == ["a", "b"]
