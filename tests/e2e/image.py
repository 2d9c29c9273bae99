"""The image, built and run without a container engine's daemon: Debian itself as the base, buildah as the builder."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from exporter.demo.cache import cache_folder

ROOT = Path(__file__).parents[2]
SUITE = "bookworm"
PACKAGES = "ca-certificates,python3,python3-venv,tzdata"
"""What the Dockerfile asks of a base."""
CERTIFICATES = Path("/etc/ssl/certs")
BASE = "localhost/python-base"
IMAGE = "localhost/triton-canary"


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

    def build(self) -> None:
        """Builds the Dockerfile. pip trusts whom this machine trusts."""
        pip = self._folder / "pip.conf"
        pip.write_text(f"[global]\ncert = {CERTIFICATES}/ca-certificates.crt\n")
        volumes = [f"--volume={CERTIFICATES}:{CERTIFICATES}:ro", f"--volume={pip}:/etc/pip.conf:ro"]
        options = ["--isolation=chroot", "--format=docker", f"--build-arg=BASE={BASE}", "--build-arg=REVISION=tested"]
        self("build", *options, *volumes, f"--tag={IMAGE}", str(ROOT))


def _run(command: Sequence[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, f"{command}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    return done.stdout.strip()
