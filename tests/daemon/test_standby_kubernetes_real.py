"""A pair whose lease is at a real API server, with the rights that the chart gives: each daemon in a file system that
looks as in a pod, and behind a relay that a test can cut."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.daemon.pod import in_pod, need_pods
from tests.daemon.standby_pair import GAP_SECONDS, Pair
from tests.standby.kube_api import KubeApi, need_kube_apiserver, of_the_chart
from tests.standby.named_server import NamedServer
from tests.standby.relay import Relay
from tests.transport.certificates import Certificates
from tests.waiting import patient

pytestmark = pytest.mark.soak

NAME = "triton-canary-0"
DURATION_SECONDS = 10
GONE_SECONDS = 30
"""For how long the API server is gone."""


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory, certificates: Certificates) -> Iterator[KubeApi]:
    need_kube_apiserver()
    need_pods()
    with KubeApi(tmp_path_factory.mktemp("kube"), certificates) as api:
        api.account("full", "get", "create", "update")
        documents = of_the_chart()
        api.apply(*(documents[kind] for kind in ("ServiceAccount", "Role", "RoleBinding")))
        yield api


class KubernetesPair(Pair):
    """The two, and the relay of each."""

    def __init__(
        self, folder: Path, server: NamedServer, stack: ExitStack, api: KubeApi, account: str, ca: Path
    ) -> None:
        self.relays = {name: stack.enter_context(Relay(api.port)) for name in "ab"}
        wrappers = {
            name: in_pod(folder / f"account-{name}", api.token(account), relay.port, ca)
            for name, relay in self.relays.items()
        }
        super().__init__(folder, server, stack, duration=f"{DURATION_SECONDS}s", lease="kubernetes", wrappers=wrappers)

    def report(self, what: str, began_s: float) -> None:
        """Checks that they never sent in turns but one after the other; shows the figures (`pytest -s`)."""
        turns = self.server.turns()
        for (_, _, last_s), (_, first_s, _) in pairwise(turns):
            assert first_s - last_s > GAP_SECONDS
            print(f"{what}: {turns[1][0]} sent {first_s - began_s:.1f} s after, nothing for {first_s - last_s:.1f} s")


@pytest.fixture
def account(request: pytest.FixtureRequest) -> str:
    return getattr(request, "param", "triton-canary")


@pytest.fixture
def pair(tmp_path: Path, api: KubeApi, account: str, certificates: Certificates) -> Iterator[KubernetesPair]:
    api.delete(NAME)
    api.apply(of_the_chart()["Lease"])
    with NamedServer() as server, ExitStack() as stack:
        yield KubernetesPair(tmp_path, server, stack, api, account, certificates.ca)


def spec_of(api: KubeApi) -> dict[str, Any]:
    spec: dict[str, Any] = api.lease(NAME)["spec"]
    return spec


def test_one_that_is_killed_is_replaced(pair: KubernetesPair, api: KubeApi) -> None:
    pair.start()
    began_s = time.monotonic()
    pair.a.stop(signal.SIGKILL)
    pair.taken_over()
    pair.report("killed", began_s)
    assert spec_of(api)["leaseTransitions"] == 2
    assert f"/{pair.b.pid}/" in spec_of(api)["holderIdentity"]


def test_one_that_ends_in_order_gives_the_lease_up(pair: KubernetesPair, api: KubeApi) -> None:
    pair.start()
    began_s = time.monotonic()
    pair.a.stop()
    pair.b.wait_for(lambda: pair.server.sent_by("b") > 20)
    (_, _, last_s), (_, first_s, _) = pair.server.turns()
    assert first_s - began_s < patient(DURATION_SECONDS)
    print(f"ended in order: b sent {first_s - began_s:.1f} s after, nothing for {first_s - last_s:.1f} s")


def test_one_that_is_stopped_sends_nothing_when_it_continues(pair: KubernetesPair) -> None:
    pair.start()
    began_s = time.monotonic()
    os.kill(pair.a.pid, signal.SIGSTOP)
    try:
        pair.taken_over()
    finally:
        os.kill(pair.a.pid, signal.SIGCONT)
    pair.a.wait_for_log("begins again, as a standby")
    pair.a.wait_for(lambda: pair.a.log_events()[-1].get("msg") == "standby")
    pair.b.wait_for(lambda: pair.server.sent_by("b") > 500)
    assert [name for name, _, _ in pair.server.turns()] == ["a", "b"]
    pair.report("stopped and continued", began_s)


def test_one_that_is_cut_off_from_the_api_server_stops_before_the_other_begins(pair: KubernetesPair) -> None:
    pair.start()
    began_s = time.monotonic()
    pair.relays["a"].cut.set()
    pair.taken_over()
    assert "in time" in pair.a.wait_for_log("lease lost")["reason"]
    pair.relays["a"].cut.clear()
    pair.a.wait_for(lambda: pair.a.log_events()[-1].get("msg") == "standby")
    pair.b.wait_for(lambda: pair.server.sent_by("b") > 500)
    assert [name for name, _, _ in pair.server.turns()] == ["a", "b"]
    pair.report("cut off", began_s)


def test_while_the_api_server_is_gone_neither_measures(pair: KubernetesPair, api: KubeApi) -> None:
    pair.start()
    began_s = time.monotonic()
    api.stop()
    try:
        pair.a.wait_for_log("lease lost")
        time.sleep(max(0.0, GONE_SECONDS - (time.monotonic() - began_s)))
        last_s, _ = pair.server.arrivals[-1]
        assert last_s - began_s < DURATION_SECONDS, "the lease ran out"
    finally:
        api.start()
    again_s, count = time.monotonic(), len(pair.server.arrivals)
    pair.b.wait_for(lambda: len(pair.server.arrivals) > count + 500)
    after = pair.server.arrivals[count:]
    assert len({name for _, name in after}) == 1, "one of them"
    assert pair.server.arrivals[count - 1][0] == last_s
    print(
        f"API server gone for {again_s - began_s:.0f} s: the last request {last_s - began_s:.1f} s after its end, the "
        f"next one, of {after[0][1]}, {after[0][0] - again_s:.1f} s after it was back"
    )


@pytest.mark.parametrize("account", ["full"], indirect=True)
def test_a_lease_that_is_deleted_is_not_taken_while_its_holder_may_act(pair: KubernetesPair, api: KubeApi) -> None:
    """With the right to make one: the standby would make it, and the holder sends until its next renewal."""
    pair.start()
    pair.b.wait_for(lambda: "measures; this daemon takes over" in pair.notice(pair.b))
    began_s = time.monotonic()
    api.delete(NAME)
    pair.a.wait_for_log("lease lost")
    count = len(pair.server.arrivals)
    pair.b.wait_for(lambda: len(pair.server.arrivals) > count + 500)
    assert len(pair.server.turns()) <= 2, "never in turns"
    pair.report("deleted", began_s)
    print(f"deleted: {pair.server.turns()[-1][0]} measures again")
