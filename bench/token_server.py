"""A server of OpenAI's chat completions that sends tokens at known moments, and reports afterwards when it sent them.

In a process of its own: `python -m bench.token_server PORT FIRST_MS GAP_MS TOKENS`. GET /sent gives the means of what
it measured itself since the last time, in nanoseconds.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time

_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
_TOKEN = json.dumps({"choices": [{"index": 0, "delta": {"content": "word "}, "finish_reason": None}]}).encode()


def _chunk(data: bytes) -> bytes:
    event = b"data: " + data + b"\n\n"
    return b"%x\r\n%b\r\n" % (len(event), event)


class Sent:
    """What was sent, of all requests together."""

    def __init__(self) -> None:
        self.first_ns: list[int] = []
        self.pace_ns: list[float] = []

    def take(self) -> dict[str, float]:
        """The means since the last time."""
        count = max(1, len(self.first_ns))
        found = {
            "requests": len(self.first_ns),
            "first_ns": sum(self.first_ns) / count,
            "pace_ns": sum(self.pace_ns) / count,
        }
        self.first_ns, self.pace_ns = [], []
        return found


class Connection(asyncio.Protocol):
    """One connection: a request, its stream, the next."""

    def __init__(self, sent: Sent, first_s: float, gap_s: float, tokens: int) -> None:
        self._sent, self._first_s, self._gap_s, self._tokens = sent, first_s, gap_s, tokens
        self._loop = asyncio.get_running_loop()
        self._data = b""
        usage = {"prompt_tokens": 10, "completion_tokens": tokens}
        finish = {"choices": [{"index": 0, "delta": {}, "finish_reason": "length"}]}
        end = [json.dumps(finish).encode(), json.dumps({"choices": [], "usage": usage}).encode(), b"[DONE]"]
        self._end = b"".join(map(_chunk, end)) + b"0\r\n\r\n"
        self._token = _chunk(_TOKEN)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._data += data
        head, separator, body = self._data.partition(b"\r\n\r\n")
        if not separator:
            return
        if head.startswith(b"GET "):
            self._data = b""
            found = json.dumps(self._sent.take() if b" /sent " in head else {}).encode()
            status = b"200 OK" if b" /sent " in head else b"404 x"
            self._transport.write(b"HTTP/1.1 %b\r\nContent-Length: %d\r\n\r\n%b" % (status, len(found), found))
        elif len(body) >= int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0]):
            self._data = b""
            self._received_ns, self._count = time.monotonic_ns(), 0
            self._begin_s = self._loop.time()
            self._transport.write(_HEAD)
            self._loop.call_at(self._begin_s + self._first_s, self._send)

    def _send(self) -> None:
        if self._transport.is_closing():
            return
        now_ns = time.monotonic_ns()
        self._transport.write(self._token)
        if self._count == 0:
            self._first_ns = now_ns
        self._count += 1
        if self._count < self._tokens:
            self._loop.call_at(self._begin_s + self._first_s + self._count * self._gap_s, self._send)
            return
        self._sent.first_ns.append(self._first_ns - self._received_ns)
        self._sent.pace_ns.append((now_ns - self._first_ns) / max(1, self._tokens - 1))
        self._transport.write(self._end)


async def serve(port: int, first_ms: float, gap_ms: float, tokens: int) -> None:
    """Until it is killed."""
    sent = Sent()
    server = await asyncio.get_running_loop().create_server(
        lambda: Connection(sent, first_ms / 1000, gap_ms / 1000, tokens), "127.0.0.1", port, backlog=2048
    )
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4])))
