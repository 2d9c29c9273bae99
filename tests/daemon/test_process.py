"""The daemon's own process at the end of what the system gives."""

from __future__ import annotations

import asyncio
import errno
import logging
import resource
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from exporter.daemon.process import LoopErrors
from exporter.web.client_connection import connection_limit
from tests.daemon.running import RunningDaemon

RAISED = """
import resource
resource.setrlimit(resource.RLIMIT_NOFILE, (100, 300))
from exporter.daemon.process import raise_open_files
from exporter.web.client_connection import connection_limit
raise_open_files()
print(*resource.getrlimit(resource.RLIMIT_NOFILE), connection_limit())
"""


def test_the_soft_limit_of_open_files_is_raised() -> None:
    done = subprocess.run([sys.executable, "-c", RAISED], check=True, capture_output=True, text=True)
    assert done.stdout.split() == ["300", "300", "150"]


async def test_without_files_left_it_is_one_line(caplog: pytest.LogCaptureFixture) -> None:
    loop, handler = asyncio.get_running_loop(), LoopErrors()
    for number in (errno.EMFILE, errno.EMFILE, errno.ENFILE) * 100:
        handler(loop, {"message": "socket.accept() out of system resource", "exception": OSError(number, "none left")})
    assert [record.message for record in caplog.records] == ["connections cannot be accepted"] * 2
    handler(loop, {"message": "something else", "exception": ValueError("x")})
    assert "something else" in caplog.text


async def test_a_server_without_files_logs_once_and_serves_again(caplog: pytest.LogCaptureFixture) -> None:
    loop = asyncio.get_running_loop()
    caplog.set_level(logging.INFO)
    loop.set_exception_handler(LoopErrors())
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0, backlog=200)
    port = server.sockets[0].getsockname()[1]
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    clients = [socket.socket() for _ in range(20)]
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (clients[-1].fileno() + 1, hard))
        for client in clients:
            client.setblocking(False)
            client.connect_ex(("127.0.0.1", port))
        await asyncio.sleep(0.3)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert [record.message for record in caplog.records].count("connections cannot be accepted") == 1
    assert "Traceback" not in caplog.text
    await asyncio.sleep(1.1)  # asyncio tries again
    for client in clients:
        client.setblocking(True)
        client.settimeout(5)
        assert client.recv(1) == b""
        client.close()
    server.close()
    assert connection_limit() > 0


def test_a_start_removes_what_a_killed_daemon_has_left(tmp_path: Path) -> None:
    left = [tmp_path / "data" / name for name in ("state.json.host-1.tmp", "baselines/p.baseline.host-1.tmp")]
    for path in left:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("half of it")
    with RunningDaemon(tmp_path, {}) as daemon:
        daemon.wait_for(lambda: not any(path.exists() for path in left))
