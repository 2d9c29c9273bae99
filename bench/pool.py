"""What the client of a pool does: bytes on the link per request, and its cpu time, with a Dask scheduler and workers as
processes.

    python -m bench.pool [--members 4] [--rate 20000] [--windows 10]

The workers replay made-up windows: a machine of few cores cannot make 80,000 requests per second and measure its own
client. The client is the product's: the sweep, the group, the merging, the figures. Prints a Markdown table.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import socket
import struct
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

from exporter.core.probe import LoadLevel, MeasurementOptions, Mode, StopRules
from exporter.core.units import NS
from exporter.core.window import Window
from exporter.sweep.conductor import Sweep
from exporter.sweep.watcher import Watcher
from exporter.worker.remote.pool import lend_remote
from tests.builders import make_probe, make_target
from tests.worker.remote.cluster import Cluster

_BYTES_AT = 120
"""In the kernel's struct tcp_info: bytes_acked, then bytes_received."""


class _Meter(Watcher):
    """Time, cpu time, bytes and rows so far, at each window of the level."""

    def __init__(self) -> None:
        self.rows = 0
        self.marks: list[tuple[float, float, int, int, int]] = []

    def window_measured(self, window: Window) -> None:
        self.rows += len(window.columns)
        self.marks.append((time.monotonic(), time.process_time(), *_link_bytes(), self.rows))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.pool", description=__doc__)
    for name, default in (("members", 4), ("rate", 20_000), ("windows", 10)):
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args()
    header = [
        "members",
        "requests/s each",
        "requests",
        "bytes received per request",
        "sent",
        "client's cpu",
        "per request",
    ]
    print(f"| {' | '.join(header)} |\n|{'---|' * len(header)}", flush=True)
    with tempfile.TemporaryDirectory() as folder, Cluster(Path(folder), options.members) as cluster:
        print(asyncio.run(_measured(cluster.address, options.members, options.rate, options.windows)))


async def _measured(address: str, members: int, rate: int, windows: int) -> str:
    total = members * rate
    level = LoadLevel(Mode.REQUEST_RATE, float(total), str(total))
    measurement = MeasurementOptions(window_ns=NS, stability_windows=windows, max_windows=windows)
    stop = replace(StopRules(), max_in_flight=1000, max_requests=10**9)
    probe = make_probe(target=make_target(kind="oip"), levels=(level,), measurement=measurement, stop=stop)
    meter = _Meter()
    lend = partial(lend_remote, address, members, module="bench.replaying_worker")
    result = await Sweep(replace(probe, workers=members, pool=address), [], watchers=[meter]).run(lend)
    if len(meter.marks) < windows:
        raise SystemExit(f"only {len(meter.marks)} windows: {result.reason} {result.reason_text}")
    (at_s, cpu_s, received, sent, rows), last = meter.marks[0], meter.marks[-1]
    # With the figures of the level, which are made after its last window.
    count, elapsed_s, used_s = last[4] - rows, last[0] - at_s, time.process_time() - cpu_s
    cells = [
        str(members),
        f"{count / elapsed_s / members:.0f}",
        str(count),
        f"{(last[2] - received) / count:.1f}",
        f"{(last[3] - sent) / count:.2f}",
        f"{used_s / elapsed_s * 100:.0f} % of a core",
        f"{used_s / count * 1e6:.2f} us",
    ]
    return f"| {' | '.join(cells)} |"


def _link_bytes() -> tuple[int, int]:
    """Received and sent so far by the TCP connections of this process, as the kernel counts them."""
    received = sent = 0
    for connection in _connections():
        with closing(connection), suppress(OSError):
            info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
            acked, got = struct.unpack_from("QQ", info, _BYTES_AT)
            received, sent = received + got, sent + acked
    return received, sent


def _connections() -> Iterator[socket.socket]:
    for name in os.listdir("/proc/self/fd"):
        with suppress(OSError):
            if os.readlink(f"/proc/self/fd/{name}").startswith("socket:"):
                yield socket.socket(fileno=os.dup(int(name)))


if __name__ == "__main__":
    main()
