"""The kit's server with a known time in queue and in compute per request, and counts of what it received: every figure
has something to be compared with. It fails, is slow, or is hostile, on demand. Of Triton's HTTP protocol; in a thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
import time
from array import array
from asyncio import StreamReader, StreamWriter
from collections.abc import Iterator

from tests.hostile.server import Behaviour, HostileServer, Response
from tests.transport.scripted import serving

QUEUE_SECONDS = 0.004
COMPUTE_SECONDS = 0.012
MODEL = "m"
_FAILED = Response(b'{"error": "on demand"}', 500)


class ModelledServer(HostileServer):
    """`failing` responds 500, `slow` takes three times as long, `hostile` changes every response; `drop` closes all
    connections. `received_at` has the wall clock of each request that it received."""

    def __init__(self) -> None:
        super().__init__(lambda _path, response: response)
        self.failing = self.slow = False
        self.hostile: Behaviour | None = None
        self.received_at = array("d")
        self.responded = self.failed = self.spoilt = 0
        self.port = 0
        self._writers: set[StreamWriter] = set()
        self._loop = asyncio.new_event_loop()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def received(self) -> int:
        return len(self.received_at)

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        started, ended = threading.Event(), asyncio.Event()

        async def serve() -> None:
            async with serving(self._counted) as self.port:
                started.set()
                await ended.wait()

        thread = threading.Thread(target=self._loop.run_until_complete, args=(serve(),), daemon=True)
        thread.start()
        started.wait()
        try:
            yield
        finally:
            self._loop.call_soon_threadsafe(ended.set)
            thread.join()
            self._loop.close()

    def drop(self) -> None:
        """Closes all connections, whatever they are at."""

        def abort() -> None:
            for writer in self._writers:
                writer.transport.abort()

        self._loop.call_soon_threadsafe(abort)

    async def _counted(self, reader: StreamReader, writer: StreamWriter) -> None:
        self._writers.add(writer)
        try:
            await self._http(reader, writer)
        finally:
            self._writers.discard(writer)

    async def respond(self, path: str, honest: Response) -> Response:
        """In its time."""
        response = honest
        if path.endswith("/infer"):
            self.received_at.append(time.time())
            await asyncio.sleep((QUEUE_SECONDS + COMPUTE_SECONDS) * (3 if self.slow else 1))
            if self.failing:
                self.failed += 1
                return _FAILED
            self.responded += 1
        elif path.endswith("/stats"):
            response = Response(json.dumps(self._statistics()).encode())
        if self.hostile is None:
            return response
        self.spoilt += path.endswith("/infer")
        return self.hostile(path, response)

    def _statistics(self) -> object:
        seconds = {
            "queue": QUEUE_SECONDS,
            "compute_input": 0.0,
            "compute_infer": COMPUTE_SECONDS,
            "compute_output": 0.0,
            "success": QUEUE_SECONDS + COMPUTE_SECONDS,
        }
        count = self.responded
        parts = {name: {"count": count, "ns": round(count * each * 1e9)} for name, each in seconds.items()}
        parts["fail"] = {"count": self.failed, "ns": 0}
        model = {"name": MODEL, "version": "1", "inference_count": count, "execution_count": count}
        return {"model_stats": [model | {"inference_stats": parts}]}
