"""The shared library of this Python, which the embedded Triton's Python backend is linked with.

Debian and Ubuntu have it in a package of its own that no other package of theirs needs, so a plain system lacks it. It
is then fetched from the system's own package sources, checked by apt, and unpacked in the cache: that needs no root.
Standard library only, and importable by Pythons that the product does not run on.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import shutil
import subprocess
import sys
import sysconfig
from collections import deque
from pathlib import Path

from exporter.demo.cache import Progress, cache_folder, locked

LINES_SHOWN = 6
FETCH_SIZE = "10 to 40 MB of package lists, 2 MB of package"
APT_PREFIX = "/usr"
"""Where the packages' own Python is. A Python from elsewhere has another standard library than their libpython."""


class LibpythonError(Exception):
    """There is no shared library and none can be fetched; the text is one paragraph for the user."""


def python_version() -> str:
    """This Python's version as X.Y."""
    return f"{sys.version_info[0]}.{sys.version_info[1]}"


def library_name() -> str:
    """What the library of this Python is called."""
    return f"libpython{python_version()}.so.1.0"


def find_libpython() -> Path | None:
    """This Python's shared library, as the system or an earlier fetch provides it; None if neither does."""
    for folder in (*_system_folders(), _fetched()):
        if (folder / library_name()).exists():
            return folder / library_name()
    return _loaded(library_name())


def can_fetch() -> bool:
    """Whether the system's packages have the library for this very Python, as far as can be known without a network."""
    return sys.base_prefix == APT_PREFIX and all(map(shutil.which, ("apt-get", "dpkg")))


def provide_libpython(progress: Progress) -> Path:
    """The library's file, fetched if need be. Several processes may call this at once. Raises LibpythonError."""
    if found := find_libpython():
        return found
    if not can_fetch():
        raise LibpythonError(lacking_text())
    try:
        with locked(_fetched().with_suffix(".lock"), library_name(), progress):
            if not (_fetched() / library_name()).exists():
                _fetch(progress)
    except OSError as error:
        raise LibpythonError(
            f"{library_name()} cannot be fetched to {cache_folder()}: {error}. "
            "Set TRITON_CANARY_CACHE to a folder that can be written."
        ) from error
    return _fetched() / library_name()


def lacking_text() -> str:
    """What to do about the missing library."""
    return (
        f"The embedded Triton's Python backend loads {library_name()}, and there is none for {sys.base_prefix}. "
        f"Install it (Debian and Ubuntu: the package libpython{python_version()}), or use a Python that was built with "
        "--enable-shared."
    )


def _system_folders() -> list[Path]:
    libdir, multiarch = sysconfig.get_config_var("LIBDIR") or "", sysconfig.get_config_var("MULTIARCH") or ""
    return [Path(sys.base_prefix, "lib"), Path(libdir), Path(libdir, multiarch)]


def _fetched() -> Path:
    """The folder of a fetched library; another one after an update of Python."""
    return cache_folder() / f"libpython-{hashlib.sha256(sys.version.encode()).hexdigest()[:16]}"


def _fetch(progress: Progress) -> None:
    """apt-get with folders of its own: a fresh system has no lists of packages, and a user may not write them there."""
    work = _fetched().with_suffix(".part")
    shutil.rmtree(work, ignore_errors=True)
    (work / "lists" / "partial").mkdir(parents=True)
    (work / "cache" / "archives" / "partial").mkdir(parents=True)
    progress(f"fetching {library_name()} from this system's package sources (once; {FETCH_SIZE})")
    apt = ["apt-get", "-q", "-o", f"Dir::State::Lists={work / 'lists'}", "-o", f"Dir::Cache={work / 'cache'}"]
    # Root's downloads are otherwise made by a user that may not write here.
    apt += ["-o", "APT::Sandbox::User=root", "-o", "Acquire::Languages=none", "-o", "Acquire::Retries=2"]
    apt += ["-o", "Acquire::http::Timeout=20", "-o", "Acquire::https::Timeout=20"]
    name = f"libpython{python_version()}"
    output = _run([*apt, "update"], work)
    for package in (name, f"{name}t64"):  # Ubuntu 24.04 has the second
        output += _run([*apt, "download", package], work)
        for archive in work.glob("*.deb"):
            _run(["dpkg", "-x", str(archive), str(work / "unpacked")], work)
    libraries = [path for path in work.glob(f"unpacked/**/{library_name()}") if path.is_file()]
    if not libraries:
        lines = "\n".join(f"  {line}" for line in deque(output, LINES_SHOWN))
        raise LibpythonError(f"{lacking_text()} Fetching it failed; the last lines of apt-get:\n{lines}")
    made = work / "made"
    made.mkdir()
    shutil.copy2(libraries[0], made / library_name())
    shutil.rmtree(_fetched(), ignore_errors=True)
    made.rename(_fetched())
    shutil.rmtree(work, ignore_errors=True)


def _run(command: list[str], folder: Path) -> list[str]:
    """The command's lines. What it achieved shows in the files that it left: its exit status is not looked at, since
    `update` has one for sources that have nothing to do with Python."""
    environment = {**os.environ, "LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"}
    done = subprocess.run(
        command,
        check=False,
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    return [line for line in done.stdout.decode(errors="replace").splitlines() if line.strip()]


def _loaded(name: str) -> Path | None:
    """Where the dynamic loader itself finds the library: a folder of its configuration."""
    try:
        ctypes.CDLL(name)
    except OSError:
        return None
    for line in Path("/proc/self/maps").read_text(encoding="utf-8").splitlines():
        if line.endswith(f"/{name}"):
            return Path(line.split(maxsplit=5)[-1])
    return None
