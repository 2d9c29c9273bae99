"""What this machine must have before anything is installed: the product's own needs, and the embedded Triton's.

The one place of these rules. `make` asks before the first download, with the system's Python, as
`python3 -m exporter.demo.machine product|demo`; the demo asks again when it makes its environment; and
`triton-canary demo --check` prints the whole list. Standard library only, and importable by Pythons that the product
does not run on: one that is too old shall read a sentence, not a traceback.
"""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from exporter.demo.cache import cache_folder
from exporter.demo.libpython import (
    FETCH_SIZE,
    LibpythonError,
    can_fetch,
    find_libpython,
    lacking_text,
    library_name,
    provide_libpython,
)

PRODUCT_PYTHON = (3, 11)
"""The oldest that the product runs on."""
TRITON_PYTHONS = ((3, 11), (3, 12), (3, 13))
"""What the wheel has a stub for, and this package runs on."""
GLIBC_NEEDED = (2, 35)
"""From the wheel's tag, manylinux_2_35."""
CACHE_MB, VENV_MB, TEMPORARY_MB, SHARED_MEMORY_MB = 450, 450, 100, 16
"""Free space: the environment of the embedded Triton, the product's own, the largest download (which pip keeps in the
temporary folder), and a region of 1 MB for each of its models with as much again for their tensors."""
INDEX_TIMEOUT_SECONDS = 20
SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 (not a place for temporary files: where POSIX shared memory lives)


@dataclass(frozen=True)
class Machine:
    """What of this machine decides whether the product and the embedded Triton run on it.

    `glibc` is None under another C library; `libpython` is whether Python's shared library is there or can be fetched,
    `venv` whether this Python makes virtual environments with pip. Without slots: Python 3.9 has none here.
    """

    system: str
    machine: str
    python: tuple[int, int]
    glibc: tuple[int, int] | None
    libpython: bool
    venv: bool

    @classmethod
    def here(cls) -> Machine:
        return cls(
            system=platform.system(),
            machine=platform.machine(),
            python=(sys.version_info[0], sys.version_info[1]),
            glibc=_glibc_version(),
            libpython=find_libpython() is not None or can_fetch(),
            venv=all(importlib.util.find_spec(name) is not None for name in ("venv", "ensurepip")),
        )

    def product_lacks(self) -> list[str]:
        """What the product lacks here: one paragraph each, with the way out."""
        lacks = []
        if self.python < PRODUCT_PYTHON:
            lacks.append(
                f"Python {_dotted(PRODUCT_PYTHON)} or newer is needed, and this is Python {_dotted(self.python)} "
                f"({sys.executable}). Debian 12 and Ubuntu 24.04 have it. With another Python: make "
                "PYTHON=/path/to/python3.12"
            )
        elif not self.venv:
            lacks.append(
                f"{sys.executable} cannot make virtual environments: its modules venv and ensurepip are missing. "
                "Debian and Ubuntu: apt-get install python3-venv"
            )
        return lacks

    def triton_lacks(self) -> list[str]:
        """What the embedded Triton lacks here: likewise."""
        if (self.system, self.machine) != ("Linux", "x86_64"):
            return [
                f"The embedded Triton runs on Linux x86_64 only, and this is {self.system} {self.machine}. "
                "Point a configuration at a Triton that runs elsewhere instead."
            ]
        lacks = []
        if self.glibc is None or self.glibc < GLIBC_NEEDED:
            found = "another C library" if self.glibc is None else f"glibc {_dotted(self.glibc)}"
            lacks.append(
                f"The embedded Triton needs glibc {_dotted(GLIBC_NEEDED)} or newer, and this system has {found}. "
                "Debian 12, Ubuntu 22.04 and later have it."
            )
        if self.python not in TRITON_PYTHONS:
            lacks.append(
                f"The embedded Triton's Python backend needs Python {_dotted(TRITON_PYTHONS[0])} to "
                f"{_dotted(TRITON_PYTHONS[-1])}, and this is Python {_dotted(self.python)}. Run it with one of these: "
                f"make PYTHON=/path/to/python{_dotted(TRITON_PYTHONS[-1])} demo"
            )
        elif not self.libpython:
            lacks.append(lacking_text())
        return lacks


def space_lacks(needs: Sequence[tuple[Path, int]]) -> list[str]:
    """Which of these folders, which need not exist yet, cannot be written or have not so many MB free."""
    by_device: dict[int, tuple[Path, int]] = {}
    lacks = []
    for folder, megabytes in needs:
        existing = next(each for each in (folder.absolute(), *folder.absolute().parents) if each.exists())
        if not os.access(existing, os.W_OK):
            lacks.append(f"{folder} is needed, and {existing} cannot be written.")
            continue
        device = existing.stat().st_dev
        first, sum_so_far = by_device.get(device, (existing, 0))
        by_device[device] = first, sum_so_far + megabytes
    for folder, megabytes in by_device.values():
        free = shutil.disk_usage(folder).free // 1_000_000
        if free < megabytes:
            lacks.append(f"{megabytes} MB of free space are needed in {folder}, and {free} MB are left.")
    return lacks


def demo_space() -> list[tuple[Path, int]]:
    """What the demo needs below which folder, for `space_lacks`; nothing for what is made already."""
    needs = [(SHARED_MEMORY, SHARED_MEMORY_MB)]
    if not _triton_made():
        needs += [(cache_folder(), CACHE_MB), (Path(tempfile.gettempdir()), TEMPORARY_MB)]
    return needs


def index_lacks(python: str) -> list[str]:
    """Whether that Python's pip reaches its package index, asked for a package that is installed later anyway."""
    command = [python, "-m", "pip", "--disable-pip-version-check", "--no-input", "--retries", "0"]
    command += ["--timeout", str(INDEX_TIMEOUT_SECONDS), "index", "versions", "prometheus-client"]
    done = subprocess.run(command, check=False, stdin=subprocess.DEVNULL, capture_output=True)
    if done.returncode == 0:
        return []
    last = next(reversed(done.stderr.decode(errors="replace").strip().splitlines()), "no reason given")
    return [
        f"pip does not reach its package index: {last.strip()} A mirror or a proxy is set by PIP_INDEX_URL, "
        "PIP_PROXY or in pip.conf."
    ]


def main(arguments: Sequence[str], show: Callable[[str], None] = print) -> int:
    """Exit status 0 if nothing is lacking, else 1, with what is lacking on stderr. The one argument is what for:

    - `product`: to install the product in .venv here;
    - `index`: to install packages with this very Python;
    - `demo`: for the demo as well. Where Python's shared library is missing, it is then fetched: the first download of
      all, since it is the smallest and the likeliest to fail;
    - `check`: all of these, without a download; what would be downloaded is printed.
    """
    (wanted,) = arguments
    here = Machine.here()
    lacks = []
    if wanted != "index" and not Path(".venv", ".installed").exists():
        lacks += here.product_lacks() or (space_lacks([(Path(), VENV_MB)]) if wanted != "check" else [])
    if wanted in ("demo", "check") and not lacks:
        lacks += [*here.triton_lacks(), *space_lacks(demo_space())]
    if wanted == "demo" and not lacks:
        lacks += _libpython_lacks()
    if wanted == "index" or (wanted == "check" and not _triton_made() and importlib.util.find_spec("pip")):
        lacks += index_lacks(sys.executable)
    for lack in lacks:
        print(lack, file=sys.stderr)
    if wanted == "check" and not lacks:
        show("\n".join(_downloads()) or "Nothing is lacking, and nothing is left to download.")
    return 1 if lacks else 0


def _downloads() -> list[str]:
    """What the demo would download here, a line each."""
    lines = []
    if find_libpython() is None:
        lines.append(f"{library_name()}, which the system lacks: by apt-get, to {cache_folder()}; {FETCH_SIZE}")
    if not _triton_made():
        lines.append(f"the embedded Triton's environment: by pip, to {cache_folder()}; 105 MB, {CACHE_MB} MB unpacked")
    return ["Nothing is lacking. The demo will download, once:", *(f"  {line}" for line in lines)] if lines else []


def _triton_made() -> bool:
    """Whether some environment of the embedded Triton is made; which one, its own module knows."""
    return any(cache_folder().glob("triton-*/.made"))


def _libpython_lacks() -> list[str]:
    try:
        provide_libpython(lambda text: print(f"==> {text}", flush=True))
    except LibpythonError as error:
        return [str(error)]
    return []


def _dotted(version: tuple[int, int]) -> str:
    return ".".join(map(str, version))


def _glibc_version() -> tuple[int, int] | None:
    try:
        name, version = (os.confstr("CS_GNU_LIBC_VERSION") or "").split()
        major, minor = version.split(".")[:2]
    except (ValueError, OSError):
        return None
    return (int(major), int(minor)) if name == "glibc" else None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
