"""Service kinds: one module each, found here by name. Importing this package loads none of them."""

from __future__ import annotations

from collections.abc import Callable

from exporter.services.base import Service


def _triton() -> Service:
    from exporter.services.triton import TritonService

    return TritonService()


def _triton_in_process() -> Service:
    from exporter.services.triton_in_process import InProcessService

    return InProcessService()


KINDS: dict[str, Callable[[], Service]] = {
    "triton": _triton,
    "triton_in_process": _triton_in_process,
}
"""What makes the service of each kind that a target may have."""
