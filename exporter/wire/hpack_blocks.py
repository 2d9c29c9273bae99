"""Header blocks: a request's encoded once, responses' decoded with a memory for those seen before (RFC 7541).

Both directions work without HPACK's dynamic table: what we send refers to the static one only, and our SETTINGS ask
the peer for a table of size 0. A server's blocks are then constant bytes, and most are found by one dictionary look-up.
"""

from __future__ import annotations

from collections.abc import Iterable

from hpack import Decoder, Encoder, HPACKError
from hpack.exceptions import OversizedHeaderListError

from exporter.core.bounds import HEADER_BLOCK, HEADER_FLOOD
from exporter.wire.http2_frames import ErrorCode, Http2Error, StreamError

Field = tuple[bytes, bytes]

TABLE_SIZE_ZERO = b"\x20"
"""HPACK's update of the dynamic table's size to 0: put before a connection's first block, it declares that none of ours
will ever use that table, whatever size the peer allows."""

_TOO_LARGE = f"headers or trailers (an error text is one of these) of more than {HEADER_BLOCK} bytes"
_MEMO_BLOCKS = 256
_MEMO_BLOCK_BYTES = 512


def encode_block(fields: Iterable[tuple[str, str]]) -> bytes:
    """A header block that stands for itself: no use of the dynamic table, so that it can be sent again as it is."""
    block: bytes = Encoder().encode([(name, value.encode("latin-1"), True) for name, value in fields])
    return block


class HeaderBlock:
    """One decoded block: the fields in their order, and by name (a name's last value; gRPC's own never repeat).

    `status` is the number in `:status`, 0 where there is none, as in trailers; -1 if it is not a number. `is_grpc` is
    whether it begins a response that is gRPC's, `is_grpc_ok` whether it ends one as ok. All are worked out once,
    however often the block comes.
    """

    __slots__ = ("fields", "is_grpc", "is_grpc_ok", "status", "values")

    def __init__(self, fields: tuple[Field, ...]) -> None:
        self.fields = fields
        self.values = dict(fields)
        text = self.values.get(b":status")
        if text is None:
            self.status = 0
        else:
            self.status = int(text) if len(text) == 3 and text.isdigit() else -1
        self.is_grpc = self.status == 200 and self.values.get(b"content-type", b"").startswith(b"application/grpc")
        self.is_grpc_ok = self.values.get(b"grpc-status") == b"0"


class BlockDecoder:
    """The decoding side of one connection. After an error it is of no more use.

    `known` holds blocks that are sure to mean the same each time: look there first.
    """

    def __init__(self) -> None:
        self.known: dict[bytes, HeaderBlock] = {}
        self._decoder = Decoder(HEADER_FLOOD)

    def decode(self, block: bytes) -> HeaderBlock:
        """Decodes a whole block that is not known. Raises Http2Error, or StreamError for one that is too large: while
        the table is of size 0 nothing after it depends on it, and else it is read for the table's sake.

        The table size that we asked for is not enforced: gRPC-core's own locally made error trailers come without the
        update that the RFC wants, and refusing them would hide the status that they carry. A block is remembered only
        while the table is known to be of size 0, because only then does it stand for itself.
        """
        if len(block) > HEADER_BLOCK and not self._decoder.header_table_size:
            raise StreamError(ErrorCode.CANCEL, _TOO_LARGE)
        try:
            fields = tuple((name, value) for name, value in self._decoder.decode(block, raw=True))
        except OversizedHeaderListError:
            if self._decoder.header_table_size:
                raise Http2Error(ErrorCode.ENHANCE_YOUR_CALM, _TOO_LARGE) from None
            raise StreamError(ErrorCode.CANCEL, _TOO_LARGE) from None
        except HPACKError as error:
            raise Http2Error(ErrorCode.COMPRESSION_ERROR, f"a header block: {error}") from None
        if sum(len(name) + len(value) for name, value in fields) > HEADER_BLOCK:
            raise StreamError(ErrorCode.CANCEL, _TOO_LARGE)
        decoded = HeaderBlock(fields)
        if self._decoder.header_table_size:
            self.known.clear()
        elif len(block) <= _MEMO_BLOCK_BYTES:
            if len(self.known) >= _MEMO_BLOCKS:
                self.known.clear()
            self.known[block] = decoded
        return decoded
