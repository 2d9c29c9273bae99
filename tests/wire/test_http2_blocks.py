"""The HTTP/2 core against frames made by hand: which header blocks are remembered."""

from __future__ import annotations

from exporter.wire.hpack_blocks import encode_block
from exporter.wire.http2_frames import (
    END_HEADERS,
    END_STREAM,
    HEADERS,
    frame,
)
from tests.wire.http2_peers import (
    ready_core,
    started,
)


def test_blocks_are_remembered_only_once_the_table_is_empty() -> None:
    core = ready_core()
    streams = [started(core) for _ in range(4)]
    indexed = b"\x40\x01a\x01b"
    core.receive(frame(HEADERS, END_HEADERS | END_STREAM, 1, b"\x88" + indexed))
    core.receive(frame(HEADERS, END_HEADERS | END_STREAM, 3, b"\x88\xbe"))
    assert core._decoder.known == {}
    core.receive(frame(HEADERS, END_HEADERS | END_STREAM, 5, b"\x20\x88" + indexed))
    core.receive(frame(HEADERS, END_HEADERS | END_STREAM, 7, b"\x20\x88" + indexed))
    assert list(core._decoder.known) == [b"\x20\x88" + indexed]
    fields = ((b":status", b"200"), (b"a", b"b"))
    assert [stream.reported for stream in streams] == [[("headers", fields, True), ("end",)]] * 4


def test_memory_of_blocks_is_bounded() -> None:
    core = ready_core()
    started(core, b"", ends=False)
    core.receive(frame(HEADERS, END_HEADERS, 1, b"\x20\x88"))
    for number in range(1000):
        block = encode_block([("grpc-status", "0"), ("x", str(number))])
        core.receive(frame(HEADERS, END_HEADERS, 1, block))
        assert len(core._decoder.known) <= 256
    core.receive(frame(HEADERS, END_HEADERS, 1, long := encode_block([("x", "y" * 600)])))
    assert long not in core._decoder.known
