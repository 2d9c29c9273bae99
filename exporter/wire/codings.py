"""Compression of what is sent: gzip and deflate, as HTTP (RFC 9110 section 8.4.1) and gRPC both mean them."""

from __future__ import annotations

import zlib

WINDOW_BITS = {"deflate": zlib.MAX_WBITS, "gzip": zlib.MAX_WBITS | 16}
"""zlib's parameter for each coding. "deflate" is zlib's format (RFC 1950), not the bare one that its name suggests."""


def compress(data: bytes, coding: str) -> bytes:
    """`data` under gzip or deflate, at zlib's default level. The same data gives the same bytes: no time is in them."""
    compressor = zlib.compressobj(wbits=WINDOW_BITS[coding])
    return compressor.compress(data) + compressor.flush()
