"""A server of OpenAI's chat completions that sends tokens at known moments, and reports afterwards when it sent them.

In a process of its own: `python -m bench.token_server PORT OPEN_MS FIRST_MS GAP_MS TOKENS`. A role opens each stream
after OPEN_MS, the first token comes after FIRST_MS, the others every GAP_MS, all counted from the moment at which the
kernel had the request's last byte: a pause of this server before it reads is in its own figures, too.
`GET /sent?from=S&to=S` gives what it measured of the requests that ended between those two unix times.

One thread, and no event loop: all streams have the same gaps, so that what is due next is always at the head of a
queue. A token costs it one `send`.
"""

from __future__ import annotations

import json
import selectors
import socket
import statistics
import struct
import sys
import time
from collections import deque
from collections.abc import Sequence
from urllib.parse import parse_qs, urlsplit

_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
_MS = 1_000_000
_SO_TIMESTAMPNS = 35
"""Linux; the socket module lacks its name."""
_EXTRA_BYTES = 64
_NAP_NS = 50_000
"""How long the server sleeps at most when less than a millisecond is left: epoll counts in whole ones."""


def _chunk(value: object) -> bytes:
    event = b"data: " + (value if isinstance(value, bytes) else json.dumps(value).encode()) + b"\n\n"
    return b"%x\r\n%b\r\n" % (len(event), event)


def _delta(finish: str | None = None, **content: str) -> bytes:
    return _chunk({"choices": [{"index": 0, "delta": content, "finish_reason": finish}]})


class Stream:
    """One connection, and the stream that is under way on it. Its request arrived at `received_ns` and was read at
    `read_ns`; `sent_ns` are when it opened and when tokens went."""

    __slots__ = ("data", "read_ns", "received_ns", "sent_ns", "socket")

    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection
        self.data = b""
        self.received_ns = 0
        self.read_ns = 0
        self.sent_ns: list[int] = []


class Server:
    """Serves until it is killed."""

    def __init__(self, port: int, open_ms: float, first_ms: float, gap_ms: float, tokens: int) -> None:
        self._open_ns, self._first_ns, self._gap_ns = round(open_ms * _MS), round(first_ms * _MS), round(gap_ms * _MS)
        self._tokens = tokens
        usage = {"prompt_tokens": 10, "completion_tokens": tokens}
        self._role, self._token = _HEAD + _delta(role="assistant", content=""), _delta(content="word ")
        self._end = _delta("length") + _chunk({"choices": [], "usage": usage}) + _chunk(b"[DONE]") + b"0\r\n\r\n"
        # In each queue all wait equally long: the order of coming is that of being due.
        self._opening: deque[tuple[int, Stream]] = deque()
        self._first: deque[tuple[int, Stream]] = deque()
        self._next: deque[tuple[int, Stream]] = deque()
        self._ended: list[tuple[float, Stream]] = []
        self._selector = selectors.EpollSelector()
        self._listener = socket.create_server(("127.0.0.1", port), backlog=2048)
        self._listener.setblocking(False)
        self._selector.register(self._listener, selectors.EVENT_READ)

    def serve(self) -> None:
        """For ever."""
        while True:
            queues = [queue[0][0] for queue in (self._opening, self._first, self._next) if queue]
            wait_ns = max(min(queues) - time.monotonic_ns(), 0) if queues else 10 * _MS
            ready = self._selector.select(wait_ns // _MS / 1000)
            for key, _ in ready:
                if key.data is None:
                    self._accept()
                else:
                    self._read(key.data)
            if not ready and 0 < wait_ns < _MS:
                time.sleep(min(wait_ns, _NAP_NS) / 1e9)
            self._send_due()

    def _accept(self) -> None:
        connection, _ = self._listener.accept()
        connection.setblocking(False)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        self._selector.register(connection, selectors.EVENT_READ, Stream(connection))

    def _read(self, stream: Stream) -> None:
        try:
            data, extra, _, _ = stream.socket.recvmsg(65_536, _EXTRA_BYTES)
        except OSError:
            data, extra = b"", []
        read_ns = time.monotonic_ns()
        if not data:
            self._selector.unregister(stream.socket)
            stream.socket.close()
            return
        stream.data += data
        head, separator, body = stream.data.partition(b"\r\n\r\n")
        if not separator:
            return
        if head.startswith(b"GET "):
            stream.data = b""
            self._respond(stream, head.split(b" ")[1].decode())
        elif len(body) >= int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0]):
            # A stream's figures are kept with it, so the next request on this connection is a stream of its own.
            fresh = Stream(stream.socket)
            self._selector.modify(stream.socket, selectors.EVENT_READ, fresh)
            fresh.read_ns, fresh.received_ns = read_ns, arrived_ns(extra, read_ns)
            self._opening.append((fresh.received_ns + self._open_ns, fresh))

    def _respond(self, stream: Stream, path: str) -> None:
        asked = parse_qs(urlsplit(path).query)
        found = path.startswith("/sent")
        begin, end = (float(asked.get(key, [default])[0]) for key, default in (("from", "0"), ("to", "inf")))
        chosen = [each for ended, each in self._ended if begin <= ended <= end]
        text = json.dumps(figures(chosen) if found else {}).encode()
        status = b"200 OK" if found else b"404 x"
        stream.socket.setblocking(True)
        stream.socket.sendall(b"HTTP/1.1 %b\r\nContent-Length: %d\r\n\r\n%b" % (status, len(text), text))
        stream.socket.setblocking(False)

    def _send_due(self) -> None:
        now_ns = time.monotonic_ns()
        for queue, data in ((self._opening, self._role), (self._first, self._token), (self._next, self._token)):
            while queue and queue[0][0] <= now_ns:
                due_ns, stream = queue.popleft()
                self._send(stream, data, due_ns)
                now_ns = time.monotonic_ns()

    def _send(self, stream: Stream, data: bytes, due_ns: int) -> None:
        stream.sent_ns.append(time.monotonic_ns())
        sent = len(stream.sent_ns)
        try:
            stream.socket.send(data)
            if sent > self._tokens:
                stream.socket.send(self._end)
        except OSError:  # the client has gone
            return
        if sent == 1:
            self._first.append((stream.received_ns + self._first_ns, stream))
        elif sent <= self._tokens:
            self._next.append((due_ns + self._gap_ns, stream))
        else:
            self._ended.append((time.time(), stream))


def arrived_ns(extra: Sequence[tuple[int, int, bytes]], read_ns: int) -> int:
    """When the kernel had what was read, by its own stamp, as `time.monotonic_ns` counts."""
    for _, kind, data in extra:
        if kind == _SO_TIMESTAMPNS:
            seconds, ns = map(int, struct.unpack("qq", data))
            return seconds * 10**9 + ns - time.time_ns() + time.monotonic_ns()
    return read_ns


def figures(streams: Sequence[Stream]) -> dict[str, float]:
    """What was sent, in nanoseconds from the moment that a request arrived. `late_ns` is the longest that one waited
    to be read: a pause of this server, which its figures have as its clients' have it."""
    if not streams:
        return {"requests": 0}
    opened = sorted(stream.sent_ns[0] - stream.received_ns for stream in streams)
    first = sorted(stream.sent_ns[1] - stream.received_ns for stream in streams)
    gaps = sorted(b - a for each in streams for a, b in zip(each.sent_ns[1:], each.sent_ns[2:], strict=False))
    paces = [(each.sent_ns[-1] - each.sent_ns[1]) / max(1, len(each.sent_ns) - 2) for each in streams]
    return {
        "requests": len(streams),
        "late_ns": max(stream.read_ns - stream.received_ns for stream in streams),
        "open_ns": statistics.mean(opened),
        "open_p50_ns": opened[len(opened) // 2],
        "first_ns": statistics.mean(first),
        "first_p50_ns": first[len(first) // 2],
        "first_p99_ns": first[len(first) * 99 // 100],
        "pace_ns": statistics.mean(paces),
        "gap_p50_ns": gaps[len(gaps) // 2] if gaps else 0,
        "gap_p99_ns": gaps[len(gaps) * 99 // 100] if gaps else 0,
    }


if __name__ == "__main__":
    port, open_ms, first_ms, gap_ms, tokens = sys.argv[1:]
    Server(int(port), float(open_ms), float(first_ms), float(gap_ms), int(tokens)).serve()
