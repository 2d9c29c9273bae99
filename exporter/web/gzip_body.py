"""Bodies as gzip, for those who take it. Knows HTTP's headers of it, not what is packed."""

from __future__ import annotations

import gzip
from collections.abc import Mapping

from starlette.requests import Request

_LEVEL = 4
_LEAST_BYTES = 1024


def takes_gzip(request: Request) -> bool:
    """Whether the client takes a packed body (RFC 9110, 12.5.3)."""
    wanted = [part.strip().lower() for part in ",".join(request.headers.getlist("accept-encoding")).split(",")]
    return any(part == "gzip" or (part.startswith("gzip;") and not part.endswith("q=0")) for part in wanted)


def packed(body: bytes, *, wanted: bool) -> bytes:
    """The body, packed where that is wanted and worth it."""
    return gzip.compress(body, _LEVEL, mtime=0) if wanted and len(body) >= _LEAST_BYTES else body


def headers_of(body: bytes) -> Mapping[str, str]:
    """Of a body that went through `packed`: neither HTML nor JSON begins as gzip does."""
    return {"Vary": "Accept-Encoding"} | ({"Content-Encoding": "gzip"} if body.startswith(b"\x1f\x8b") else {})
