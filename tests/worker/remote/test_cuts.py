"""`analyze` over three Dask workers, and what is sent after a part of it is gone: counted at the server."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.standby.named_server import NamedServer
from tests.waiting import PATIENCE_SECONDS, becomes_true, patient
from tests.worker.remote.cluster import Cluster
from tests.worker.remote.namespaces import cable

pytestmark = pytest.mark.e2e

RATE = 300
SILENT_SECONDS = 2.0
"""What docs/pool.md promises."""
LATE_SECONDS = 1.0
"""How long a request may be on its way to the server on a machine at ease, and the server's own delay."""
QUIET_SECONDS = SILENT_SECONDS + 1.0
"""Nothing for so long: nothing comes any more."""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """For all tests of this file, in their order: each of the last two kills a part of it."""
    with Cluster(tmp_path_factory.mktemp("cluster"), 3) as cluster:
        yield cluster


@contextmanager
def loaded(server: NamedServer, cluster: Cluster, folder: Path, enter: Sequence[str] = ()) -> Iterator[Client]:
    """A client whose load runs on all three workers."""
    command = [
        *enter,
        *(sys.executable, "-m", "exporter", "analyze", "-m", "m", "-u", f"127.0.0.1:{server.port}"),
        *("--service-kind", "oip", "--request-rate-range", str(RATE), "-p", "4000", "-s", "0.1"),
        *("--workers", cluster.address, "--worker-count", "3"),
    ]
    with (folder / "client.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    client = Client(process, folder / "client.log")
    try:
        assert becomes_true(lambda: len(server.arrivals) >= RATE or process.poll() is not None), client.output
        assert process.poll() is None, client.output
        yield client
    finally:
        process.kill()
        process.wait()


class Client:
    """The process, and what it has printed."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self.process = process
        self._log = log

    @property
    def output(self) -> str:
        return self._log.read_text()


def is_silent_in_time(server: NamedServer, cut: Callable[[], object]) -> None:
    """Checks that the load ends as promised after the cut."""
    cut()
    cut_s = time.monotonic()
    ends_s = cut_s + SILENT_SECONDS + patient(LATE_SECONDS)
    while (last_s := max(cut_s, server.arrivals[-1][0])) > time.monotonic() - patient(QUIET_SECONDS):
        assert last_s < ends_s, f"requests still come {last_s - cut_s:.1f} s after the cut"
        time.sleep(0.05)
    after = sum(at_s > cut_s for at_s, _ in server.arrivals)
    print(f"{after} requests after the cut, the last one {last_s - cut_s:.2f} s after it")  # shown by `pytest -s`
    assert last_s < ends_s


@pytest.fixture
def server() -> Iterator[NamedServer]:
    with NamedServer(0.005) as server:
        yield server


@pytest.mark.parametrize("sign", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "stopped"])
def test_a_client_that_is_gone(sign: signal.Signals, server: NamedServer, cluster: Cluster, tmp_path: Path) -> None:
    with loaded(server, cluster, tmp_path) as client:
        is_silent_in_time(server, lambda: client.process.send_signal(sign))


def test_a_dask_worker_that_is_killed_ends_the_level(server: NamedServer, cluster: Cluster, tmp_path: Path) -> None:
    with loaded(server, cluster, tmp_path) as client:
        is_silent_in_time(server, cluster.workers[0].kill)
        assert client.process.wait(PATIENCE_SECONDS) != 0
        assert "worker tcp://127.0.0.1:" in client.output


def test_a_scheduler_that_is_killed_ends_the_level(server: NamedServer, cluster: Cluster, tmp_path: Path) -> None:
    with loaded(server, cluster, tmp_path) as client:
        assert cluster.scheduler is not None
        is_silent_in_time(server, cluster.scheduler.kill)
        assert client.process.wait(PATIENCE_SECONDS) != 0
        assert "worker tcp://127.0.0.1:" in client.output
        assert "Traceback" not in client.output


def test_a_network_that_is_cut(tmp_path: Path) -> None:
    """The client on one side; scheduler, workers and the server on the other. Neither side sees the other one end."""
    with cable() as between, ExitStack() as stack:
        far, server = between.there, NamedServer(0.005)
        server.prepare_thread = far.move_this_thread
        stack.enter_context(server)
        cluster = stack.enter_context(Cluster(tmp_path, 3, host=far.address, enter=far.enter))
        client = stack.enter_context(loaded(server, cluster, tmp_path, between.here.enter))
        is_silent_in_time(server, between.cut)
        assert client.process.wait(PATIENCE_SECONDS) != 0
        assert f"worker tcp://{far.address}:" in client.output
        assert "no response" in client.output
