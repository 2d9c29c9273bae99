"""The image, built from the Dockerfile, and the daemon in it at a real Triton: unprivileged, on a read-only root."""

from __future__ import annotations

import json
import os
import signal
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml

from exporter import __version__
from exporter.demo.triton import EmbeddedTriton, free_ports
from tests.daemon.counting_server import CountingServer
from tests.daemon.running import QUICK
from tests.e2e.image import IMAGE, IMAGE_WITH_DASK, USER, Buildah, Hardened
from tests.e2e.pods import Node, Pod, make_volume
from tests.helm.chart import Document, one, render, values_of
from tests.helm.test_pool import FULLNAME
from tests.programs import ROOT, need
from tests.transport.certificates import Certificates
from tests.waiting import PATIENCE_SECONDS, becomes_true
from tests.worker.remote.namespaces import Namespace, node_with_pods

pytestmark = [pytest.mark.e2e, pytest.mark.image, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def buildah(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Buildah]:
    """With the image built. It can take some minutes the first time."""
    need("buildah", "debootstrap", ROOT)
    builder = Buildah(tmp_path_factory.mktemp("image"))
    builder.make_base()
    builder.build(IMAGE, "requirements.lock")
    yield builder
    builder("rm", "--all")
    builder("rmi", "--all", "--force")


@pytest.fixture(scope="module")
def container(buildah: Buildah) -> str:
    return buildah("from", IMAGE)


def test_what_the_image_reports_about_itself(buildah: Buildah) -> None:
    config = json.loads(buildah("inspect", "--type=image", IMAGE))["Docker"]["config"]
    assert config["User"] == "10001:10001"
    assert config["Healthcheck"]["Test"] == ["CMD", "triton-canary", "health"]
    labels = {key.removeprefix("org.opencontainers.image."): value for key, value in config["Labels"].items()}
    assert (labels["title"], labels["version"], labels["revision"]) == ("triton-canary", __version__, "tested")
    assert labels["licenses"] == "Apache-2.0"


def test_what_is_in_it_and_what_is_not(buildah: Buildah, container: str) -> None:
    def inside(script: str) -> str:
        return buildah("run", "--isolation=chroot", container, "--", "sh", "-c", script)

    assert inside("id -u; triton-canary --version").split("\n") == [str(USER), f"triton-canary {__version__}"]
    assert inside("command -v gcc cc c++ ld make pip pip3 curl wget || true") == ""
    assert inside("python -c 'import zoneinfo; print(zoneinfo.ZoneInfo(\"Europe/Berlin\"))'") == "Europe/Berlin"
    # Nothing of it is the user's own but the folder for data.
    assert inside(f"find / -xdev -user {USER} -not -path '/proc/*' 2>/dev/null || true") == "/var/lib/triton-canary"
    megabytes = int(inside("du -sm /opt/triton-canary").split()[0])
    assert megabytes < 320, "docs/install.md states what each part takes"


def probe_status(address: str) -> dict[str, Any] | None:
    try:
        with urllib.request.urlopen(f"http://{address}/api/status", timeout=5) as response:
            found: dict[str, Any] = json.load(response)["probes"][0]
            return found
    except OSError:  # not there yet, or on a busy machine late
        return None


def is_measured(status: dict[str, Any] | None) -> bool:
    return status is not None and status["state"] in ("ok", "unstable")


def has_no_rights(pid: int) -> None:
    """Checks that a process is the image's user, has no capability, gets none, and has a root that it can't write."""
    facts = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    assert set(facts["Uid"].split()) == {str(USER)}
    assert int(facts["CapEff"], 16) == int(facts["CapBnd"], 16) == 0
    assert facts["NoNewPrivs"].strip() == "1"
    mounts = [line.split() for line in Path(f"/proc/{pid}/mountinfo").read_text().splitlines()]
    *_, root = [mount for mount in mounts if mount[4] == "/"]
    assert "ro" in root[5].split(",")


def test_the_daemon_measures_unprivileged_on_a_read_only_root(
    buildah: Buildah, container: str, triton: EmbeddedTriton, tmp_path: Path
) -> None:
    (port,) = free_ports(1)
    address = f"127.0.0.1:{port}"
    (tmp_path / "config").mkdir(mode=0o755)
    configuration = {
        "targets": [{"name": "triton", "url": triton.grpc_url, "metrics_url": triton.metrics_url}],
        "probes": [{"name": "addsub", "target": "triton", "model": "addsub", "load": {"concurrency": [1, 2]}}],
        "defaults": QUICK,
    }
    (tmp_path / "config" / "canary.yaml").write_text(yaml.safe_dump(configuration))
    volumes = [f"{tmp_path / 'config'}:/etc/triton-canary:ro"]
    command = ["triton-canary", "serve", "--config", "/etc/triton-canary/canary.yaml"]
    listen = {"TRITON_CANARY_WEB__LISTEN": address}
    daemon = Hardened(buildah, container, command, tmp_path / "log", environment=listen, volumes=volumes)
    with closing(daemon):
        daemon_status = partial(probe_status, address)
        assert becomes_true(lambda: daemon.process.poll() is not None or is_measured(daemon_status()))
        status = daemon_status()
        assert status is not None, (tmp_path / "log").read_text()[-4000:]
        assert [level["level"] for level in status["levels"]] == ["1", "2"]
        has_no_rights(daemon.pid)
        health = ["triton-canary", "health", "--url", f"http://{address}"]
        assert buildah("run", "--isolation=chroot", container, "--", *health) == "Healthy"
        os.kill(daemon.pid, signal.SIGTERM)
        assert daemon.process.wait(PATIENCE_SECONDS) == 0
    find = ["find", "/var/lib/triton-canary", "-name", "*.levels.csv", "-user", str(USER)]
    assert buildah("run", "--isolation=chroot", container, "--", *find)


# --- the pool of the chart, from the image with Dask -----------------------------------------------------------------


@pytest.fixture(scope="module")
def container_with_dask(buildah: Buildah) -> str:
    buildah.build(IMAGE_WITH_DASK, "requirements-dask.lock")
    return buildah("from", IMAGE_WITH_DASK)


class TokenServer(CountingServer):
    """Counts the requests that bring the secret."""

    def __init__(self, host: str) -> None:
        super().__init__()
        self.host = host
        self.with_token = 0

    def received(self, head: bytes) -> None:
        self.with_token += b"\r\nx-token: hunter2\r\n" in head.lower()


SECRETS = "/etc/triton-canary/secrets"


def pool_values(server: TokenServer) -> Document:
    """The chart's own case of a pool, with our server in the place of its target."""
    values = values_of("pool")
    (target,), (probe,) = values["config"]["targets"], values["config"]["probes"]
    target |= {"kind": "oip", "url": f"http://{server.host}:{server.port}"}
    target["headers"] = {"X-Token": {"file": f"{SECRETS}/asr/token"}}
    probe |= {"model": "m", "from": ["zone-a"]} | QUICK
    values["config"]["limits"] = {"group_duty": "100%"}
    probe["load"] = {"request_rate": 60, "workers": 2, "pool": probe["load"]["pool"]}
    return values


def make_node(
    buildah: Buildah, container: str, documents: list[Document], certificates: Certificates, folder: Path, pool: str
) -> Node:
    """`pool` is the address of the scheduler's Service."""
    hosts = folder / "hosts"
    hosts.write_text(f"127.0.0.1 localhost\n{pool} {FULLNAME}-pool\n")
    data = folder / "data"
    data.mkdir()
    os.chown(data, 0, USER)
    data.chmod(0o2775)
    pem = {"ca.crt": certificates.ca, "tls.crt": certificates.server, "tls.key": certificates.server_key}
    volumes = {
        "config": make_volume(folder / "config", one(documents, "ConfigMap")["data"]),
        "pool": make_volume(folder / "pool", pem),
        "secret-asr": make_volume(folder / "asr", {"token": "hunter2"}),
        "data": data,
    }
    entrypoint = json.loads(buildah("inspect", "--type=image", IMAGE_WITH_DASK))["Docker"]["config"]["Entrypoint"]
    return Node(buildah, container, entrypoint, volumes, hosts)


def test_the_pool_of_the_chart_measures_from_its_pods(
    buildah: Buildah, container_with_dask: str, certificates: Certificates, tmp_path: Path
) -> None:
    """Scheduler, two workers and the daemon, as the chart renders them; the server is beside them."""
    with node_with_pods(4) as (here, (at_scheduler, *at_workers, at_daemon)), ExitStack() as stack:
        server = TokenServer(here.address)
        server.prepare_thread = here.move_this_thread
        stack.enter_context(server)
        there = stack.enter_context(ThreadPoolExecutor(1, initializer=here.move_this_thread))
        documents = render(pool_values(server))
        node = make_node(buildah, container_with_dask, documents, certificates, tmp_path, at_scheduler.address)
        deployments = {each["metadata"]["name"]: each["spec"] for each in documents if each["kind"] == "Deployment"}

        def started(spec: Document, namespace: Namespace, name: str) -> Pod:
            return stack.enter_context(Pod(node, spec["template"]["spec"], namespace, tmp_path / f"{name}.log"))

        scheduler = started(deployments[f"{FULLNAME}-pool"], at_scheduler, "scheduler")
        in_zone_a = deployments[f"{FULLNAME}-worker-zone-a"]
        assert in_zone_a["replicas"] == len(at_workers)
        workers = [started(in_zone_a, each, f"worker{number}") for number, each in enumerate(at_workers)]
        daemon = started(one(documents, "StatefulSet")["spec"], at_daemon, "daemon")

        def sends(worker: Pod) -> bool:
            """Whether requests come from it, from now on."""
            before = server.senders[worker.address]
            return becomes_true(lambda: server.senders[worker.address] > before + 20)

        address = f"{at_daemon.address}:9787"
        assert becomes_true(lambda: is_measured(there.submit(probe_status, address).result())), daemon.log
        assert all(map(sends, workers))
        assert set(server.senders) == {worker.address for worker in workers}
        assert server.with_token == server.requests
        for pod in (scheduler, *workers, daemon):
            has_no_rights(pod.pid)
        for at in (f"{scheduler.address}:8787", *(f"{worker.address}:8789" for worker in workers)):
            pages = "/health", "/info/main/workers.html"
            assert [there.submit(page_status, f"http://{at}{page}").result() for page in pages] == [200, 404]

        os.kill(workers[1].pid, signal.SIGKILL)
        assert becomes_true(lambda: not workers[1].processes()), "the process that made its load ends with it"
        from_killed = server.senders[workers[1].address]
        assert sends(workers[0])
        assert server.senders[workers[1].address] == from_killed
        workers[1] = started(in_zone_a, at_workers[1], "worker1")
        assert sends(workers[1])

        assert daemon.end() == 0, daemon.log
        assert workers[0].end() == 0, workers[0].log
        assert scheduler.end() == 0, scheduler.log
        assert workers[1].wait() == 0, "without its scheduler a worker ends, so that the kubelet starts it again"
        assert not any(pod.processes() for pod in (scheduler, *workers, daemon))


def page_status(url: str) -> int:
    try:
        with urllib.request.urlopen(url, timeout=PATIENCE_SECONDS) as response:
            status: int = response.status
            return status
    except urllib.error.HTTPError as error:
        return error.code
