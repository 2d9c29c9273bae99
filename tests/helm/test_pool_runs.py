"""The chart's commands, run as they are rendered: a scheduler and a worker in a network namespace of their own."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.helm.chart import Document
from tests.helm.test_pool import FULLNAME, pod
from tests.transport.certificates import Certificates
from tests.waiting import PATIENCE_SECONDS, becomes_true
from tests.worker.remote.namespaces import Namespace, namespace

MOUNTED = "/etc/triton-canary/pool"
ADDRESS = "127.0.0.1"


@pytest.fixture
def apart() -> Iterator[Namespace]:
    with namespace(ADDRESS) as it:
        yield it


def start(ours: Document, apart: Namespace, folder: Path, log: Path) -> subprocess.Popen[bytes]:
    """The container's process, with the folder where its secret is mounted."""
    environment = {entry["name"]: entry.get("value", ADDRESS).replace(MOUNTED, str(folder)) for entry in ours["env"]}
    environment |= {"DASK_TEMPORARY_DIRECTORY": str(folder), "PATH": os.environ["PATH"]}
    arguments = [text.replace("$(POD_IP)", ADDRESS).replace(f"{FULLNAME}-pool", ADDRESS) for text in ours["args"]]
    program = Path(sys.executable).with_name(ours["command"][0])
    command = [*apart.enter, str(program), *ours["command"][1:], *arguments]
    with log.open("wb") as file:
        return subprocess.Popen(command, stdout=file, stderr=file, env=environment, cwd=folder)


def test_the_pool_comes_up_and_shows_its_health_alone(
    apart: Namespace, certificates: Certificates, tmp_path: Path
) -> None:
    files = {"ca.crt": certificates.ca, "tls.crt": certificates.server, "tls.key": certificates.server_key}
    for name, path in files.items():
        shutil.copy(path, tmp_path / name)
    log = tmp_path / "worker.log"
    with ExitStack() as stack:
        for name, path in (("pool", tmp_path / "scheduler.log"), ("worker-zone-a", log)):
            process = start(pod(name)["spec"]["containers"][0], apart, tmp_path, path)
            stack.callback(process.wait)
            stack.callback(process.kill)
        assert becomes_true(lambda: process.poll() is not None or "Registered to" in log.read_text())
        text = log.read_text()
        assert re.search(rf"Registered to: +tls://{ADDRESS}:8786", text), text
        assert re.search(rf"Start worker at: +tls://{ADDRESS}:8788", text), text
        for port in (8787, 8789):
            pages = "/health", "/info/main/workers.html", "/json/counts.json"
            assert [status(apart, port, page) for page in pages] == [200, 404, 404]


def status(apart: Namespace, port: int, page: str) -> int:
    """Of a page, as one beside the process sees it."""
    program = (
        "import json, sys, urllib.request, urllib.error\n"
        "try: print(urllib.request.urlopen(sys.argv[1], timeout=60).status)\n"
        "except urllib.error.HTTPError as error: print(error.code)"
    )
    command = [*apart.enter, sys.executable, "-c", program, f"http://{ADDRESS}:{port}{page}"]
    done = subprocess.run(command, capture_output=True, check=True, timeout=PATIENCE_SECONDS)
    return int(json.loads(done.stdout))
