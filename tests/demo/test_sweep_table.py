from __future__ import annotations

import http.server
import io
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from rich.console import Console

from exporter.demo.sweep_table import LevelJson, ProbeJson, fetch_probes, landed, one_line, table
from exporter.demo.triton import free_ports


def level(label: str, *, stable: bool = True) -> LevelJson:
    percentiles = {"50": 0.01055, "95": 0.0112, "99": 0.0123}
    return {"level": label, "throughput": 94.4, "percentiles": percentiles, "stable": stable}


def probe(name: str, levels: list[LevelJson], reason: str = "", reason_text: str = "") -> ProbeJson:
    return {
        "name": name,
        "target": "triton-http",
        "model": "delay",
        "state": "",
        "reason": reason,
        "reason_text": reason_text,
        "levels": levels,
    }


NEW = probe("new", [])
MEASURED = probe("measured", [level("1"), level("4", stable=False)], reason="unstable")
FAILED = probe("failed", [], "model_unknown", "no model 'delay'")


@pytest.mark.parametrize(("given", "expected"), [(NEW, False), (MEASURED, True), (FAILED, True)])
def test_landed(given: ProbeJson, expected: bool) -> None:
    assert landed(given) is expected


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (MEASURED, "measured: 94 inferences/s, p50 10.55 ms at concurrency 1"),
        (FAILED, "failed: model_unknown: no model 'delay'"),
    ],
)
def test_one_line(given: ProbeJson, expected: str) -> None:
    assert one_line(given) == expected


def test_table() -> None:
    console = Console(file=io.StringIO(), width=80)
    console.print(table([NEW, MEASURED, FAILED]))
    assert isinstance(console.file, io.StringIO)
    rows = [row.split() for row in console.file.getvalue().splitlines()]
    assert [row for row in rows if row] == [
        ["First", "sweeps"],
        ["probe", "concurrency", "infer/s", "p50", "ms", "p95", "ms", "p99", "ms", "state"],
        ["─" * len("".join(rows[3]))],
        ["new", "no", "sweep", "yet"],
        ["measured", "1", "94", "10.55", "11.20", "12.30", "stable"],
        ["4", "94", "10.55", "11.20", "12.30", "unstable"],
        ["failed", "model_unknown"],
    ]


@contextmanager
def served_version(status: int, body: str) -> Iterator[str]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *args: object) -> None:
            """Tests print nothing."""

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        yield f"127.0.0.1:{server.server_port}"
        thread.join()


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (200, json.dumps({"ready": True, "probes": [NEW]}), [NEW]),
        (200, json.dumps({"ready": False, "probes": [NEW]}), None),
        (503, json.dumps({"ready": True, "probes": [NEW]}), None),
        (200, "not JSON", None),
    ],
)
def test_fetch_probes(status: int, body: str, expected: list[ProbeJson] | None) -> None:
    with served_version(status, body) as listen:
        assert fetch_probes(listen) == expected


def test_fetch_probes_without_a_daemon() -> None:
    assert fetch_probes(f"127.0.0.1:{free_ports(1)[0]}") is None
