"""The little of DER (X.690) that certificates and keys ask of us. Pure."""

from __future__ import annotations


def content(der: bytes, start: int) -> tuple[int, bytes, int]:
    """The element at `start`: its tag, its content and where it ends. Raises ValueError or IndexError if it is cut."""
    tag, length, begin = der[start], der[start + 1], start + 2
    if length & 0x80:
        size = length & 0x7F
        length = int.from_bytes(der[begin : begin + size], "big")
        begin += size
    if begin + length > len(der):
        raise ValueError("cut off")
    return tag, der[begin : begin + length], begin + length
