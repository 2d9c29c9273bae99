"""What is sent compressed: by the standard library's reading of the same formats."""

from __future__ import annotations

import gzip
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.wire.codings import compress, decompress


@given(st.binary(max_size=5000))
def test_everybody_can_read_it(data: bytes) -> None:
    assert gzip.decompress(compress(data, "gzip")) == data
    assert zlib.decompress(compress(data, "deflate")) == data
    for coding in ("gzip", "deflate"):
        assert decompress(compress(data, coding), coding, len(data)) == data


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
def test_no_time_is_in_it(coding: str) -> None:
    packed = compress(bytes(100_000), coding)
    assert packed == compress(bytes(100_000), coding)
    assert len(packed) < 200
    if coding == "gzip":
        assert packed[4:8] == bytes(4)  # MTIME, RFC 1952 section 2.3
