"""The client certificate and key as PEM, from PEM or DER files.

Owns reading these files, and that a key is never written to disk. Knows nothing of contexts.
"""

from __future__ import annotations

import base64
import contextlib
import os
import ssl
from collections.abc import Iterator
from pathlib import Path

_DER_SEQUENCE = b"\x30"
_PEM_KEY_LABELS = {0x30: "PRIVATE KEY", 0x04: "EC PRIVATE KEY", 0x02: "RSA PRIVATE KEY"}
"""By the tag after the version: PKCS #8 (RFC 5958), SEC 1 (RFC 5915), PKCS #1 (RFC 8017 appendix A.1.2)."""


def read_file(path: str) -> bytes:
    """The file's content. Raises OSError with the file's name."""
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise OSError(f"TLS file {path} cannot be read: {error.strerror}") from error


def certificate_pem(path: str) -> bytes:
    """The certificate as PEM; a PEM file may include its chain. Raises OSError."""
    data = read_file(path)
    return ssl.DER_cert_to_PEM_cert(data).encode() if data.startswith(_DER_SEQUENCE) else data


def key_pem(path: str) -> bytes:
    """The private key as PEM. Raises OSError."""
    data = read_file(path)
    if not data.startswith(_DER_SEQUENCE):
        return data
    try:
        fields = der_element(data, 0)[1]
        label = _PEM_KEY_LABELS[fields[der_element(fields, 0)[2]]]
    except (ValueError, IndexError, KeyError):
        raise OSError(f"TLS file {path} holds no private key, neither as PEM nor as DER") from None
    lines = base64.encodebytes(data).decode()
    return f"-----BEGIN {label}-----\n{lines}-----END {label}-----\n".encode()


def der_element(der: bytes, start: int) -> tuple[int, bytes, int]:
    """The DER element (X.690) at `start`: tag, content, end position. Raises ValueError or IndexError if it is
    truncated."""
    tag, length, begin = der[start], der[start + 1], start + 2
    if length & 0x80:
        size = length & 0x7F
        length = int.from_bytes(der[begin : begin + size], "big")
        begin += size
    if begin + length > len(der):
        raise ValueError("cut off")
    return tag, der[begin : begin + length], begin + length


@contextlib.contextmanager
def path_in_memory(data: bytes) -> Iterator[str]:
    """A temporary path to `data` in memory: `ssl` loads certificates and keys only by path."""
    descriptor = os.memfd_create("tls")
    with open(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        yield f"/proc/self/fd/{descriptor}"
