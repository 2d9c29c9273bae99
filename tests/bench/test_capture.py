"""Packets made by hand, and what the capture makes of them."""

from __future__ import annotations

import struct

import pytest

from bench.capture import Exchange, Packet, find_exchanges, read_packets
from bench.programs import BenchError

SERVER, CLIENT = 8000, 50000
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
REQUEST = b"POST /v2/models/m/infer HTTP/1.1\r\n\r\n"


class Conversation:
    """Packets of one connection, with the sequence numbers that TCP would give them."""

    def __init__(self, client: int = CLIENT, first_sequence: int = 0xFFFFFFF0) -> None:
        self.packets: list[Packet] = []
        self._client = client
        self._sequence = dict.fromkeys((client, SERVER), first_sequence)

    def send(self, time_ns: int, payload: bytes, *, server: bool = False) -> Conversation:
        source, destination = (SERVER, self._client) if server else (self._client, SERVER)
        self.packets.append(Packet(time_ns, source, destination, self._sequence[source], payload))
        self._sequence[source] = (self._sequence[source] + len(payload)) % (1 << 32)
        return self


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def pcap(packets: list[Packet], magic: int = 0xA1B2C3D4) -> bytes:
    unit = {0xA1B2C3D4: 1000, 0xA1B23C4D: 1}[magic]
    parts = [struct.pack("<IHHiIII", magic, 2, 4, 0, 0, 262144, 1)]
    for packet in packets:
        tcp = struct.pack(">HHIIBBHHH", packet.source, packet.destination, packet.sequence, 0, 8 << 4, 0, 0, 0, 0)
        tcp += bytes(12) + packet.payload  # 12 bytes of options
        ip = struct.pack(">BBHHHBBH4s4s", 0x45, 0, 20 + len(tcp), 0, 0, 64, 6, 0, b"\x7f\0\0\1", b"\x7f\0\0\1")
        data = bytes(12) + b"\x08\x00" + ip + tcp
        seconds, rest = divmod(packet.time_ns, 1_000_000_000)
        parts.append(struct.pack("<IIII", seconds, rest // unit, len(data), len(data)) + data)
    return b"".join(parts)


@pytest.mark.parametrize(("magic", "unit"), [(0xA1B2C3D4, 1000), (0xA1B23C4D, 1)])
def test_read_packets_gives_segments_with_payload(magic: int, unit: int) -> None:
    reported = Conversation().send(3_000_000_000 + 7 * unit, b"ping").send(4_000_000_000, b"", server=True)
    assert list(read_packets(pcap(reported.packets, magic))) == reported.packets[:1]


def test_read_packets_refuses_what_is_no_pcap_or_cut() -> None:
    with pytest.raises(BenchError, match="not a little-endian pcap"):
        list(read_packets(b"\x0a\x0d\x0d\x0a" + bytes(40)))
    data = bytearray(pcap(Conversation().send(1000, b"ping").packets))
    struct.pack_into("<I", data, 24 + 12, 9999)
    with pytest.raises(BenchError, match="cut packets"):
        list(read_packets(bytes(data)))


def test_http1_request_begins_with_its_first_packet_and_ends_with_the_last_of_the_response() -> None:
    reported = Conversation()
    for base in (100, 200):
        reported.send(base, REQUEST).send(base + 1, b"body").send(base + 7, b"HTTP/1.1 200", server=True)
        reported.send(base + 9, b"rest", server=True)
    reported.send(300, REQUEST)  # never responded
    size = len(REQUEST) + 4
    assert find_exchanges(reported.packets, SERVER, is_http2=False) == [
        Exchange(100, 109, size),
        Exchange(200, 209, size),
    ]


def test_calls_of_another_size_do_not_count() -> None:
    reported = Conversation()
    for base in (100, 200):
        reported.send(base, REQUEST).send(base + 5, b"result", server=True)
    other = Conversation(client=50001).send(150, b"GET /stats").send(160, b"result", server=True)
    found = find_exchanges([*reported.packets, *other.packets], SERVER, is_http2=False)
    assert [(each.begin_ns, each.end_ns) for each in found] == [(100, 105), (200, 205)]


def test_what_was_sent_again_counts_once_and_what_is_missing_is_an_error() -> None:
    reported = Conversation().send(100, REQUEST).send(105, b"result", server=True)
    again = reported.packets[1]
    doubled = [*reported.packets, Packet(190, again.source, again.destination, again.sequence, again.payload)]
    assert find_exchanges(doubled, SERVER, is_http2=False) == [Exchange(100, 105, len(REQUEST))]
    whole = Conversation().send(100, REQUEST).send(101, b"lost").send(102, b"body")
    with pytest.raises(BenchError, match="missing"):
        find_exchanges([whole.packets[0], whole.packets[2]], SERVER, is_http2=False)


def test_nothing_captured_is_an_error() -> None:
    with pytest.raises(BenchError, match="no whole request"):
        find_exchanges([], SERVER, is_http2=True)


def test_http2_request_begins_with_headers_and_ends_with_end_stream() -> None:
    reported = Conversation().send(10, PREFACE + frame(4, 0, 0)).send(11, frame(4, 0, 0), server=True)
    request = frame(1, 4, 1, b"block") + frame(0, 1, 1, b"message")
    reported.send(100, request[:20]).send(103, request[20:])  # cut inside of the DATA frame
    reported.send(110, frame(1, 4, 1, b"head") + frame(0, 0, 1, b"an")[:6], server=True)
    reported.send(112, frame(0, 0, 1, b"an")[6:] + frame(1, 5, 1, b"trailers") + frame(8, 0, 0, bytes(4)), server=True)
    assert find_exchanges(reported.packets, SERVER, is_http2=True) == [Exchange(100, 112, 7)]


def test_http2_streams_side_by_side_are_reported_apart() -> None:
    reported = Conversation().send(10, PREFACE)
    reported.send(100, frame(1, 4, 1) + frame(0, 1, 1, b"x")).send(105, frame(1, 4, 3) + frame(0, 1, 3, b"x"))
    reported.send(120, frame(1, 5, 3), server=True).send(130, frame(0, 1, 1), server=True)
    assert find_exchanges(reported.packets, SERVER, is_http2=True) == [Exchange(100, 130, 1), Exchange(105, 120, 1)]
