"""A scripted Kubernetes API server with one Lease: versions, conflicts, and whatever the test makes it do. Its statuses
are those that a real one sent (kube-apiserver 1.20; test_kubernetes_real.py)."""

from __future__ import annotations

import contextlib
import json
import re
import ssl
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Self

from lightkube import KubeConfig, SingleConfig
from lightkube.config.models import Cluster, User

from tests.waiting import PATIENCE_SECONDS

TOKEN = "of-the-service-account"
NAME = "canary-0"
_TIME = "2026-12-01T12:00:00.000000Z"
_MICRO_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")
"""Six digits, none less: that of a whole second, too."""


def config_of(port: int, token_file: Path) -> SingleConfig:
    """Of a client to an API server without TLS on this machine."""
    cluster, user = Cluster(server=f"http://127.0.0.1:{port}"), User(token_file=str(token_file))
    config = KubeConfig.from_one(cluster=cluster, user=user, namespace="monitoring").get()
    assert config is not None
    return config


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
        self.headers = {"Content-Type": "application/json"}
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
    def config(self) -> SingleConfig:
        return config_of(self.port, self.token_file)

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
            return self._lease_request(method, body)

    def _lease_request(self, method: str, body: Any) -> tuple[int, bytes]:
        shown = f'leases.coordination.k8s.io "{NAME}"'
        before = self.lease
        if method == "GET":
            return (200, json.dumps(before).encode()) if before else _status(404, f"{shown} not found")
        uid = body["metadata"].get("uid")
        if before is None and uid is not None:
            text = f"Precondition failed: UID in precondition: {uid}, UID in object meta: "
            return _status(409, f"Operation cannot be fulfilled on {shown}: {text}")
        # A PUT without a uid makes it, too, with the right to do that.
        if not self.may_create and (method == "POST" or before is None):
            return _status(403, 'leases.coordination.k8s.io is forbidden: User "x" cannot create resource "leases"')
        if method == "POST" and before is not None:
            return _status(409, f"{shown} already exists")
        version = body["metadata"].get("resourceVersion")
        if before is not None and version != before["metadata"]["resourceVersion"]:
            return _status(409, f"Operation cannot be fulfilled on {shown}: the object has been modified")
        if not all(_MICRO_TIME.fullmatch(body["spec"].get(each, _TIME)) for each in ("acquireTime", "renewTime")):
            return _status(400, 'Lease in version "v1" cannot be handled as a Lease: parsing time')
        self.version += 1
        own = {"resourceVersion": str(self.version), "uid": uid or f"uid-{self.version}"}
        self.lease = {**body, "metadata": {**body["metadata"], **own}}
        return (201 if before is None else 200), json.dumps(self.lease).encode()


def _status(code: int, message: str) -> tuple[int, bytes]:
    status = {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": message,
        "code": code,
    }
    return code, json.dumps(status).encode()


class _Handler(BaseHTTPRequestHandler):
    api: ClassVar[ScriptedApi]
    protocol_version = "HTTP/1.1"

    def _serve(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(length)) if length else None
        status, data = self.api.respond(self.command, self.path, self.headers.get("Authorization", ""), body)
        time.sleep(self.api.delay_s)
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(data))} | self.api.headers).items():
            self.send_header(name, value)
        with contextlib.suppress(OSError):  # who was cut off is gone by now
            self.end_headers()
            self.wfile.write(data)

    do_GET = do_POST = do_PUT = _serve  # noqa: N815 - names of the base class

    def log_message(self, *_arguments: Any) -> None:
        """Nothing."""
