"""What a request costs this client, layer by layer: the same closed loop through more and more of the client, in one
process, against one server.

    python -m bench.layers ENDPOINT PORT CONCURRENCY SECONDS ROUNDS < REQUEST

REQUEST is a pickled `EncodedRequest`, as `bench.compare` passes it. Prints JSON: by layer, the figures of each round.
Each layer's load holds those before it, so that the difference between two is what the later one costs.
"""

from __future__ import annotations

import asyncio
import json
import pickle
import resource
import socket
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass, field
from statistics import fmean

import uvloop

from bench.own_load import NO_LIMIT
from exporter.core.outcome import Outcome
from exporter.core.probe import StopRules
from exporter.core.target import Target
from exporter.core.units import NS
from exporter.demo.triton import ADDRESS
from exporter.engine.abandoned import Abandoned
from exporter.engine.guard import Guard, Stop
from exporter.engine.in_flight import InFlight
from exporter.engine.senders import ClosedLoop
from exporter.services import SERVICES
from exporter.transport.call import Call, EncodedRequest
from exporter.transport.connection import Connection

BARE, CLOCKED, CONNECTION, CHANNEL, ENGINE = "bare", "clocked", "connection", "channel", "engine"
LAYERS = {"http": (BARE, CLOCKED, CONNECTION, CHANNEL, ENGINE), "grpc": (CHANNEL, ENGINE)}
"""A bare loop can't be gRPC: it would need streams."""

_READ_BYTES = 64 * 1024
_SETTLE_SECONDS = 0.2
_CLOCK_CALLS = 10_000


@dataclass(frozen=True, slots=True)
class Figures:
    """Of one request: cpu time; that of the kernel's calls, where these were timed."""

    per_second: float
    user_us: float
    system_us: float
    send_us: float = 0.0
    receive_us: float = 0.0


@dataclass(slots=True)
class Load:
    """What a layer is given, and what it counts. It sends no more once it is `over`."""

    endpoint: str
    port: int
    request: EncodedRequest
    concurrency: int
    count: int = 0
    over: bool = False
    on_over: Callable[[], None] = lambda: None
    send_ns: list[int] = field(default_factory=list)
    receive_ns: list[int] = field(default_factory=list)

    @property
    def wire(self) -> bytes:
        """The request as it is over HTTP."""
        return self.request.head + self.request.body

    @property
    def target(self) -> Target:
        """The server."""
        return Target(
            name=self.endpoint, kind="triton", scheme=self.endpoint, host=ADDRESS, port=self.port, group=ADDRESS
        )


Close = Callable[[], Awaitable[None]]
Layer = Callable[[Load], Awaitable[Close]]
"""Begins the load, and gives what ends it."""


async def bare(load: Load) -> Close:
    """The loop's reader, one recv and one send: the least that a client in Python can do."""
    memory = bytearray(_READ_BYTES)

    def reader(sock: socket.socket) -> Callable[[], None]:
        receive_into, send, wire = sock.recv_into, sock.send, load.wire

        def read() -> None:
            receive_into(memory)
            load.count += 1
            if not load.over:
                send(wire)

        return read

    return await _sockets(load, reader)


async def clocked(load: Load) -> Close:
    """The same with a clock of this thread's cpu time around each call of the kernel."""
    memory, clock = bytearray(_READ_BYTES), time.thread_time_ns

    def reader(sock: socket.socket) -> Callable[[], None]:
        receive_into, send, wire = sock.recv_into, sock.send, load.wire

        def read() -> None:
            begin_ns = clock()
            receive_into(memory)
            read_ns = clock()
            load.count += 1
            load.receive_ns.append(read_ns - begin_ns)
            if not load.over:
                begin_ns = clock()
                send(wire)
                load.send_ns.append(clock() - begin_ns)

        return read

    return await _sockets(load, reader)


async def _sockets(load: Load, reader: Callable[[socket.socket], Callable[[], None]]) -> Close:
    loop = asyncio.get_running_loop()
    sockets = [socket.create_connection((ADDRESS, load.port)) for _ in range(load.concurrency)]
    for sock in sockets:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setblocking(False)
        loop.add_reader(sock.fileno(), reader(sock))
        sock.send(load.wire)

    async def close() -> None:
        for sock in sockets:
            loop.remove_reader(sock.fileno())
            sock.close()

    return close


class _Echo:
    """Sends again whatever comes."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self.connection = Connection(load.target, (), self)

    def data_received(self, data: bytes | memoryview, now_ns: int) -> None:
        self._load.count += 1
        if not self._load.over:
            self.connection.write(self._load.wire)

    def drained(self, now_ns: int) -> None: ...

    def connection_lost(self, error: OSError | None) -> None:
        raise SystemExit(f"connection lost: {error}")


async def connection(load: Load) -> Close:
    """Our connection, which parses nothing."""
    echoes = [_Echo(load) for _ in range(load.concurrency)]
    for echo in echoes:
        await echo.connection.open()
        echo.connection.write(load.wire)

    async def close() -> None:
        for echo in echoes:
            echo.connection.close()

    return close


async def channel(load: Load) -> Close:
    """Our channel: the response is parsed, the call filled in; nothing is recorded."""

    def send(call: Call) -> None:
        assert call.channel is not None
        call.channel.send(call, load.request)

    def begin(calls: list[Call]) -> None:
        for call in calls:
            send(call)

    def ended(call: Call) -> None:
        load.count += 1
        _raise_if_failed(call)
        if not load.over:
            send(call)

    return await _channels(load, ended, begin)


async def engine(load: Load) -> Close:
    """All of it but the windows: stop rules, budgets, and a record of each request."""
    guard = Guard(StopRules(max_requests=NO_LIMIT, max_duration_ns=NO_LIMIT), NO_LIMIT, NO_LIMIT)
    in_flight = InFlight(guard, [[load.request]], Abandoned(), load.concurrency, 10 * NS)

    def begin(calls: list[Call]) -> None:
        in_flight.calls = calls
        in_flight.start(ClosedLoop(calls, in_flight.offer, lambda: None), time.monotonic_ns())

    close_channels = await _channels(load, in_flight.ended, begin)

    def stop() -> None:
        load.count = len(in_flight.recorder)
        in_flight.stop(Stop())

    load.on_over = stop

    async def close() -> None:
        in_flight.close()
        await close_channels()

    return close


async def _channels(load: Load, ended: Callable[[Call], None], begin: Callable[[list[Call]], None]) -> Close:
    service = SERVICES[load.target.kind]()
    channels = [
        service.channel(load.target, ended) for _ in range(max(service.connections(load.target, load.concurrency), 1))
    ]
    # At once, as a level does: how the server shares out connections among its threads depends on it.
    await asyncio.gather(*(each.open() for each in channels))
    calls = [Call(slot) for slot in range(load.concurrency)]
    for call in calls:
        call.channel = channels[call.slot % len(channels)]
    begin(calls)

    async def close() -> None:
        for each in channels:
            await each.close()

    return close


def _raise_if_failed(call: Call) -> None:
    if call.outcome is not Outcome.OK and call.sent_ns and call.outcome is not Outcome.CANCELLED:
        raise SystemExit(f"a request failed: {call.text}")


_RUN: dict[str, Layer] = {BARE: bare, CLOCKED: clocked, CONNECTION: connection, CHANNEL: channel, ENGINE: engine}


async def measure(load: Load, layer: Layer, seconds: float) -> Figures:
    """One layer's load for so long."""
    before, began_s = resource.getrusage(resource.RUSAGE_SELF), time.monotonic()
    close = await layer(load)
    await asyncio.sleep(seconds)
    load.over = True
    load.on_over()
    took_s = time.monotonic() - began_s
    after = resource.getrusage(resource.RUSAGE_SELF)
    # What is in flight ends first: Triton was seen to respond no more over gRPC once enough requests were cut off.
    await asyncio.sleep(_SETTLE_SECONDS)
    await close()
    each_us = 1e6 / load.count
    return Figures(
        load.count / took_s,
        (after.ru_utime - before.ru_utime) * each_us,
        (after.ru_stime - before.ru_stime) * each_us,
        _mean_us(load.send_ns),
        _mean_us(load.receive_ns),
    )


def _mean_us(taken_ns: list[int]) -> float:
    """Without what the clock itself takes, which is a call of the kernel, too."""
    if not taken_ns:
        return 0.0
    begin_ns = time.thread_time_ns()
    for _ in range(_CLOCK_CALLS):
        time.thread_time_ns()
    clock_ns = (time.thread_time_ns() - begin_ns) / _CLOCK_CALLS
    return (fmean(taken_ns) - clock_ns) / 1000


async def measure_all(
    endpoint: str, port: int, request: EncodedRequest, concurrency: int, seconds: float, rounds: int
) -> dict[str, list[Figures]]:
    """All layers in turns; the first round is for warming up."""
    figures: dict[str, list[Figures]] = {name: [] for name in LAYERS[endpoint]}
    for number in range(rounds + 1):
        for name, found in figures.items():
            load = Load(endpoint, port, request, concurrency)
            found.append(await measure(load, _RUN[name], seconds if number else _SETTLE_SECONDS))
    return {name: found[1:] for name, found in figures.items()}


def main() -> None:
    endpoint, port, concurrency, seconds, rounds = sys.argv[1:]
    request = pickle.load(sys.stdin.buffer)
    measuring = measure_all(endpoint, int(port), request, int(concurrency), float(seconds), int(rounds))
    figures = uvloop.run(measuring)
    print(json.dumps({name: [asdict(each) for each in found] for name, found in figures.items()}))


if __name__ == "__main__":
    main()
