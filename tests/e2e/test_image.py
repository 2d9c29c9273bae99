"""The image, built from the Dockerfile, and the daemon in it at a real Triton: unprivileged, on a read-only root."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from exporter import __version__
from exporter.demo.triton import EmbeddedTriton, free_ports
from tests.daemon.running import QUICK
from tests.e2e.image import IMAGE, Buildah
from tests.programs import ROOT, need

pytestmark = [pytest.mark.e2e, pytest.mark.image, pytest.mark.timeout(1800)]
USER = 10001
PATIENCE_SECONDS = 120.0

HARDEN = (
    "mount -o remount,bind,ro / && echo $$ && exec setpriv "
    f"--reuid={USER} --regid={USER} --clear-groups --no-new-privs --inh-caps=-all --bounding-set=-all "
    '"$@"'
)
"""What a container engine does for `--read-only --cap-drop ALL --security-opt no-new-privileges`, by hand, since the
builder has no such options; and it reports the process's id."""


@pytest.fixture(scope="module")
def buildah(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Buildah]:
    """With the image built. It can take some minutes the first time."""
    need("buildah", "debootstrap", ROOT)
    builder = Buildah(tmp_path_factory.mktemp("image"))
    builder.make_base()
    builder.build()
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


@contextmanager
def serving(
    buildah: Buildah, container: str, folder: Path, address: str
) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """The daemon, hardened, with the configuration in `folder` and its data in the image's volume; and its process
    id."""
    options = [
        "--isolation=chroot",
        "--user=0",
        "--cap-add=CAP_SYS_ADMIN",
        f"--env=TRITON_CANARY_WEB__LISTEN={address}",
        f"--volume={folder / 'config'}:/etc/triton-canary:ro",
    ]
    inside = ["sh", "-c", HARDEN, "sh", "triton-canary", "serve", "--config", "/etc/triton-canary/canary.yaml"]
    command = [*buildah.command, "run", *options, container, "--", *inside]
    with (
        (folder / "log").open("w") as log,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True) as process,
    ):
        assert process.stdout is not None
        pid = int(process.stdout.readline())
        try:
            yield process, pid
        finally:
            if process.poll() is None:  # the builder does not end what it runs
                os.kill(pid, signal.SIGKILL)


def probe_status(address: str) -> dict[str, Any] | None:
    try:
        with urllib.request.urlopen(f"http://{address}/api/status", timeout=5) as response:
            found: dict[str, Any] = json.load(response)["probes"][0]
            return found
    except urllib.error.URLError:
        return None


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
    with serving(buildah, container, tmp_path, address) as (process, pid):
        deadline = time.monotonic() + PATIENCE_SECONDS
        while (status := probe_status(address)) is None or status["state"] not in ("ok", "unstable"):
            assert process.poll() is None, (tmp_path / "log").read_text()[-4000:]
            assert time.monotonic() < deadline, (status, (tmp_path / "log").read_text()[-4000:])
            time.sleep(0.2)
        assert [level["level"] for level in status["levels"]] == ["1", "2"]
        facts = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
        assert set(facts["Uid"].split()) == {str(USER)}
        assert int(facts["CapEff"], 16) == int(facts["CapBnd"], 16) == 0
        assert facts["NoNewPrivs"].strip() == "1"
        mounts = [line.split() for line in Path(f"/proc/{pid}/mountinfo").read_text().splitlines()]
        *_, root = [mount for mount in mounts if mount[4] == "/"]
        assert "ro" in root[5].split(",")
        health = ["triton-canary", "health", "--url", f"http://{address}"]
        assert buildah("run", "--isolation=chroot", container, "--", *health) == "Healthy"
        os.kill(pid, signal.SIGTERM)
        assert process.wait(PATIENCE_SECONDS) == 0
    find = ["find", "/var/lib/triton-canary", "-name", "*.levels.csv", "-user", str(USER)]
    assert buildah("run", "--isolation=chroot", container, "--", *find)
