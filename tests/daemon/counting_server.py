"""A model server over HTTP (Open Inference Protocol) that counts the requests that reach it."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Callable
from types import TracebackType
from typing import Self

_TENSOR = '[{"name":"%s","datatype":"FP32","shape":[4]}]'
_PAGES = {
    "/v2": '{"name":"counting","version":"1","extensions":[]}',
    "/v2/models/m": '{"name":"m","versions":["1"],"platform":"p","inputs":'
    + _TENSOR.replace("%s", "INPUT0")
    + ',"outputs":'
    + _TENSOR.replace("%s", "OUTPUT0")
    + "}",
    "/v2/health/live": '{"live":true}',
    "/v2/health/ready": '{"ready":true}',
    "/v2/models/m/ready": '{"name":"m","ready":true}',
}
_RESPONSE = (
    '{"model_name":"m","model_version":"1","outputs":[{"name":"OUTPUT0","datatype":"FP32","shape":[4],'
    '"data":[0,0,0,0]}]}'
)


class CountingServer:
    """Serves in a thread of its own; each inference takes `delay_s`."""

    def __init__(self, delay_s: float = 0.002) -> None:
        self.requests = 0
        self.senders: Counter[str] = Counter()
        """The requests by the address that they came from."""
        self.host = "127.0.0.1"
        self.port = 0
        self.prepare_thread: Callable[[], None] = lambda: None
        """Called in the thread that serves, before it listens."""
        self._delay_s = delay_s
        self._loop = asyncio.new_event_loop()
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self._started.wait()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def received(self, head: bytes) -> None:
        """An inference request came; for who looks closer."""

    def _run(self) -> None:
        self.prepare_thread()
        server = self._loop.run_until_complete(asyncio.start_server(self._serve, self.host, 0))
        self.port = server.sockets[0].getsockname()[1]
        self._started.set()
        self._loop.run_forever()
        server.close()
        for task in asyncio.all_tasks(self._loop):
            task.cancel()
        self._loop.run_until_complete(asyncio.sleep(0.05))
        self._loop.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                raw = await reader.readuntil(b"\r\n\r\n")
                head = raw.decode().lower()
                length = next((line for line in head.splitlines() if line.startswith("content-length:")), ":0")
                await reader.readexactly(int(length.split(":")[1]))
                path = head.split(" ")[1].rstrip("/")
                if path.endswith("/infer"):
                    self.requests += 1
                    self.senders[writer.get_extra_info("peername")[0]] += 1
                    self.received(raw)
                    await asyncio.sleep(self._delay_s)
                body = _RESPONSE if path.endswith("/infer") else _PAGES.get(path, "{}")
                kind = "application/json"
                writer.write(
                    f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()
                )
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            writer.close()
