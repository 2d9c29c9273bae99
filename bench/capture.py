"""Time on the wire: captures packets on loopback and finds, for each request, its first byte and its response's last.

Reads the classic pcap format (microseconds or nanoseconds) of Ethernet frames with IPv4, which is what loopback gives.
Knows as much of HTTP/1.1 and HTTP/2 as is needed to see where requests begin and responses end.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import signal
import struct
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path

from bench.programs import BenchError

START_LIMIT_SECONDS = 10.0
SETTLE_SECONDS = 0.2
"""The last packets need to come to the capture before it is ended."""

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS = 0, 1
_END_STREAM = 0x1
_MAGICS = {0xA1B2C3D4: 1000, 0xA1B23C4D: 1}
"""The first number of a pcap file, and how many nanoseconds the unit of its stamps has."""


class NoCaptureError(Exception):
    """Packets can't be captured here; the text has the cause."""


@dataclass(frozen=True, slots=True)
class Packet:
    """A TCP segment with a payload; ports report the connection and the direction."""

    time_ns: int
    source: int
    destination: int
    sequence: int
    payload: bytes


@dataclass(frozen=True, slots=True)
class Exchange:
    """A request and its response as they were on the wire; `size` is the request's bytes."""

    begin_ns: int
    end_ns: int
    size: int


@asynccontextmanager
async def capturing(port: int, file: Path) -> AsyncIterator[None]:
    """Writes what goes to and from the port to `file`, which is whole at the end. Raises NoCaptureError."""
    process = await asyncio.create_subprocess_exec(
        *_command(port, file),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        await _started(process)
        yield
        await asyncio.sleep(SETTLE_SECONDS)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGINT)
        await process.communicate()


def _command(port: int, file: Path) -> list[str]:
    if program := shutil.which("dumpcap"):
        return [program, "-q", "-i", "lo", "-f", f"tcp port {port}", "-B", "64", "-P", "-w", str(file)]
    if program := shutil.which("tcpdump"):
        return [program, "-i", "lo", "-B", "65536", "-Z", "root", "-w", str(file), f"tcp port {port}"]
    raise NoCaptureError("neither dumpcap nor tcpdump is on the PATH")


async def _started(process: asyncio.subprocess.Process) -> None:
    assert process.stderr is not None
    reported = ""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(START_LIMIT_SECONDS):
            while line := (await process.stderr.readline()).decode(errors="replace"):
                reported += line
                if line.startswith("File:") or "listening on" in line:
                    return
    raise NoCaptureError(f"the capture did not start: {reported.strip()}")


# --- packets ---------------------------------------------------------------------------------------------------------


def read_packets(data: bytes) -> Iterator[Packet]:
    """The segments with a payload in a pcap file, in their order there."""
    magic = struct.unpack_from("<I", data)[0] if len(data) >= 24 else 0
    if magic not in _MAGICS:
        raise BenchError("the capture is not a little-endian pcap file")
    offset = 24
    while offset + 16 <= len(data):
        seconds, fraction, captured, original = struct.unpack_from("<IIII", data, offset)
        if captured < original:
            raise BenchError("the capture holds cut packets")
        frame = data[offset + 16 : offset + 16 + captured]
        offset += 16 + captured
        packet = _packet(seconds * 1_000_000_000 + fraction * _MAGICS[magic], frame)
        if packet is not None:
            yield packet


def _packet(time_ns: int, frame: bytes) -> Packet | None:
    ip = frame[14:]
    if frame[12:14] != b"\x08\x00" or ip[9] != 6:
        return None
    length = struct.unpack_from(">H", ip, 2)[0]
    tcp = ip[(ip[0] & 0x0F) * 4 : length]
    source, destination, sequence = struct.unpack_from(">HHI", tcp)
    payload = tcp[(tcp[12] >> 4) * 4 :]
    return Packet(time_ns, source, destination, sequence, payload) if payload else None


# --- exchanges -------------------------------------------------------------------------------------------------------


def read_exchanges(file: Path, server_port: int, *, is_http2: bool) -> list[Exchange]:
    """`find_exchanges` in a pcap file."""
    return find_exchanges(read_packets(file.read_bytes()), server_port, is_http2=is_http2)


def find_exchanges(packets: Iterable[Packet], server_port: int, *, is_http2: bool) -> list[Exchange]:
    """The inference requests, by the time of their first byte. Connections carry other calls too, which are few: what
    counts are the requests of the most common size. BenchError if there are none, or packets are missing."""
    by_client = sorted(packets, key=lambda packet: _client_port(packet, server_port))
    found: list[Exchange] = []
    for _, connection in groupby(by_client, key=lambda packet: _client_port(packet, server_port)):
        ordered = _in_order(list(connection))
        found += _http2_exchanges(ordered, server_port) if is_http2 else _http1_exchanges(ordered, server_port)
    if not found:
        raise BenchError("no whole request was captured")
    [(size, _)] = Counter(exchange.size for exchange in found).most_common(1)
    return sorted((each for each in found if each.size == size), key=lambda each: each.begin_ns)


def _client_port(packet: Packet, server_port: int) -> int:
    return packet.source if packet.destination == server_port else packet.destination


def _in_order(packets: list[Packet]) -> Iterator[Packet]:
    """The packets as they were on the wire, without what was sent again on a machine so busy that TCP thought it
    lost. BenchError if one is missing."""
    following: dict[int, int] = {}
    for packet in sorted(packets, key=lambda packet: packet.time_ns):
        ahead = (packet.sequence - following.get(packet.source, packet.sequence)) % (1 << 32)
        if ahead == 0:
            following[packet.source] = (packet.sequence + len(packet.payload)) % (1 << 32)
            yield packet
        elif ahead < 1 << 31:
            raise BenchError("packets are missing from the capture")


def _http1_exchanges(packets: Iterable[Packet], server_port: int) -> Iterator[Exchange]:
    """Requests and responses take turns on a connection."""
    begin_ns = end_ns = size = 0
    for packet in packets:
        if packet.source == server_port:
            end_ns = packet.time_ns
            continue
        if end_ns and size:
            yield Exchange(begin_ns, end_ns, size)
        if end_ns or not size:
            begin_ns, end_ns, size = packet.time_ns, 0, 0
        size += len(packet.payload)
    if end_ns and size:
        yield Exchange(begin_ns, end_ns, size)


@dataclass(slots=True)
class _Frames:
    """Cuts one direction of an HTTP/2 connection into frames."""

    data: bytearray = field(default_factory=bytearray)
    begin_ns: int = 0
    """When the first byte of `data` was on the wire."""

    def feed(self, packet: Packet) -> Iterator[tuple[int, int, int, int, int]]:
        """The frames that this packet completes: type, flags, stream, length, time of the first byte. That of the
        last is the packet's."""
        if not self.data:
            self.begin_ns = packet.time_ns
        self.data += packet.payload
        if self.data.startswith(_PREFACE):
            del self.data[: len(_PREFACE)]
        while len(self.data) >= 9:
            length = int.from_bytes(self.data[:3], "big")
            if len(self.data) < 9 + length:
                return
            stream = int.from_bytes(self.data[5:9], "big") & 0x7FFFFFFF
            yield self.data[3], self.data[4], stream, length, self.begin_ns
            del self.data[: 9 + length]
            self.begin_ns = packet.time_ns


def _http2_exchanges(packets: Iterable[Packet], server_port: int) -> Iterator[Exchange]:
    """A request begins with its HEADERS and a response ends with END_STREAM; the size is that of the DATA sent."""
    begun: dict[int, int] = {}
    sizes: Counter[int] = Counter()
    directions = {True: _Frames(), False: _Frames()}
    for packet in packets:
        from_server = packet.source == server_port
        for kind, flags, stream, length, begin_ns in directions[from_server].feed(packet):
            if not from_server and kind == _HEADERS:
                begun[stream] = begin_ns
            elif not from_server and kind == _DATA:
                sizes[stream] += length
            elif from_server and kind in (_DATA, _HEADERS) and flags & _END_STREAM and stream in begun:
                yield Exchange(begun.pop(stream), packet.time_ns, sizes.pop(stream, 0))
