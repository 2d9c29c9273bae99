"""Makes, once, the virtual environment that holds the embedded Triton: the nvidia-pytriton wheel and what the sample
models import.

It lives in a cache outside the checkout, because that wheel needs numpy < 2, which the product must not inherit. Knows
pip, venv and the layout of the wheel; must not know how the server is started or what it is used for.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import hashlib
import importlib.resources
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from exporter.core.errors import TritonCanaryError

Progress = Callable[[str], None]
"""Called with one line of text whenever there is something to tell while a long step runs."""

PYTHON_VERSIONS = ((3, 11), (3, 12))
"""What the wheel has a stub for, numpy 1.26 a wheel for, and this package itself runs on."""
GLIBC_NEEDED = (2, 35)
"""From the wheel's tag, manylinux_2_35."""
MADE_MARKER = ".made"
PIP_LINES_KEPT = 12
PIP_LINES_TOLD = ("Collecting", "Downloading", "Installing")


class EmbeddedTritonError(TritonCanaryError):
    """The embedded Triton cannot be made or started here; the text is one paragraph for the person who asked for it."""


@dataclass(frozen=True, slots=True)
class Platform:
    """What of this machine decides whether the wheel's Triton runs on it. `glibc` is None under another C library."""

    system: str
    machine: str
    python: tuple[int, int]
    glibc: tuple[int, int] | None
    libpython: Path | None

    @classmethod
    def here(cls) -> Platform:
        return cls(platform.system(), platform.machine(), sys.version_info[:2], _glibc_version(), find_libpython())

    def check(self) -> None:
        """Raises EmbeddedTritonError with the reason and the way out if Triton cannot run on this platform."""
        version = ".".join(map(str, self.python))
        if (self.system, self.machine) != ("Linux", "x86_64"):
            raise EmbeddedTritonError(
                f"The embedded Triton runs on Linux x86_64 only, and this is {self.system} {self.machine}. "
                "Point a configuration at a Triton that runs elsewhere instead."
            )
        if self.python not in PYTHON_VERSIONS:
            usable = " or ".join(".".join(map(str, pair)) for pair in PYTHON_VERSIONS)
            raise EmbeddedTritonError(
                f"The embedded Triton's Python backend needs Python {usable}, and this is Python {version}. "
                f"Run it from a virtual environment made with Python {usable}."
            )
        if self.glibc is None or self.glibc < GLIBC_NEEDED:
            found = "another C library" if self.glibc is None else f"glibc {'.'.join(map(str, self.glibc))}"
            raise EmbeddedTritonError(
                f"The embedded Triton needs glibc {'.'.join(map(str, GLIBC_NEEDED))} or newer, and this system has "
                f"{found}. Debian 12, Ubuntu 22.04 and later have it."
            )
        if self.libpython is None:
            raise EmbeddedTritonError(
                f"The embedded Triton's Python backend loads libpython{version}.so.1.0, and there is none for "
                f"{sys.base_prefix}. Install it (Debian and Ubuntu: the package libpython{version}), or use a Python "
                "that was built with --enable-shared."
            )


@dataclass(frozen=True, slots=True)
class TritonEnvironment:
    """A finished environment on disk. `libpython` is the folder of this Python's shared library."""

    root: Path
    libpython: Path

    @property
    def python(self) -> Path:
        return self.root / "bin" / "python3"

    @property
    def site_packages(self) -> Path:
        return self.root / "lib" / f"python{_python_version()}" / "site-packages"

    @property
    def tritonserver(self) -> Path:
        return self.site_packages / "pytriton" / "tritonserver"

    @property
    def server_binary(self) -> Path:
        return self.tritonserver / "bin" / "tritonserver"

    @property
    def server_libraries(self) -> Path:
        return self.site_packages / "nvidia_pytriton.libs"

    @property
    def backends(self) -> Path:
        return self.tritonserver / "backends"

    @property
    def caches(self) -> Path:
        return self.tritonserver / "caches"

    def link_installation(self, folder: Path) -> None:
        """Makes `folder`, which is empty, look as Triton does where it is installed: for those who load its library."""
        (folder / "lib").mkdir()
        [library] = self.server_libraries.glob("libtritonserver-*.so")
        (folder / "lib" / "libtritonserver.so").symlink_to(library)
        (folder / "backends").symlink_to(self.backends)
        (folder / "caches").symlink_to(self.caches)

    @property
    def made(self) -> bool:
        """Whether it was finished, and the Python that it was made from is still there."""
        return (self.root / MADE_MARKER).exists() and self.python.exists() and self.server_binary.exists()

    def variables(self) -> dict[str, str]:
        """The process environment for the server: ours, with its libraries and its Python put first.

        The Python backend's stub takes the site-packages of the first `python3` on PATH.
        """
        libraries = [str(self.server_libraries), str(self.libpython), os.environ.get("LD_LIBRARY_PATH", "")]
        return {
            **_without_python_variables(),
            "PATH": os.pathsep.join([str(self.python.parent), os.environ.get("PATH", os.defpath)]),
            "LD_LIBRARY_PATH": os.pathsep.join(part for part in libraries if part),
            "PYTHONDONTWRITEBYTECODE": "1",  # the model repository is inside an installed package
        }


Installer = Callable[[TritonEnvironment, Progress], None]


def find_environment(cache: Path | None = None) -> TritonEnvironment:
    """Where the environment for this Python is, or will be; whether it is made, says its `made`.

    Raises EmbeddedTritonError if Triton cannot run on this platform.
    """
    here = Platform.here()
    here.check()
    assert here.libpython is not None
    return TritonEnvironment((cache or cache_folder()) / f"triton-{_key()}", here.libpython)


def make_environment(
    progress: Progress, *, cache: Path | None = None, install: Installer | None = None
) -> TritonEnvironment:
    """The finished environment: made if there is none yet, or only an interrupted one.

    Several processes may call this at once: one makes it, the others wait. Raises EmbeddedTritonError where the
    platform, the disk or pip does not allow it.
    """
    environment = find_environment(cache)
    if environment.made:
        return environment
    try:
        environment.root.parent.mkdir(parents=True, exist_ok=True)
        with _locked(environment.root.with_suffix(".lock"), progress):
            if not environment.made:
                shutil.rmtree(environment.root, ignore_errors=True)
                (install or _install)(environment, progress)
                (environment.root / MADE_MARKER).touch()
    except OSError as error:
        raise EmbeddedTritonError(
            f"The embedded Triton's environment cannot be made in {environment.root.parent}: {error}. "
            "Set TRITON_CANARY_CACHE to a folder that can be written and has 500 MB free."
        ) from error
    return environment


def cache_folder() -> Path:
    """The folder for what is made once: TRITON_CANARY_CACHE, else triton-canary in the user's cache."""
    if chosen := os.environ.get("TRITON_CANARY_CACHE"):
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "triton-canary"


def find_libpython() -> Path | None:
    """The folder that holds this Python's shared library; None if there is none."""
    name = f"libpython{_python_version()}.so.1.0"
    libdir, multiarch = sysconfig.get_config_var("LIBDIR") or "", sysconfig.get_config_var("MULTIARCH") or ""
    for folder in (Path(sys.base_prefix, "lib"), Path(libdir), Path(libdir, multiarch)):
        if (folder / name).exists():
            return folder
    return _loaded_from(name)


def _loaded_from(name: str) -> Path | None:
    """Where the dynamic loader itself finds the library: a folder of its configuration."""
    try:
        ctypes.CDLL(name)
    except OSError:
        return None
    for line in Path("/proc/self/maps").read_text().splitlines():
        if line.endswith(f"/{name}"):
            return Path(line.split(maxsplit=5)[-1]).parent
    return None


def _install(environment: TritonEnvironment, progress: Progress) -> None:
    progress(f"making the embedded Triton's environment in {environment.root} (once; about 320 MB)")
    _run_told([sys.executable, "-m", "venv", str(environment.root)], progress)
    with importlib.resources.as_file(importlib.resources.files(__package__) / "triton-constraints.txt") as requirements:
        pip = [str(environment.python), "-m", "pip", "--disable-pip-version-check", "--no-input"]
        options = ["--no-deps", "--only-binary", ":all:", "--progress-bar", "off", "--no-warn-script-location"]
        _run_told([*pip, "install", *options, "--requirement", str(requirements)], progress)
    stub = environment.tritonserver / "python_backend_stubs" / _python_version() / "triton_python_backend_stub"
    shutil.copy2(stub, environment.backends / "python")


def _run_told(command: list[str], progress: Progress) -> None:
    """Runs a command, telling its milestones; raises EmbeddedTritonError with its last lines if it fails."""
    last_lines: deque[str] = deque(maxlen=PIP_LINES_KEPT)
    variables = _without_python_variables()
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=variables
    ) as process:
        assert process.stdout is not None
        try:
            for line in map(str.strip, process.stdout):
                last_lines.append(line)
                if line.startswith(PIP_LINES_TOLD):
                    progress(line.split(" (from ")[0])
        except BaseException:
            process.kill()
            raise
    if process.returncode != 0:
        raise EmbeddedTritonError(
            f"The embedded Triton's environment could not be made: {' '.join(command[:4])} … ended with status "
            f"{process.returncode}. Its last lines:\n" + "\n".join(f"  {line}" for line in last_lines)
        )


@contextlib.contextmanager
def _locked(path: Path, progress: Progress) -> Iterator[None]:
    """Holds the lock file; it is left behind, since removing it would let two processes hold two locks."""
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            progress("waiting for another process that makes the embedded Triton's environment")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _key() -> str:
    """Changes with all that the environment is made from."""
    requirements = (importlib.resources.files(__package__) / "triton-constraints.txt").read_text()
    return hashlib.sha256(f"{requirements}\n{sys.version}\n{sys.base_prefix}".encode()).hexdigest()[:16]


def _without_python_variables() -> dict[str, str]:
    """Our process environment, less what would point the other environment's Python at our packages."""
    return {name: value for name, value in os.environ.items() if name not in ("PYTHONHOME", "PYTHONPATH")}


def _python_version() -> str:
    return f"{sys.version_info.major}.{sys.version_info.minor}"


def _glibc_version() -> tuple[int, int] | None:
    try:
        name, version = (os.confstr("CS_GNU_LIBC_VERSION") or "").split()
        major, minor = version.split(".")[:2]
    except (ValueError, OSError):
        return None
    return (int(major), int(minor)) if name == "glibc" else None
