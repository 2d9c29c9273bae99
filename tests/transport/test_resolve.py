"""Which address a connection goes to: the policies, with a resolver of the test's own and real listeners."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from exporter.core.errors import TransportError
from exporter.core.outcome import Outcome
from exporter.core.target import Resolve, Target
from exporter.services.channel_factory import connections, make_channel
from exporter.transport import resolve
from exporter.transport.call import Call
from exporter.transport.dial import dial, settle
from exporter.transport.resolve import Address, addresses
from tests.builders import make_target
from tests.transport.scripted import OK, REQUEST, Ended, always, serving

NAME = "replicas.test"


class Zone:
    """Responses as the system's resolver would, and counts how often it was asked."""

    def __init__(self) -> None:
        self.hosts: list[str] | Exception = []
        self.asked = 0

    async def look_up(self, host: str, port: int) -> list[Address]:
        assert host == NAME
        self.asked += 1
        if isinstance(self.hosts, Exception):
            raise self.hosts
        return [_address(each, port) for each in self.hosts]


def _address(host: str, port: int) -> Address:
    return (socket.AF_INET6, (host, port, 0, 0)) if ":" in host else (socket.AF_INET, (host, port))


@pytest.fixture
def zone(monkeypatch: pytest.MonkeyPatch) -> Zone:
    made = Zone()
    monkeypatch.setattr(resolve, "look_up", made.look_up)
    monkeypatch.setattr(resolve, "_turns", {})
    return made


def named(policy: Resolve, port: int = 8000, **changes: Any) -> Target:
    return make_target(host=NAME, port=port, resolve=policy, **changes)


async def order(target: Target) -> list[str]:
    return [str(address[0]) for _family, address in await addresses(target)]


@pytest.fixture
def port() -> Iterator[int]:
    """A port on which 127.0.0.2 and 127.0.0.3 accept; 127.0.0.1 and ::1 don't."""
    with contextlib.ExitStack() as stack:
        first = stack.enter_context(socket.create_server(("127.0.0.2", 0)))
        number = first.getsockname()[1]
        stack.enter_context(socket.create_server(("127.0.0.3", number)))
        yield number


# --- the order -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", [Resolve.PIN, Resolve.SWEEP])
async def test_the_resolvers_order_stays(zone: Zone, policy: Resolve) -> None:
    zone.hosts = ["10.0.0.3", "::3", "10.0.0.1"]
    assert [await order(named(policy)) for _ in range(3)] == [zone.hosts] * 3
    assert zone.asked == 3


async def test_a_settled_target_asks_no_resolver(zone: Zone) -> None:
    for policy in Resolve:
        assert await order(replace(named(policy), address="10.0.0.9")) == ["10.0.0.9"]
    assert zone.asked == 0


@pytest.mark.parametrize(("host", "address", "authority"), [("a.test", "10.0.0.1", "a.test:1"), ("::1", "", "[::1]:1")])
def test_authorities(host: str, address: str, authority: str) -> None:
    assert make_target(host=host, port=1, address=address).authority == authority


@pytest.mark.parametrize(
    ("address", "host"),
    [(("10.0.0.1", 1), "10.0.0.1"), (("::1", 1, 0, 0), "::1"), (("fe80::1", 1, 0, 2), "fe80::1%2")],
)
def test_address_as_host(address: resolve.SocketAddress, host: str) -> None:
    assert resolve.as_host(address) == host


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_an_address_is_no_name(zone: Zone, host: str) -> None:
    for policy in Resolve:
        target = make_target(host=host, resolve=policy)
        assert await order(target) == [host]
        assert await settle(target) == ""
    assert zone.asked == 0


@pytest.mark.parametrize("count", [1, 2, 3, 7])
async def test_each_connection_begins_with_the_next_address(zone: Zone, count: int) -> None:
    """However the resolver orders them, as round-robin servers do."""
    hosts = [f"10.0.0.{number}" for number in range(count)]
    zone.hosts = list(hosts)
    begun = []
    for _ in range(3 * count):
        tried = await order(named(Resolve.CONNECTION))
        assert sorted(tried) == hosts
        begun.append(tried[0])
        zone.hosts = [*zone.hosts[1:], zone.hosts[0]]
    for start in range(0, 3 * count, count):
        assert sorted(begun[start : start + count]) == hosts


async def test_replicas_come_and_go(zone: Zone) -> None:
    zone.hosts = ["10.0.0.1", "10.0.0.2"]
    first = (await order(named(Resolve.CONNECTION)))[0]
    zone.hosts = [first, "10.0.0.3"]
    assert (await order(named(Resolve.CONNECTION)))[0] == "10.0.0.3"
    begun = Counter([(await order(named(Resolve.CONNECTION)))[0] for _ in range(10)])
    assert begun == {first: 5, "10.0.0.3": 5}


async def test_ports_of_one_name_go_round_apart(zone: Zone) -> None:
    zone.hosts = ["10.0.0.1", "10.0.0.2"]
    for port in (1, 2):
        assert {(await order(named(Resolve.CONNECTION, port)))[0] for _ in range(2)} == set(zone.hosts)


async def test_only_the_preferred_family_takes_turns(zone: Zone) -> None:
    zone.hosts = ["::1", "127.0.0.1", "127.0.0.2"]
    assert [await order(named(Resolve.CONNECTION)) for _ in range(4)] == [zone.hosts] * 4


# --- connecting ------------------------------------------------------------------------------------------------------


async def accepted_by(target: Target) -> str:
    with (await dial(target, ())).sock as sock:
        return str(sock.getpeername()[0])


@pytest.mark.parametrize("policy", Resolve)
async def test_an_address_that_refuses_is_passed_over(zone: Zone, port: int, policy: Resolve) -> None:
    zone.hosts = ["::1", "127.0.0.1", "127.0.0.2"]
    assert await accepted_by(named(policy, port)) == "127.0.0.2"


async def test_nothing_waits_to_be_sent_in_one_piece(port: int) -> None:
    """TCP_NODELAY: Nagle's algorithm would hold back the end of a request for as long as a response takes."""
    with (await dial(make_target(host="127.0.0.2", port=port), ())).sock as sock:
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


async def test_connections_go_round(zone: Zone, port: int) -> None:
    zone.hosts = ["127.0.0.2", "127.0.0.3"]
    assert Counter([await accepted_by(named(Resolve.CONNECTION, port)) for _ in range(6)]) == {
        "127.0.0.2": 3,
        "127.0.0.3": 3,
    }
    assert zone.asked == 6


async def test_an_address_that_does_not_respond_leaves_time_for_the_next(
    zone: Zone, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = asyncio.get_running_loop()
    connect = loop.sock_connect

    async def sock_connect(sock: socket.socket, address: Any) -> None:
        if address[0] == "127.0.0.9":
            await asyncio.Event().wait()
        await connect(sock, address)

    monkeypatch.setattr(loop, "sock_connect", sock_connect)
    zone.hosts = ["127.0.0.9", "127.0.0.2"]
    target = named(Resolve.SWEEP, port, connect_timeout_ns=200_000_000)
    assert await accepted_by(target) == "127.0.0.2"
    assert await settle(target) == "127.0.0.2"
    zone.hosts = ["127.0.0.9", "127.0.0.9"]
    with pytest.raises(TransportError, match=rf"^no connection to {NAME}:{port} within 0.2 s$") as caught:
        await accepted_by(target)
    assert caught.value.outcome is Outcome.CONNECT_ERROR
    assert await settle(target) == ""


@pytest.mark.parametrize(
    ("hosts", "settled"),
    [
        (["127.0.0.1", "127.0.0.3", "127.0.0.2"], "127.0.0.3"),
        (["127.0.0.2"], "127.0.0.2"),
        (["127.0.0.1"], "127.0.0.1"),
        (["::1", "127.0.0.1"], ""),
        (socket.gaierror(socket.EAI_NONAME, "no such name"), ""),
        (UnicodeError("label too long"), ""),
    ],
    ids=["the first that accepts", "one that accepts", "one, tried by no one", "none accepts", "no name", "not a name"],
)
async def test_settle(zone: Zone, port: int, hosts: Any, settled: str) -> None:
    zone.hosts = hosts
    for policy in (Resolve.PIN, Resolve.SWEEP):
        assert await settle(named(policy, port)) == settled
    assert await settle(named(Resolve.CONNECTION, port)) == ""
    assert await settle(replace(named(Resolve.PIN, port), address="10.0.0.9")) == "10.0.0.9"


async def test_what_does_not_accept_is_named_with_its_address(zone: Zone, port: int) -> None:
    target = replace(named(Resolve.PIN, port), address="127.0.0.1")
    with pytest.raises(TransportError) as caught:
        await dial(target, ())
    assert str(caught.value) == f"cannot connect to {NAME}:{port} (127.0.0.1): connection refused"


@pytest.mark.parametrize("policy", Resolve)
@pytest.mark.parametrize("host", ["::1", "127.0.0.1"])
async def test_a_server_of_either_family_is_found_behind_a_name_of_both(zone: Zone, host: str, policy: Resolve) -> None:
    zone.hosts = ["::1", "127.0.0.1"]
    try:
        server = socket.create_server((host, 0), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError:
        pytest.skip("no IPv6 here")
    with server:
        target = named(policy, server.getsockname()[1])
        assert await accepted_by(target) == host
        assert await settle(target) == ("" if policy is Resolve.CONNECTION else host)


async def test_localhost_by_the_systems_resolver() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        target = make_target(host="localhost", port=server.getsockname()[1])
        assert await settle(target) == "127.0.0.1"
        for policy in Resolve:
            assert await accepted_by(replace(target, resolve=policy)) == "127.0.0.1"


async def test_channels_of_a_level_share_the_replicas(zone: Zone) -> None:
    served: Counter[str] = Counter()

    def counting(host: str) -> Any:
        response = always(OK)

        async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            served[host] += 1
            await response(reader, writer)

        return script

    zone.hosts = ["127.0.0.2", "127.0.0.3"]
    async with serving(counting("127.0.0.2"), host="127.0.0.2") as port, contextlib.AsyncExitStack() as stack:
        server = await asyncio.start_server(counting("127.0.0.3"), "127.0.0.3", port)
        stack.push_async_callback(server.wait_closed)
        stack.callback(server.close)
        target = named(Resolve.CONNECTION, port)
        ended = Ended()
        channels = [make_channel(target, ended) for _ in range(connections(target, 8))]
        for channel in channels:
            channel.send(Call(0), REQUEST)
        assert await ended.wait(8) == (Outcome.OK, "")
        for channel in channels:
            await channel.close()
    assert served == {"127.0.0.2": 4, "127.0.0.3": 4}


# --- the system's resolver ----------------------------------------------------------------------------------------


async def test_a_resolver_that_hangs_has_one_thread_per_name_and_none_of_asyncios(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    go, asked = threading.Event(), Counter[str]()

    def getaddrinfo(host: str, port: int, **more: Any) -> list[Any]:
        asked[host] += 1
        if host == "silent.test":
            go.wait()
        return [(socket.AF_INET, socket.SOCK_STREAM, 0, "", ("10.0.0.1", port))]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    silent = [asyncio.create_task(resolve.look_up("silent.test", 80)) for _ in range(50)]
    await asyncio.sleep(0)
    silent[0].cancel()
    async with asyncio.timeout(5):
        assert await resolve.look_up("good.test", 81) == [(socket.AF_INET, ("10.0.0.1", 81))]
        assert await asyncio.to_thread(lambda: 1) == 1
    go.set()
    found = await asyncio.gather(*silent, return_exceptions=True)
    assert found[1:] == [[(socket.AF_INET, ("10.0.0.1", 80))]] * 49
    assert isinstance(found[0], asyncio.CancelledError)
    assert asked == {"silent.test": 1, "good.test": 1}
    assert await resolve.look_up("silent.test", 80)
    assert asked["silent.test"] == 2
