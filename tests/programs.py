"""The programs and shared libraries that tests need beside Python: looked for in one place, and named in one line at
the end where they are missing. With CI=true a missing one is a failure, never a skip."""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
from collections.abc import Collection

import pytest

PACKAGES = {
    "amtool": "prometheus-alertmanager",
    "buildah": "buildah",
    "chromedriver": "chromium-driver",
    "chromium": "chromium",
    "curl": "curl",
    "debootstrap": "debootstrap",
    "espeak-ng": "espeak-ng",
    "gcc": "gcc libc6-dev",
    "git": "git",
    "ip": "iproute2",
    "java": "default-jre-headless",
    "libgomp.so.1": "libgomp1",
    "make": "make",
    "nginx": "nginx-light",
    "openssl": "openssl",
    "prometheus": "prometheus",
    "prometheus-alertmanager": "prometheus-alertmanager",
    "promtool": "prometheus",
    "sox": "sox",
    "systemd-analyze": "systemd",
}
"""By the program, the packages of Debian that have it. `.ci/run` installs all of them."""
ROOT = "the rights of root"
MISSED: set[str] = set()
"""What some test of this run was skipped for: programs, and ROOT."""


def find(name: str) -> str | None:
    """The program's path; also where only root looks for programs. Of a shared library its name, if it is there."""
    if ".so" in name:
        with contextlib.suppress(OSError):
            ctypes.CDLL(name)
            return name
        return None
    return shutil.which(name, path=os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"]))


def need(*names: str) -> None:
    """Skips the test unless all these programs are there (and the rights, if ROOT is among them); in CI it fails."""
    missing = [name for name in names if (os.geteuid() != 0 if name == ROOT else find(name) is None)]
    if not missing:
        return
    if os.environ.get("CI") == "true":
        pytest.fail(f"CI has {', '.join(missing)}, and this machine does not", pytrace=False)
    MISSED.update(missing)
    pytest.skip(f"needs {', '.join(missing)}")


def summary(missed: Collection[str]) -> str:
    """One line on what was missed and how to have it; empty if nothing was."""
    packages = sorted({package for name in missed for package in PACKAGES.get(name, "").split()})
    install = f": apt-get install {' '.join(packages)}" if packages else ""
    return f"Tests were skipped for want of {', '.join(sorted(missed))}{install}" if missed else ""
