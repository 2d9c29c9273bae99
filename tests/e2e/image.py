"""The image, built and run without a container engine's daemon: Debian itself as the base, buildah as the builder."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from exporter.demo.cache import cache_folder

ROOT = Path(__file__).parents[2]
SUITE = "bookworm"
PACKAGES = "ca-certificates,python3,python3-venv,tzdata"
"""What the Dockerfile asks of a base."""
CERTIFICATES = Path("/etc/ssl/certs")
BASE = "localhost/python-base"
IMAGE = "localhost/triton-canary"
IMAGE_WITH_DASK = f"{IMAGE}:dask"
USER = 10001

HARDEN = (
    "mount -o remount,bind,ro / && echo $$ && exec setpriv "
    f"--reuid={USER} --regid={USER} --clear-groups --no-new-privs --inh-caps=-all --bounding-set=-all "
    '"$@" >&2'
)
"""What a container engine does for `--read-only --cap-drop ALL --security-opt no-new-privileges`, by hand, since the
builder has no such options; and it prints the process's id."""


def base_tree() -> Path:
    """A root file system with Python: made once, kept in the cache."""
    folder = cache_folder() / f"image-base-{SUITE}"
    if not folder.exists():
        unfinished = folder.with_name(f"{folder.name}.part")
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.parent.mkdir(parents=True, exist_ok=True)
        _run(["debootstrap", "--variant=minbase", f"--include={PACKAGES}", SUITE, str(unfinished)])
        unfinished.rename(folder)
    return folder


class Buildah:
    """Images and containers in a folder of their own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.command = [
            "buildah",
            "--storage-driver=vfs",
            f"--root={folder / 'images'}",
            f"--runroot={folder / 'run'}",
        ]

    def __call__(self, *arguments: str) -> str:
        """What a command prints. Raises AssertionError with what it reports if it fails."""
        return _run([*self.command, *arguments])

    def make_base(self) -> None:
        container = self("from", "scratch")
        self("add", "-q", container, str(base_tree()), "/")
        self("commit", "-q", container, BASE)
        self("rm", container)

    def build(self, tag: str, lock: str) -> None:
        """Builds the Dockerfile with the packages of a lock. pip trusts whom this machine trusts."""
        pip = self._folder / "pip.conf"
        pip.write_text(f"[global]\ncert = {CERTIFICATES}/ca-certificates.crt\n")
        volumes = [f"--volume={CERTIFICATES}:{CERTIFICATES}:ro", f"--volume={pip}:/etc/pip.conf:ro"]
        arguments = {"BASE": BASE, "REVISION": "tested", "LOCK": lock}
        options = [f"--build-arg={name}={value}" for name, value in arguments.items()]
        self("build", "--isolation=chroot", "--format=docker", *options, *volumes, f"--tag={tag}", str(ROOT))


class Hardened:
    """A process in a container, as `USER`, without any right, on a read-only root. `before` are commands that root runs
    first; `enter` goes before the builder."""

    def __init__(
        self,
        buildah: Buildah,
        container: str,
        command: Sequence[str],
        log: Path,
        *,
        environment: Mapping[str, str],
        volumes: Sequence[str],
        before: Sequence[str] = (),
        enter: Sequence[str] = (),
    ) -> None:
        """Returns once the process is there."""
        options = ["--isolation=chroot", "--user=0", "--cap-add=CAP_SYS_ADMIN", "--no-hosts"]
        options += [f"--env={name}={value}" for name, value in environment.items()]
        options += [f"--volume={volume}" for volume in volumes]
        inside = ["sh", "-c", " && ".join([*before, HARDEN]), "sh", *command]
        with log.open("a") as file:
            self.process = subprocess.Popen(
                [*enter, *buildah.command, "run", *options, container, "--", *inside],
                stdout=subprocess.PIPE,
                stderr=file,
                text=True,
            )
        assert self.process.stdout is not None
        first = self.process.stdout.readline()
        assert first, log.read_text()
        self.pid = int(first)

    def close(self) -> None:
        """Kills it: the builder does not end what it runs."""
        with self.process:
            if self.process.poll() is None:
                os.kill(self.pid, signal.SIGKILL)


def _run(command: Sequence[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, f"{command}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    return done.stdout.strip()
