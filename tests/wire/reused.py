"""Bytes as a connection hands them on: a view of memory that its next read overwrites."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def reused(receive: Callable[[memoryview], T], data: bytes) -> T:
    """What `receive` makes of a view of these bytes, which are no more once it has returned."""
    memory = bytearray(data)
    try:
        return receive(memoryview(memory))
    finally:
        memory[:] = b"\xaa" * len(memory)
