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
from tests.daemon.pod import in_pod, need_pods
from tests.daemon.standby_pair import Pair
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


@pytest.fixture
def api(tmp_path: Path, certificates: Certificates) -> Iterator[ScriptedApi]:
    with ScriptedApi(tmp_path, certificates.server_context()) as api:
        api.tokens = {"a", "b"}
        api.lease = lease_of_the_chart()
        api.may_create = False
        yield api


@pytest.fixture
def pair(tmp_path: Path, api: ScriptedApi, certificates: Certificates) -> Iterator[Pair]:
    need_pods()
    wrappers = {name: in_pod(tmp_path / f"account-{name}", name, api.port, certificates.ca) for name in "ab"}
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
    assert not [event for event in pair.b.log_events() if "http" in event["logger"]], "no line per renewal"


def test_one_that_is_cut_off_from_the_api_stops_before_the_other_begins(pair: Pair, api: ScriptedApi) -> None:
    """Its requests are taken in, and get no response."""
    pair.start()
    api.cut_off.add("a")
    pair.taken_over()
    assert "in time" in pair.a.wait_for_log("lease lost")["reason"]
    pair.b.wait_for(lambda: pair.server.sent_by("b") > 100)
    assert [name for name, _, _ in pair.server.turns()] == ["a", "b"]
