"""A TCP relay that a test can cut: from then on nothing goes through, and no connection ends."""

from __future__ import annotations

import contextlib
import selectors
import socket
import socketserver
import threading
from types import TracebackType
from typing import Self

_LOOK_SECONDS = 0.05


class Relay:
    """To a port of this machine. While it is `cut`, connections are taken in and bytes left where they are, as in a
    network that loses packets."""

    def __init__(self, port: int) -> None:
        self.cut = threading.Event()
        self._target = port
        self._closing = threading.Event()
        relay = self

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                relay._serve(self.request)

        self._server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(_LOOK_SECONDS,))

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

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

    def _serve(self, client: socket.socket) -> None:
        with contextlib.suppress(OSError), selectors.DefaultSelector() as selector:
            while self.cut.is_set():
                if self._closing.wait(_LOOK_SECONDS):
                    return
            with socket.create_connection(("127.0.0.1", self._target)) as server:
                selector.register(client, selectors.EVENT_READ, server)
                selector.register(server, selectors.EVENT_READ, client)
                while not self._closing.is_set():
                    for key, _ in selector.select(_LOOK_SECONDS):
                        if self.cut.is_set():
                            self._closing.wait(_LOOK_SECONDS)
                            continue
                        data = key.fileobj.recv(64 << 10)  # type: ignore[union-attr]
                        if not data:
                            return
                        key.data.sendall(data)
