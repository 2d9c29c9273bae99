"""A scripted server of OpenAI's HTTP API: what it sends, and when, is the test's."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.transport.scripted import Script

STREAM_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
HANG_UP = b""
"""In place of bytes: the connection is closed."""


def event(value: Any) -> bytes:
    """A server-sent event with this JSON."""
    return b"data: " + json.dumps(value).encode() + b"\n\n"


def delta(finish: str | None = None, **content: Any) -> bytes:
    return event({"choices": [{"index": 0, "delta": content, "finish_reason": finish}]})


def usage(prompt: int, output: int, cached: int | None = None) -> bytes:
    counts: dict[str, Any] = {"prompt_tokens": prompt, "completion_tokens": output}
    if cached is not None:
        counts["prompt_tokens_details"] = {"cached_tokens": cached}
    return event({"choices": [], "usage": counts})


ROLE = delta(role="assistant", content="")
DONE = b"data: [DONE]\n\n"
END = [delta("length"), usage(10, 3, 2), DONE]

Timed = Sequence[bytes | float]
"""What is sent, in order; a number is a pause in seconds."""


@dataclass
class TokenServer:
    """Responses POSTs by `respond` (their number and JSON); each response is a stream, or bytes as they are with `raw`.
    GETs are served by `pages`. `requests` are the heads and bodies that came."""

    respond: Callable[[int, dict[str, Any]], Timed]
    raw: bool = False
    pages: dict[str, tuple[int, str]] = field(default_factory=dict)
    requests: list[tuple[bytes, bytes]] = field(default_factory=list)
    closes: bool = False

    @property
    def script(self) -> Script:
        async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                if head.startswith(b"GET "):
                    status, body = self.pages.get(head.split(b" ")[1].decode(), (404, ""))
                    writer.write(f"HTTP/1.1 {status} x\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())
                    continue
                length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
                body_bytes = await reader.readexactly(length)
                self.requests.append((head, body_bytes))
                await self._response(writer, self.respond(len(self.requests) - 1, json.loads(body_bytes)))
                if self.closes or writer.is_closing():
                    return

        return script

    async def _response(self, writer: asyncio.StreamWriter, parts: Timed) -> None:
        if not self.raw:
            writer.write(STREAM_HEAD)
        for part in parts:
            if isinstance(part, float):
                await asyncio.sleep(part)
            elif part == HANG_UP:
                writer.close()
                return
            else:
                writer.write(part if self.raw else b"%x\r\n%b\r\n" % (len(part), part))
        if not self.raw:
            writer.write(b"0\r\n\r\n")
