"""Makes, once, the virtual environment that holds the embedded Triton: the nvidia-pytriton wheel and what the sample
models import.

It lives in a cache outside the checkout: it is large, and the product must not inherit its pins. Knows pip, venv and
the layout of the wheel; must not know how the server is started or what it is used for.
"""

from __future__ import annotations

import hashlib
import importlib.resources
import os
import shutil
import subprocess
import sys
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from exporter.core.errors import TritonCanaryError
from exporter.demo.cache import Progress, cache_folder, locked
from exporter.demo.libpython import LibpythonError, library_name, provide_libpython, python_version
from exporter.demo.machine import Machine, demo_space, space_lacks

MADE_MARKER = ".made"
PIP_LINES_KEPT = 12
PIP_LINES_SHOWN = ("Collecting", "Downloading", "Installing")


class EmbeddedTritonError(TritonCanaryError):
    """The embedded Triton cannot be made or started here; the text is one paragraph for the person who asked for it."""


@dataclass(frozen=True, slots=True)
class TritonEnvironment:
    """A finished environment on disk."""

    root: Path

    @property
    def python(self) -> Path:
        return self.root / "bin" / "python3"

    @property
    def site_packages(self) -> Path:
        return self.root / "lib" / f"python{python_version()}" / "site-packages"

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
        """Whether it was finished, and the Python that it was made from and its library are still there."""
        needed = (self.root / MADE_MARKER, self.python, self.server_binary, self.server_libraries / library_name())
        return all(path.exists() for path in needed)

    def variables(self) -> dict[str, str]:
        """The process environment for the server: ours, with its libraries and its Python put first.

        The Python backend's stub takes the site-packages of the first `python3` on PATH.
        """
        libraries = [str(self.server_libraries), os.environ.get("LD_LIBRARY_PATH", "")]
        return {
            **_without_python_variables(),
            "PATH": os.pathsep.join([str(self.python.parent), os.environ.get("PATH", os.defpath)]),
            "LD_LIBRARY_PATH": os.pathsep.join(part for part in libraries if part),
            "PYTHONDONTWRITEBYTECODE": "1",  # the model repository is inside an installed package
        }


Installer = Callable[[TritonEnvironment, Progress], None]


def find_environment(cache: Path | None = None) -> TritonEnvironment:
    """Where the environment for this Python is, or will be; whether it is made, its `made` reports.

    Raises EmbeddedTritonError if Triton cannot run on this machine.
    """
    if lacks := Machine.here().triton_lacks():
        raise EmbeddedTritonError(" ".join(lacks))
    return TritonEnvironment((cache or cache_folder()) / f"triton-{_key()}")


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
        with locked(environment.root.with_suffix(".lock"), "the embedded Triton's environment", progress):
            if not environment.made:
                if lacks := space_lacks(demo_space()):
                    raise EmbeddedTritonError(" ".join(lacks))
                shutil.rmtree(environment.root, ignore_errors=True)
                (install or _install)(environment, progress)
                (environment.root / MADE_MARKER).touch()
    except OSError as error:
        raise EmbeddedTritonError(
            f"The embedded Triton's environment cannot be made in {environment.root.parent}: {error}. "
            "Set TRITON_CANARY_CACHE to a folder that can be written and has 500 MB free."
        ) from error
    return environment


def _install(environment: TritonEnvironment, progress: Progress) -> None:
    try:
        libpython = provide_libpython(progress)
    except LibpythonError as error:
        raise EmbeddedTritonError(str(error)) from error
    progress(f"making the embedded Triton's environment in {environment.root} (once; about 320 MB)")
    _run_with_progress([sys.executable, "-m", "venv", str(environment.root)], progress)
    with importlib.resources.as_file(importlib.resources.files(__package__) / "triton-constraints.txt") as requirements:
        pip = [str(environment.python), "-m", "pip", "--disable-pip-version-check", "--no-input"]
        options = ["--no-deps", "--only-binary", ":all:", "--progress-bar", "off", "--no-warn-script-location"]
        _run_with_progress([*pip, "install", *options, "--requirement", str(requirements)], progress)
    stub = environment.tritonserver / "python_backend_stubs" / python_version() / "triton_python_backend_stub"
    shutil.copy2(stub, environment.backends / "python")
    link_libpython(environment, libpython)


def link_libpython(environment: TritonEnvironment, libpython: Path) -> None:
    """Puts this Python's shared library where the stub looks for it first, under each name that it may ask for.

    The stub of Python 3.13 asks for a libpython that the wheel brings along. That one was built with most of the
    standard library's extension modules outside of it, and they are not in the wheel.
    """
    folder = environment.server_libraries
    bundled = [path.name for path in folder.glob(f"libpython3-*.{sys.version_info.minor}.so.1.0")]
    for name in (library_name(), *bundled):
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to(libpython)


def _run_with_progress(command: list[str], progress: Progress) -> None:
    """Runs a command, reporting its milestones; raises EmbeddedTritonError with its last lines if it fails."""
    last_lines: deque[str] = deque(maxlen=PIP_LINES_KEPT)
    variables = _without_python_variables()
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=variables
    ) as process:
        assert process.stdout is not None
        try:
            for line in map(str.strip, process.stdout):
                last_lines.append(line)
                if line.startswith(PIP_LINES_SHOWN):
                    progress(line.split(" (from ")[0])
        except BaseException:
            process.kill()
            raise
    if process.returncode != 0:
        raise EmbeddedTritonError(
            f"The embedded Triton's environment could not be made: {' '.join(command[:4])} … ended with status "
            f"{process.returncode}. Its last lines:\n" + "\n".join(f"  {line}" for line in last_lines)
        )


def _key() -> str:
    """Changes with all that the environment is made from."""
    requirements = (importlib.resources.files(__package__) / "triton-constraints.txt").read_text()
    return hashlib.sha256(f"{requirements}\n{sys.version}\n{sys.base_prefix}".encode()).hexdigest()[:16]


def _without_python_variables() -> dict[str, str]:
    """Our process environment, less what would point the other environment's Python at our packages."""
    return {name: value for name, value in os.environ.items() if name not in ("PYTHONHOME", "PYTHONPATH")}
