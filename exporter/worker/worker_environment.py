"""What of the daemon's environment a worker has: what programs and libraries need, and of secrets those of the headers
that its commands send. It parses what servers send; what it does not have cannot be read out of it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, MutableMapping

from exporter.core.target import Target

_NEEDED = """
    PATH HOME USER LOGNAME LANG LANGUAGE TZ TMPDIR VIRTUAL_ENV SSL_CERT_FILE SSL_CERT_DIR XDG_CACHE_HOME HOSTNAME
"""
_NAMES = frozenset(_NEEDED.split())
_PREFIXES = (
    *("LC_", "PYTHON", "LD_", "MALLOC_", "GLIBC_", "OMP_", "OPENBLAS_", "MKL_", "COVERAGE_", "COV_CORE_"),
    # For a Triton in the worker's own process, and its backends.
    *("CUDA_", "NVIDIA_", "NV_", "DCGM_", "NCCL_", "UCX_", "TF_", "TORCH_", "ORT_", "TRITON_", "TRITONSERVER_"),
)
_OURS = "TRITON_CANARY_"


def base_environment(environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """What a worker is started with."""
    return {
        name: value
        for name, value in environ.items()
        if name in _NAMES or (name.startswith(_PREFIXES) and not name.startswith(_OURS))
    }


def header_environment(target: Target, environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The variables that the target's headers are read from, as they are now."""
    headers = (*target.headers, *target.management_headers)
    return {header.env: environ[header.env] for header in headers if header.env in environ}


class HeaderVariables:
    """In the worker: those of the sweep that is under way, and of none before."""

    def __init__(self, environ: MutableMapping[str, str] = os.environ) -> None:
        self._environ = environ
        self._names: set[str] = set()

    def set(self, given: Mapping[str, str]) -> None:
        """Takes these in, beside those that there are."""
        self._names |= {name for name in given if name not in self._environ}
        self._environ.update(given)

    def clear(self) -> None:
        """Forgets them."""
        for name in self._names:
            self._environ.pop(name, None)
        self._names.clear()
