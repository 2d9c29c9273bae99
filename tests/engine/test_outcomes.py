"""The engine, the channels and a server that misbehaves: each error comes out under its own name, and none of them ends
a level by itself."""

from __future__ import annotations

import asyncio
import concurrent.futures
import itertools
from asyncio import StreamReader as Reader
from asyncio import StreamWriter as Writer
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import grpc
import pytest

from exporter.core.facts import ModelFacts
from exporter.core.outcome import Outcome, Reason
from exporter.core.probe import LoadLevel, Probe
from exporter.core.target import Target, TlsOptions
from exporter.core.units import MS, NS
from exporter.core.window import LevelEnd, Window
from exporter.engine.plan import LevelPlan
from exporter.services.base import Control, Tensors
from exporter.services.channel_factory import make_channel
from exporter.services.without_extensions import PlainService
from exporter.sweep.level_run import LevelRun
from exporter.transport.call import Channel, EncodedRequest, Listener, Response
from exporter.wire.grpc_messages import frame_message
from exporter.wire.http2_frames import DATA, RST_STREAM, frame
from tests.builders import concurrency, make_facts, make_target
from tests.engine.fakes import FakeService, make_plan, request_rate
from tests.engine.levels import events_of
from tests.transport import grpc_peers
from tests.transport.certificates import Certificates
from tests.transport.scripted import OK as OK_RESPONSE
from tests.transport.scripted import REQUEST, Script, read_request, reset, serving
from tests.waiting import patient

OK = Outcome.OK
REQUESTS = 9
"""Of a level in which every other one is to fail."""

GRPC_REQUEST = EncodedRequest(b"", frame_message(b"question"))


class Endpoints(PlainService):
    """A service without a control plane: the real channels, and one request that means nothing."""

    def control(self, target: Target, timeout_ns: int) -> Control:
        return FakeService().control(target, timeout_ns)

    def encode(self, probe: Probe, facts: ModelFacts, steps: Sequence[Tensors], sweep_id: str) -> list[EncodedRequest]:
        raise NotImplementedError

    def channel(
        self, target: Target, listener: Listener, *, streaming: bool = False, keep_responses: bool = False
    ) -> Channel:
        return make_channel(target, listener)

    def decode_response(self, facts: ModelFacts, response: Response) -> list[Tensors]:
        raise AssertionError


def plan_for(target: Target, level: LoadLevel, **changes: Any) -> LevelPlan:
    plan = make_plan(level, max_error_ratio=1.0, **changes)
    return LevelPlan(
        "sweep",
        Probe(
            "p",
            target,
            "m",
            "",
            plan.probe.schedule,
            (level,),
            measurement=plan.probe.measurement,
            stop=plan.probe.stop,
        ),
        make_facts(),
        level,
        plan.max_requests,
        plan.max_duration_ns,
    )


async def run(plan: LevelPlan, windows: int = 1000) -> tuple[list[Window], LevelEnd]:
    requests = [GRPC_REQUEST if plan.probe.target.is_grpc else REQUEST]
    events = await events_of(plan, Endpoints(), requests, stop_at=windows)
    end = events[-1]
    assert isinstance(end, LevelEnd)
    return [event for event in events if isinstance(event, Window)], end


async def outcomes_of(target: Target, **changes: Any) -> tuple[dict[Outcome, int], set[str]]:
    """What became of a level's requests, one at a time, and what was reported about those that failed. The level always
    ends because its requests are spent."""
    changes = {"window_ms": 10, "max_requests": REQUESTS} | changes
    windows, end = await run(plan_for(target, concurrency(1), **changes))
    assert (end.reason, end.sent) == (Reason.REQUEST_BUDGET, REQUESTS)
    counts = Counter(Outcome(code) for window in windows for code in window.columns.outcome.tolist())
    assert sum(counts.values()) == REQUESTS
    return dict(counts), {window.error_text for window in windows if window.error_text}


def every_other(problem: Callable[[Writer], bool]) -> Script:
    """Responds to one request and does this to the next, over all connections; the connection stays if it reports
    it."""
    numbers = itertools.count()

    async def script(reader: Reader, writer: Writer) -> None:
        connected = True
        while connected:
            await read_request(reader)
            if next(numbers) % 2 == 0:
                writer.write(OK_RESPONSE)
            else:
                connected = problem(writer)
            await writer.drain()

    return script


def response(status: str, headers: str = "") -> Callable[[Writer], bool]:
    def problem(writer: Writer) -> bool:
        writer.write(f"HTTP/1.1 {status}\r\n{headers}Content-Length: 0\r\n\r\n".encode())
        return True

    return problem


def cut_in_body(writer: Writer) -> bool:
    writer.write(OK_RESPONSE[:-1])
    return False


def reset_unanswered(writer: Writer) -> bool:
    reset(writer)
    return False


def garbage(writer: Writer) -> bool:
    writer.write(b"\x16\x03 this is not HTTP\r\n\r\n")
    return True


def silence(writer: Writer) -> bool:
    return True


@pytest.mark.parametrize(
    ("problem", "outcome", "text"),
    [
        (response("400 Bad Request"), Outcome.CLIENT_ERROR, "client_error: HTTP 400"),
        (response("401 Unauthorized"), Outcome.AUTH_ERROR, "auth_error: HTTP 401"),
        (response("500 Oh"), Outcome.SERVER_ERROR, "server_error: HTTP 500"),
        (response("503 Busy", "Retry-After: 0\r\n"), Outcome.OVERLOAD, "overload: HTTP 503"),
        (cut_in_body, Outcome.PROTOCOL_ERROR, "protocol_error: closed in the middle of the response's body"),
        (reset_unanswered, Outcome.CONNECT_ERROR, "connect_error: connection lost: connection reset by peer"),
        (garbage, Outcome.PROTOCOL_ERROR, "protocol_error: not an HTTP response"),
        (silence, Outcome.TIMEOUT, "timeout: no response within 0.05 s"),
    ],
)
async def test_http(problem: Callable[[Writer], bool], outcome: Outcome, text: str) -> None:
    async with serving(every_other(problem)) as port:
        counts, texts = await outcomes_of(
            make_target(port=port), timeout_ms=50 if problem is silence else round(patient(50))
        )
    assert counts == {OK: 5, outcome: 4}
    assert {reported[: len(text)] for reported in texts} == {text}


async def test_reset_in_mid_body() -> None:
    """The reset must not overtake the bytes before it, so the script waits until they have been read."""
    numbers = itertools.count()

    async def script(reader: Reader, writer: Writer) -> None:
        while True:
            await read_request(reader)
            if next(numbers) % 2:
                writer.write(OK_RESPONSE[:-1])
                await asyncio.sleep(0.01)
                reset(writer)
                return
            writer.write(OK_RESPONSE)

    async with serving(script) as port:
        counts, texts = await outcomes_of(make_target(port=port))
    assert counts == {OK: 5, Outcome.PROTOCOL_ERROR: 4}
    assert texts == {"protocol_error: connection lost: connection reset by peer"}


async def test_refused() -> None:
    """A server that goes away in mid-level."""

    async def script(reader: Reader, writer: Writer) -> None:
        for _ in range(4):
            await read_request(reader)
            writer.write(OK_RESPONSE)
        await read_request(reader)
        server.close()
        writer.close()

    server = await asyncio.start_server(script, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    counts, texts = await outcomes_of(make_target(port=port))
    assert counts == {OK: 4, Outcome.CONNECT_ERROR: 5}
    assert f"connect_error: cannot connect to 127.0.0.1:{port}: connection refused" in texts


async def test_tls_failure(certificates: Certificates) -> None:
    """A server whose certificate is replaced by one that we don't believe."""
    context = certificates.server_context()

    async def script(reader: Reader, writer: Writer) -> None:
        await read_request(reader)
        writer.write(OK_RESPONSE)
        context.load_cert_chain(certificates.other_ca, certificates.other_ca.with_suffix(".key"))

    async with serving(script, context) as port:
        tls = TlsOptions(ca_file=str(certificates.ca))
        # The server closes after each response: each request has a handshake of its own.
        counts, texts = await outcomes_of(make_target(scheme="https", port=port, tls=tls))
    assert counts == {OK: 1, Outcome.TLS_ERROR: 8}
    assert all("certificate" in text for text in texts)


@contextmanager
def grpcio_server(codes: Iterator[grpc.StatusCode]) -> Iterator[int]:
    """grpcio itself, which responds each inference with the next of these codes."""

    def infer(request: bytes, context: grpc.ServicerContext) -> bytes:
        code = next(codes)
        if code is not grpc.StatusCode.OK:
            context.abort(code, "as was asked")
        return b""

    handler = grpc.method_handlers_generic_handler(
        "inference.GRPCInferenceService", {"ModelInfer": grpc.unary_unary_rpc_method_handler(infer)}
    )
    with concurrent.futures.ThreadPoolExecutor(1) as threads:
        server = grpc.server(threads, handlers=[handler])
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        try:
            yield port
        finally:
            server.stop(0).wait()


@pytest.mark.parametrize(
    ("code", "outcome"),
    [
        (grpc.StatusCode.UNAVAILABLE, Outcome.OVERLOAD),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, Outcome.OVERLOAD),
        (grpc.StatusCode.INVALID_ARGUMENT, Outcome.CLIENT_ERROR),
        (grpc.StatusCode.UNAUTHENTICATED, Outcome.AUTH_ERROR),
        (grpc.StatusCode.INTERNAL, Outcome.SERVER_ERROR),
        (grpc.StatusCode.DEADLINE_EXCEEDED, Outcome.TIMEOUT),
    ],
)
async def test_grpc_statuses(code: grpc.StatusCode, outcome: Outcome) -> None:
    with grpcio_server(itertools.cycle([grpc.StatusCode.OK, code])) as port:
        counts, texts = await outcomes_of(make_target(scheme="grpc", port=port))
    assert counts == {OK: 5, outcome: 4}
    assert texts == {f"{outcome.label}: {code.name}: as was asked"}


def rst_stream(stream: int, code: int) -> bytes:
    return frame(RST_STREAM, 0, stream, code.to_bytes(4, "big"))


@pytest.mark.parametrize(
    ("problem", "outcome", "text"),
    [
        (lambda s: rst_stream(s, 8), Outcome.PROTOCOL_ERROR, "RST_STREAM CANCEL"),
        (lambda s: rst_stream(s, 7), Outcome.OVERLOAD, "refused: RST_STREAM REFUSED_STREAM"),
        (lambda s: grpc_peers.goaway(0, 11), Outcome.OVERLOAD, "refused: GOAWAY ENHANCE_YOUR_CALM"),
        (lambda s: frame(DATA, 0, s, b"?"), Outcome.PROTOCOL_ERROR, ""),
        (lambda s: None, Outcome.CONNECT_ERROR, "connection lost: closed by the peer"),
        (lambda s: b"", Outcome.TIMEOUT, "no response within 0.1 s"),
    ],
)
async def test_http2_errors(problem: Callable[[int], bytes | None], outcome: Outcome, text: str) -> None:
    numbers = itertools.count()
    script = grpc_peers.Script(lambda _, s: problem(s) if next(numbers) % 2 else grpc_peers.response(s))
    async with serving(script.serve) as port:
        counts, texts = await outcomes_of(make_target(scheme="grpc", port=port), timeout_ms=100)
    assert counts == {OK: 5, outcome: 4}
    assert all(reported.startswith(f"{outcome.label}: {text}") for reported in texts)


async def test_a_graceful_goaway_costs_no_request() -> None:
    """The server responds, and takes no more on this connection."""
    script = grpc_peers.Script(lambda _, s: grpc_peers.response(s) + grpc_peers.goaway(s))
    async with serving(script.serve) as port:
        counts, _ = await outcomes_of(make_target(scheme="grpc", port=port))
    assert counts == {OK: REQUESTS}
    assert script.connections == REQUESTS


async def test_a_server_that_stalls() -> None:
    """100 requests a second to a server that sends no response for half a second: none is lost or held back, and both
    percentiles report it."""
    stall_s, numbers = 0.5, itertools.count()
    awake = asyncio.Event()
    awake.set()

    async def script(reader: Reader, writer: Writer) -> None:
        while True:
            await read_request(reader)
            if next(numbers) == 10:
                awake.clear()
                asyncio.get_running_loop().call_later(stall_s, awake.set)
            await awake.wait()
            writer.write(OK_RESPONSE)

    async with serving(script) as port:
        plan = plan_for(make_target(port=port), request_rate(100), window_ms=1200)
        windows, end = await run(plan, windows=1)
    assert end.sent == sum(len(window.columns) for window in windows)
    level = LevelRun(plan.probe, plan.facts, plan.level)
    level.add(windows[1], 0.0)
    measurement = level.measurement(Reason.NONE, "")
    assert measurement is not None
    assert measurement.outcomes.keys() == {OK}
    assert measurement.unsent_ratio == 0
    assert measurement.offered == pytest.approx(100, rel=0.1)
    assert measurement.response_time is not None
    assert measurement.latency is not None
    assert measurement.send_lag is not None
    for summary in (measurement.response_time, measurement.latency):
        assert summary.at(99.0) == pytest.approx(stall_s * NS, rel=0.2)
    assert measurement.send_lag.at(50.0) < 20 * MS
