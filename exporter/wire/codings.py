"""Compression: gzip and deflate, as HTTP (RFC 9110 section 8.4.1) and gRPC both mean them; of bodies both ways."""

from __future__ import annotations

import zlib

from exporter.core.bounds import GZIP_MEMBERS
from exporter.core.errors import ProtocolError

WINDOW_BITS = {"deflate": zlib.MAX_WBITS, "gzip": zlib.MAX_WBITS | 16}
"""zlib's parameter for each coding. "deflate" is zlib's format (RFC 1950), not the bare one that its name suggests."""


def compress(data: bytes, coding: str) -> bytes:
    """`data` under gzip or deflate, at zlib's default level. The same data gives the same bytes: no time is in them."""
    compressor = zlib.compressobj(wbits=WINDOW_BITS[coding])
    return compressor.compress(data) + compressor.flush()


def decompress(data: bytes, encoding: str, limit: int, *, partial: bool = False) -> bytes:
    """`data` without its content codings (RFC 9110 section 8.4: gzip and deflate, which some servers send without its
    zlib wrapper).

    `partial`: as much as there is, cut at `limit`. Otherwise ProtocolError if the data is cut off, broken, or larger
    than `limit`: a bomb costs `limit` bytes, not more.
    """
    for coding in reversed([name.strip().lower() for name in encoding.split(",") if name.strip()]):
        if coding in ("gzip", "x-gzip"):
            data = _inflate(data, WINDOW_BITS["gzip"], limit, partial)
        elif coding == "deflate":
            # RFC 1950: a zlib stream's first two bytes are a multiple of 31, and its method is 8.
            wrapped = len(data) >= 2 and data[0] & 0x0F == 8 and int.from_bytes(data[:2], "big") % 31 == 0
            data = _inflate(data, WINDOW_BITS["deflate"] if wrapped else -zlib.MAX_WBITS, limit, partial)
        elif coding != "identity":
            raise ProtocolError(f"content-encoding {coding[:40]!r} was not requested")
    return data[:limit]


def _inflate(data: bytes, window_bits: int, limit: int, partial: bool) -> bytes:
    """One coding taken off. A gzip body may have several members."""
    pieces: list[bytes] = []
    left = limit
    for _member in range(GZIP_MEMBERS):
        if not data:
            break
        inflater = zlib.decompressobj(window_bits)
        try:
            piece = inflater.decompress(data, left + 1)
        except zlib.error as error:
            raise ProtocolError(f"the compressed body is invalid: {error}") from None
        pieces.append(piece)
        left -= len(piece)
        if left < 0 and not partial:
            raise ProtocolError(f"a compressed body of more than {limit} bytes")
        if not inflater.eof:
            if partial:
                break
            raise ProtocolError("the compressed body is incomplete")
        data = inflater.unused_data
        if left < 0 or not window_bits & 16:
            break
    return b"".join(pieces)
