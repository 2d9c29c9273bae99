"""The programs and shared libraries that tests need beside Python: looked for in one place, and named in one line at
the end where they are missing. With CI=true a missing one is a failure, never a skip. A right that a machine refuses
can't be installed: a test that needs it is skipped there, too."""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import subprocess
from collections.abc import Collection
from typing import NoReturn

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
    "mount": "mount",
    "nginx": "nginx-light",
    "nsenter": "util-linux",
    "openssl": "openssl",
    "prometheus": "prometheus",
    "prometheus-alertmanager": "prometheus-alertmanager",
    "promtool": "prometheus",
    "sox": "sox",
    "systemd-analyze": "systemd",
    "unshare": "util-linux",
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
    """Skips the test unless all these programs are there; in CI it fails. Where ROOT is among them and the rights are
    not there, it is skipped, in CI too."""
    missing = [name for name in names if (os.geteuid() != 0 if name == ROOT else find(name) is None)]
    if not missing:
        return
    tools = [name for name in missing if name != ROOT]
    if tools and os.environ.get("CI") == "true":
        pytest.fail(f"CI has {', '.join(tools)}, and this machine does not", pytrace=False)
    MISSED.update(missing)
    pytest.skip(f"needs {', '.join(missing)}")


def need_right(*command: str) -> None:
    """Runs a command for which the kernel may lack the right or the module. Where it fails, the test is skipped with
    what it printed, in CI too."""
    need(command[0])
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        refused(done.stderr.strip() or f"{' '.join(command)}: exit status {done.returncode}")


def refused(reason: str) -> NoReturn:
    """Skips the test, in CI too: this machine refuses it something."""
    MISSED.add(ROOT)
    pytest.skip(f"needs {ROOT}: {reason}")


def summary(missed: Collection[str]) -> str:
    """One line on what was missed and how to have it; empty if nothing was."""
    packages = sorted({package for name in missed for package in PACKAGES.get(name, "").split()})
    install = f": apt-get install {' '.join(packages)}" if packages else ""
    return f"Tests were skipped for want of {', '.join(sorted(missed))}{install}" if missed else ""
