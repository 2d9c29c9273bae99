"""A scripted Kubernetes API server with one Lease: versions, conflicts, and whatever the test makes it do."""

from __future__ import annotations

import contextlib
import json
import ssl
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Self

from exporter.standby.kubernetes_lease import ApiServer
from tests.waiting import PATIENCE_SECONDS

TOKEN = "of-the-service-account"


class ScriptedApi:
    """`reply`, if it is set, is sent in the place of the real response: status and body. It knows `tokens`; those in
    `cut_off` get no response. With `may_create` false a Role without that right is its clients'."""

    def __init__(self, folder: Path, tls: ssl.SSLContext | None = None) -> None:
        self.tokens = {TOKEN}
        self.cut_off: set[str] = set()
        self.may_create = True
        self._closing = threading.Event()
        self.lease: dict[str, Any] | None = None
        self.version = 0
        self.requests: list[tuple[str, str, Any]] = []
        self.reply: tuple[int, bytes] | None = None
        self.delay_s = 0.0
        self._lock = threading.Lock()
        handler = type("Handler", (_Handler,), {"api": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self.token_file = folder / "token"
        self.token_file.write_text(f"{TOKEN}\n")

    @property
    def port(self) -> int:
        return self._server.server_port

    @property
    def server(self) -> ApiServer:
        return ApiServer(f"http://127.0.0.1:{self._server.server_port}", self.token_file, Path())

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def respond(self, method: str, path: str, authorization: str, body: Any) -> tuple[int, bytes]:
        """As the real one, for one Lease."""
        token = authorization.removeprefix("Bearer ")
        if token in self.cut_off:
            self._closing.wait(PATIENCE_SECONDS)
        with self._lock:
            self.requests.append((method, path, body))
            if self.reply is not None:
                return self.reply
            if token not in self.tokens or token in self.cut_off:
                return _status(401, "Unauthorized")
            if method == "POST" and not self.may_create:
                return _status(403, "leases is forbidden: cannot create resource")
            if method == "GET":
                return (200, json.dumps(self.lease).encode()) if self.lease else _status(404, "not found")
            if method == "POST" and self.lease is not None:
                return _status(409, "already exists")
            if method == "PUT":
                if self.lease is None:
                    return _status(404, "not found")
                if body["metadata"]["resourceVersion"] != str(self.version):
                    return _status(409, "the object has been modified")
            self.version += 1
            self.lease = {**body, "metadata": {**body["metadata"], "resourceVersion": str(self.version)}}
            return (201 if method == "POST" else 200), json.dumps(self.lease).encode()


def _status(code: int, message: str) -> tuple[int, bytes]:
    return code, json.dumps({"kind": "Status", "code": code, "message": message}).encode()


class _Handler(BaseHTTPRequestHandler):
    api: ClassVar[ScriptedApi]
    protocol_version = "HTTP/1.1"

    def _serve(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(length)) if length else None
        status, data = self.api.respond(self.command, self.path, self.headers.get("Authorization", ""), body)
        time.sleep(self.api.delay_s)
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        with contextlib.suppress(OSError):  # who was cut off is gone by now
            self.end_headers()
            self.wfile.write(data)

    do_GET = do_POST = do_PUT = _serve  # noqa: N815 - names of the base class

    def log_message(self, *_arguments: Any) -> None:
        """Nothing."""
