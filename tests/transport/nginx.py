"""nginx as a real server of the tests' own: TLS, HTTP/1.1 and HTTP/2 by other clients' code."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.programs import find, need
from tests.waiting import PATIENCE_SECONDS


@contextmanager
def nginx_serving(folder: Path, port: int, servers: str) -> Iterator[None]:
    """Runs nginx with these `server` blocks, of which one listens on `port`, until they respond. Without nginx the test
    is skipped; in CI it fails."""
    need("nginx")
    temporary = "".join(f"{kind}_temp_path {folder}/{kind}; " for kind in ("proxy", "fastcgi", "scgi", "uwsgi"))
    configuration = folder / "nginx.conf"
    configuration.write_text(f"""
daemon off; master_process off; pid {folder}/pid; error_log {folder}/error.log;
events {{ worker_connections 64; }}
http {{
  access_log off; client_max_body_size 64m; client_body_temp_path {folder}/body; {temporary}
  {servers}
}}""")
    process = subprocess.Popen([str(find("nginx")), "-c", str(configuration), "-e", str(folder / "error.log")])
    try:
        _await_port(port, process)
        yield
    finally:
        process.terminate()
        process.wait(PATIENCE_SECONDS)


def _await_port(port: int, process: subprocess.Popen[bytes]) -> None:
    for _ in range(500):
        assert process.poll() is None
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.01)
        else:
            return
    pytest.fail("nginx did not start")
