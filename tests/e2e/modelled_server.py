"""A server of Triton's HTTP protocol that does exactly what it is asked to: a known time in queue and in compute per
request, and errors on demand. It counts what it receives, so that every figure has something to be compared with.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

QUEUE_SECONDS = 0.004
COMPUTE_SECONDS = 0.012
MODEL = "modelled"
_TENSOR = {"name": "INPUT0", "datatype": "FP32", "shape": [4]}
_RESPONSE = {"model_name": MODEL, "model_version": "1", "outputs": [_TENSOR | {"name": "OUTPUT0", "data": [0.0] * 4}]}


class ModelledServer(ThreadingHTTPServer):
    """`failing` responds 500, `slow` takes three times as long; `drop` closes all connections."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.failing = False
        self.slow = False
        self.received = 0
        self.responded = 0
        self.failed = 0
        self.lock = threading.Lock()
        self.connections: set[Any] = set()

    @contextmanager
    def running(self) -> Iterator[None]:
        thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield
        finally:
            self.shutdown()
            self.drop()
            thread.join()
            self.server_close()

    def drop(self) -> None:
        """Closes all connections, whatever they are at."""
        with self.lock:
            connections = list(self.connections)
        for connection in connections:
            try:
                connection.shutdown(2)
            except OSError:
                continue

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that is killed is no error."""

    def statistics(self) -> dict[str, Any]:
        with self.lock:
            count, failed = self.responded, self.failed
        nanoseconds = {
            "queue": QUEUE_SECONDS,
            "compute_infer": COMPUTE_SECONDS,
            "compute_input": 0,
            "compute_output": 0,
        }
        parts = {name: {"count": count, "ns": round(count * seconds * 1e9)} for name, seconds in nanoseconds.items()}
        parts["success"] = {"count": count, "ns": round(count * (QUEUE_SECONDS + COMPUTE_SECONDS) * 1e9)}
        parts["fail"] = {"count": failed, "ns": 0}
        model = {
            "name": MODEL,
            "version": "1",
            "last_inference": int(time.time() * 1000),
            "inference_count": count,
            "execution_count": count,
            "inference_stats": parts | {"cache_hit": {"count": 0, "ns": 0}, "cache_miss": {"count": 0, "ns": 0}},
            "batch_stats": [],
        }
        return {"model_stats": [model]}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: ModelledServer

    def setup(self) -> None:
        super().setup()
        with self.server.lock:
            self.server.connections.add(self.connection)

    def finish(self) -> None:
        with self.server.lock:
            self.server.connections.discard(self.connection)
        super().finish()

    def do_GET(self) -> None:
        path = self.path.partition("?")[0].removeprefix("/v2").removeprefix(f"/models/{MODEL}")
        path = path.removeprefix("/versions/1")
        if path.endswith(("/live", "/ready")):
            self._send(200, {})
        elif path == "/stats":
            self._send(200, self.server.statistics())
        elif path == "/config":
            inputs = [{"name": "INPUT0", "data_type": "TYPE_FP32", "dims": [4]}]
            outputs = [{"name": "OUTPUT0", "data_type": "TYPE_FP32", "dims": [4]}]
            self._send(200, {"name": MODEL, "max_batch_size": 0, "input": inputs, "output": outputs})
        elif self.path.endswith(MODEL) or "/versions/" in self.path:
            outputs = [_TENSOR | {"name": "OUTPUT0"}]
            self._send(
                200, {"name": MODEL, "versions": ["1"], "platform": "p", "inputs": [_TENSOR], "outputs": outputs}
            )
        else:
            self._send(200, {"name": "triton", "version": "2.51.0", "extensions": ["statistics", "binary_tensor_data"]})

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        server = self.server
        with server.lock:
            server.received += 1
        time.sleep((QUEUE_SECONDS + COMPUTE_SECONDS) * (3 if server.slow else 1))
        failing = server.failing
        with server.lock:
            server.failed += failing
            server.responded += not failing
        self._send(500 if failing else 200, {"error": "on demand"} if failing else _RESPONSE)

    def _send(self, status: int, content: Any) -> None:
        body = json.dumps(content).encode()
        self.send_response_only(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: Any) -> None:
        pass
