"""`analyze` over three Dask workers, and what is sent after a part of it is gone."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.standby.named_server import NamedServer
from tests.waiting import PATIENCE_SECONDS
from tests.worker.remote.cluster import Cluster

pytest.importorskip("distributed")

pytestmark = pytest.mark.soak  # until they hold on any machine

WATCHED_SECONDS = 9.0
QUIET_SECONDS = 4.0
"""The lease is 2 s; on a busy machine a request takes a while to come in."""


@pytest.mark.parametrize("lost", ["client killed", "client stopped", "scheduler", "worker"])
def test_no_member_sends_for_longer_than_the_lease(lost: str, tmp_path: Path) -> None:
    with NamedServer(0.005) as server, Cluster(tmp_path, 3) as cluster:
        command = [
            *(sys.executable, "-m", "exporter", "analyze", "-m", "m", "-u", f"127.0.0.1:{server.port}"),
            *("--service-kind", "oip", "--request-rate-range", "300", "-p", "4000", "-s", "0.1"),
            *("--workers", cluster.address, "--worker-count", "3"),
        ]
        client = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            deadline = time.monotonic() + PATIENCE_SECONDS
            while len(server.arrivals) < 600:
                assert time.monotonic() < deadline
                assert client.poll() is None
                time.sleep(0.02)
            cut_s = time.monotonic()
            if lost == "worker":
                cluster.workers[0].kill()
            elif lost == "scheduler":
                assert cluster.scheduler is not None
                cluster.scheduler.kill()
            else:
                client.send_signal(signal.SIGKILL if lost == "client killed" else signal.SIGSTOP)
            time.sleep(WATCHED_SECONDS)
            after = [at_s - cut_s for at_s, _ in server.arrivals if at_s > cut_s]
            print(f"{len(after)} requests after the cut, the last {max(after, default=0):.2f} s after it")
            assert max(after, default=0) < WATCHED_SECONDS - QUIET_SECONDS
        finally:
            client.kill()
            client.wait()
