"""What is an inference and what only has the status of one: each class of body, by every kind that judges them."""

from __future__ import annotations

import asyncio
import gzip
from typing import Any

import pytest
from tritonclient.grpc import service_pb2

from exporter.core.outcome import Outcome
from exporter.services import SERVICES
from exporter.transport.call import Call, EncodedRequest
from exporter.wire.grpc_messages import frame_message
from exporter.wire.http1 import Http1Client
from exporter.wire.http2_frames import DATA, END_HEADERS, HEADERS, frame
from tests.builders import make_target
from tests.transport import grpc_peers
from tests.transport.scripted import REQUEST, Ended, always, serving
from tests.wire.http2_peers import RESPONSE_HEAD

KINDS = ["triton", "oip", "tfserving"]
INFERENCE = b'{"model_name":"m","outputs":[{"name":"O","datatype":"FP32","shape":[1],"data":[1]}]}'
PAGE = b"<!DOCTYPE html>\n<html><head><title>Corp</title><style>p {}</style></head><body>Please sign in</body></html>"
WEB_PAGE = (
    "the response is a web page (Corp Please sign in), not JSON, as of a proxy's login or of another service: check the"
    " target's url"
)
EMPTY = "the response is an empty body, with status 200"
UPSTREAM = "an error in a response of status 200: upstream timed out"


def http(body: bytes, status: int = 200, *, headers: str = "", cut: int = 0) -> bytes:
    """A response, with `cut` in chunks of this size."""
    if not cut:
        framing, content = f"Content-Length: {len(body)}", body
    else:
        pieces = [body[at : at + cut] for at in range(0, len(body), cut)]
        framing = "Transfer-Encoding: chunked"
        content = b"".join(b"%x;e=1\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"
    if status == 204:
        framing = "X-A: b"
    return f"HTTP/1.1 {status} X\r\n{headers}{framing}\r\n\r\n".encode() + content


GZIP = "Content-Encoding: gzip\r\n"
NONE = {
    "web page": (http(PAGE), WEB_PAGE),
    "web page in chunks": (http(PAGE, cut=7), WEB_PAGE),
    "web page, compressed": (http(gzip.compress(PAGE), headers=GZIP), WEB_PAGE),
    "web page without text": (http(b"<html></html>"), WEB_PAGE.replace(" (Corp Please sign in)", "")),
    "error": (http(b'{"error":"upstream timed out"}'), UPSTREAM),
    "error, spread out": (http(b'\n{\n    "error" : "upstream\\u001b timed out"\n}'), UPSTREAM),
    "error in chunks": (http(b'{"error":"upstream timed out"}', cut=3), UPSTREAM),
    "error, compressed": (http(gzip.compress(b'{"error":"upstream timed out"}'), headers=GZIP), UPSTREAM),
    "error, nested": (http(b'{"error":{"message":"upstream timed out"}}'), UPSTREAM),
    "error, cut off": (http(b'{"error":"oh'), 'an error in a response of status 200: {"error":"oh'),
    "nothing": (http(b""), EMPTY),
    "nothing in chunks": (http(b"", cut=1), EMPTY),
    "blank": (http(b" \r\n"), EMPTY),
    "text": (http(b"OK"), "the response is not JSON: 'OK'"),
    "array": (http(b"[1]"), "the response is not JSON: '[1]'"),
    "204": (http(b"", 204), "the response has status 204, and an inference has 200"),
    "201": (http(INFERENCE, 201), "the response has status 201, and an inference has 200"),
}
"""By class: the response and the reported text."""
INFERENCES = {
    "plain": http(INFERENCE),
    "in chunks": http(INFERENCE, cut=1),
    "compressed": http(gzip.compress(INFERENCE), headers=GZIP),
    "of a coding we can't read": http(b"\x0b\x02\x80", headers="Content-Encoding: br\r\n"),
    "id first": http(b'{"id":"1","model_name":"m","outputs":[]}'),
    "TensorFlow Serving": http(b'{\n    "outputs": [\n        1.0\n    ]\n}'),
    "another order": http(b' { "parameters": {}, "outputs": []}'),
    "no error": http(b'{"error": null, "outputs": []}'),
    "errors as a name": http(b'{"errors_seen": 1, "outputs": []}'),
    "binary": http(INFERENCE + bytes(300), headers=f"Inference-Header-Content-Length: {len(INFERENCE)}\r\n"),
    "large": http(INFERENCE + bytes(300_000), headers=f"Inference-Header-Content-Length: {len(INFERENCE)}\r\n"),
    "after an interim response": b"HTTP/1.1 100 Continue\r\n\r\n" + http(INFERENCE),
}


async def outcomes(response: bytes, kind: str, count: int = 3, *, keep: bool = False) -> set[tuple[Outcome, str]]:
    """Of requests on one connection: from the second one on the head is known."""
    ended = Ended()
    async with serving(always(response)) as port:
        channel = SERVICES[kind]().channel(make_target(kind=kind, port=port), ended, keep_responses=keep)
        for number in range(count):
            channel.send(Call(0), REQUEST)
            await ended.wait(number + 1)
        await channel.close()
    return set(ended.calls)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("keep", [False, True], ids=["forgotten", "kept"])
@pytest.mark.parametrize(("response", "text"), NONE.values(), ids=NONE)
async def test_no_inference(response: bytes, text: str, keep: bool, kind: str) -> None:
    assert await outcomes(response, kind, keep=keep) == {(Outcome.PROTOCOL_ERROR, text)}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("response", INFERENCES.values(), ids=INFERENCES)
async def test_an_inference(response: bytes, kind: str) -> None:
    assert await outcomes(response, kind) == {(Outcome.OK, "")}


async def test_torchserve_takes_any_body() -> None:
    for body in (b"", PAGE, b"OK"):
        assert await outcomes(http(body), "torchserve") == {(Outcome.OK, "")}


async def test_each_response_is_judged_for_itself() -> None:
    """The same head and length as the inference before it: the head is not parsed again, and the body looked at."""
    error = b'{"error":"oh"}'.ljust(len(INFERENCE))
    responses = [http(INFERENCE), http(INFERENCE), http(error), http(INFERENCE)]
    ended = Ended()

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for response in responses:
            await always(response, close=True)(reader, writer)

    async with serving(script) as port:
        channel = SERVICES["triton"]().channel(make_target(port=port), ended)
        for number in range(len(responses)):
            channel.send(Call(0), REQUEST)
            await ended.wait(number + 1)
        await channel.close()
    assert [outcome.label for outcome, _ in ended.calls] == ["ok", "ok", "protocol_error", "ok"]


@pytest.mark.parametrize("response", INFERENCES.values(), ids=INFERENCES)
def test_the_body_s_beginning_is_the_same_however_it_was_cut(response: bytes) -> None:
    head = response.rfind(b"\r\n\r\n", 0, response.find(b"{") + 1 or None) + 4
    begins = response[head : head + 1] == b"{"
    for cut in (1, 40, len(response)):
        client = Http1Client()
        for _ in range(2):
            client.begin()
            step = max(cut, len(response) // 50)
            ends = [client.receive(response[at : at + step]) for at in range(0, len(response), step)]
            assert ends[-1]
            assert client.body_begins((b"{",)) == begins


def grpc_target(kind: str, port: int) -> Any:
    return make_target(kind=kind, scheme="grpc", port=port)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("keep", [False, True], ids=["forgotten", "kept"])
async def test_an_empty_message_is_no_inference(kind: str, keep: bool) -> None:
    ended = Ended()
    contents = iter([b"\x0a\x01m", b"", b"\x0a\x01m"])
    script = grpc_peers.Script(lambda _, stream: grpc_peers.response(stream, next(contents)))
    async with serving(script.serve) as port:
        channel = SERVICES[kind]().channel(grpc_target(kind, port), ended, keep_responses=keep)
        for number in range(3):
            channel.send(Call(0), grpc_peers.REQUEST)
            await ended.wait(number + 1)
        await channel.close()
    empty = (Outcome.PROTOCOL_ERROR, "the response is an empty message")
    assert ended.calls == [(Outcome.OK, ""), empty, (Outcome.OK, "")]


async def test_an_empty_message_of_a_stream() -> None:
    """An empty final response of a decoupled model has parameters, and is one."""
    final = service_pb2.ModelStreamInferResponse()
    final.infer_response.parameters["triton_final_response"].bool_param = True
    messages = iter([final.SerializeToString(), b"", final.SerializeToString()])
    opened: set[int] = set()

    def reply(_connection: int, stream: int) -> bytes:
        head = b"" if stream in opened else frame(HEADERS, END_HEADERS, stream, RESPONSE_HEAD)
        opened.add(stream)
        return head + frame(DATA, 0, stream, frame_message(next(messages)))

    ended = Ended()
    script = grpc_peers.Script(reply, streams=True)
    async with serving(script.serve) as port:
        channel = SERVICES["triton"]().channel(grpc_target("triton", port), ended, streaming=True)
        for number in range(3):
            channel.send(Call(0), EncodedRequest(b"", frame_message(b"question")))
            await ended.wait(number + 1)
        await channel.close()
    empty = (Outcome.PROTOCOL_ERROR, "the response is an empty message")
    assert ended.calls == [(Outcome.OK, ""), empty, (Outcome.OK, "")]
