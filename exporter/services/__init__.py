"""Service kinds: one module each, found here by name. Importing this package loads none of them."""

from __future__ import annotations

from collections.abc import Callable

from exporter.services.base import Service


def _triton() -> Service:
    from exporter.services.triton import TritonService

    return TritonService()


KINDS: dict[str, Callable[[], Service]] = {"triton": _triton}
"""What makes the service of each kind that a target may have."""
