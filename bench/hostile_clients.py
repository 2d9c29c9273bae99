"""What a scrape takes while the web side is beset: silent clients, slow readers and huge heads, all at once.

    python -m bench.hostile_clients [--scrapes 100] [--probes 400]

Prints a Markdown table: the time of a scrape over a new connection, when it is quiet and when it is not, over plain
HTTP and over TLS; and the memory of the daemon, whose peak shows what the crowd cost.
"""

from __future__ import annotations

import argparse
import http.client
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import cache
from pathlib import Path
from statistics import median, quantiles

import yaml

from exporter.demo.triton import free_ports

SILENT = 200
SLOW_READERS = 40
HUGE_HEADS = 4
HEAD = b"GET /metrics HTTP/1.1\r\nHost: x\r\nX-Big: " + b"a" * 10_000_000
PATIENCE_SECONDS = 60.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--scrapes", type=int, default=100)
    parser.add_argument("--probes", type=int, default=400)
    options = parser.parse_args()
    crowd = f"{SILENT} silent, {SILENT} dripping, {SLOW_READERS} slow readers, {HUGE_HEADS} x 10 MB heads all the time"
    print(f"| a scrape over a new connection, {options.probes} probes | p50 | p95 | slowest | succeeded | memory |")
    print("|---|---|---|---|---|---|")
    for tls in (False, True):
        name = "TLS" if tls else "plain"
        with _daemon(options.probes, tls=tls) as (port, pid):
            _report(f"{name}, quiet", port, pid, options.scrapes, tls=tls)
            with _beset(port, tls=tls):
                _report(f"{name}, beset: {crowd}", port, pid, options.scrapes, tls=tls)


def _report(name: str, port: int, pid: int, scrapes: int, *, tls: bool) -> None:
    times = [seconds for _ in range(scrapes) if (seconds := _scrape(port, tls=tls)) is not None]
    p50, p95, slowest = (f"{value * 1000:.0f} ms" for value in (median(times), quantiles(times, n=20)[-1], max(times)))
    peak = next(line.split()[1] for line in Path(f"/proc/{pid}/status").read_text().splitlines() if "VmHWM" in line)
    print(f"| {name} | {p50} | {p95} | {slowest} | {len(times)} of {scrapes} | {int(peak) / 1024:.0f} MB |", flush=True)


def _scrape(port: int, *, tls: bool) -> float | None:
    """Seconds until the whole page was there; None where it didn't come."""
    started = time.monotonic()
    if tls:
        connection: http.client.HTTPConnection = http.client.HTTPSConnection(
            "127.0.0.1", port, timeout=10, context=_unverified()
        )
    else:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", "/metrics", headers={"Accept-Encoding": "gzip"})
        response = connection.getresponse()
        response.read()
        return time.monotonic() - started if response.status == 200 else None
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


@cache
def _unverified() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


@contextmanager
def _beset(port: int, *, tls: bool) -> Iterator[None]:
    ended = threading.Event()
    with ExitStack() as stack:
        for data in [b""] * SILENT + [b"\x16\x03\x01" if tls else b"GET / HTTP/1.1\r\nHo"] * SILENT:
            client = stack.enter_context(socket.create_connection(("127.0.0.1", port)))
            client.sendall(data)
        for _ in range(SLOW_READERS):
            _slow_reader(stack, port, tls=tls)
        threads = [threading.Thread(target=_send_huge_heads, args=(port, ended, tls)) for _ in range(HUGE_HEADS)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            ended.set()
            for thread in threads:
                thread.join()


def _slow_reader(stack: ExitStack, port: int, *, tls: bool) -> None:
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.connect(("127.0.0.1", port))
    if tls:
        client = _unverified().wrap_socket(client)
    stack.callback(client.close)
    client.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")


def _send_huge_heads(port: int, ended: threading.Event, tls: bool) -> None:
    while not ended.is_set():
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=5) as plain:
            client = _unverified().wrap_socket(plain) if tls else plain
            client.sendall(HEAD)
            client.recv(1)
        time.sleep(0.05)


@contextmanager
def _daemon(probes: int, *, tls: bool) -> Iterator[tuple[int, int]]:
    """A daemon that is ready: its port and pid."""
    (port,) = free_ports(1)
    with tempfile.TemporaryDirectory() as folder:
        configuration = {
            "data_directory": folder,
            "web": {"listen": f"127.0.0.1:{port}"},
            "log": {"level": "error"},
            "targets": [{"name": "triton", "url": "http://127.0.0.1:9"}],
            "defaults": {"schedule": {"cron": "0 0 1 1 *"}},
            "probes": [
                {"name": f"probe-{n}", "target": "triton", "model": f"model-{n}", "load": {"concurrency": 1}}
                for n in range(probes)
            ],
        }
        Path(folder, "canary.yaml").write_text(yaml.safe_dump(configuration))
        command = [sys.executable, "-m", "exporter", "serve", "--config", f"{folder}/canary.yaml"]
        if tls:
            new = "req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN=bench -keyout key.pem -out cert.pem"
            subprocess.run(["openssl", *new.split()], cwd=folder, check=True, capture_output=True)
            Path(folder, "web.yml").write_text("tls_server_config: {cert_file: cert.pem, key_file: key.pem}\n")
            command += ["--web.config.file", f"{folder}/web.yml"]
        process = subprocess.Popen(command)
        try:
            deadline = time.monotonic() + PATIENCE_SECONDS
            while _scrape(port, tls=tls) is None:
                if time.monotonic() > deadline or process.poll() is not None:
                    raise SystemExit("the daemon does not become ready")
                time.sleep(0.05)
            yield port, process.pid
        finally:
            process.terminate()
            process.wait()


if __name__ == "__main__":
    main()
