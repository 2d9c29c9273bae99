"""What of the daemon's environment a worker has: what programs and libraries need, and of secrets those of the headers
that its commands send. It parses what servers send; what it does not have cannot be read out of it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, MutableMapping
from dataclasses import replace

from exporter.core.errors import PreflightError, TransportError
from exporter.core.outcome import Reason
from exporter.core.target import Header, Target
from exporter.transport.headers import read_headers

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


def without_header_files(target: Target, environ: Mapping[str, str] = os.environ) -> tuple[Target, dict[str, str]]:
    """The target for a worker on another machine, and the variables that its headers are read from: a file's content
    of now is one of them. Raises PreflightError for a file that can't be read."""
    variables = header_environment(target, environ)

    def moved(headers: tuple[Header, ...]) -> tuple[Header, ...]:
        return tuple(replace(header, file="", env=variable(header)) if header.file else header for header in headers)

    def variable(header: Header) -> str:
        name = f"{_OURS}HEADER_FILE_{len(variables)}"
        try:
            ((_, variables[name]),) = read_headers([replace(header, prefix="")])
        except TransportError as error:
            raise PreflightError(Reason.AUTH, str(error)) from error
        return name

    there = replace(target, headers=moved(target.headers), management_headers=moved(target.management_headers))
    return there, variables


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
