"""A daemon for the demo to run, `fake_daemon.py MODE CONFIG`.

It responses /api/status from the configuration's probes, one more of them with a first sweep at each request. MODE
"dies" ends with status 3 at the request after that; "stubborn" ignores SIGTERM; "good" does neither.
"""

from __future__ import annotations

import http.server
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import yaml


def main(mode: str, file: str) -> None:
    config = yaml.safe_load(Path(file).read_text())
    host, _, port = config["web"]["listen"].rpartition(":")
    asked = 0

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            nonlocal asked
            if mode == "dies" and asked > len(config["probes"]):
                print("the last words of the daemon", flush=True)
                os._exit(3)
            body = {"ready": True, "probes": [status(probe, n < asked) for n, probe in enumerate(config["probes"])]}
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps(body).encode())
            asked += 1

        def log_message(self, *args: object) -> None:
            """No test reads the output."""

    if mode == "stubborn":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    http.server.HTTPServer((host, int(port)), Handler).serve_forever()


def status(probe: dict[str, Any], measured: bool) -> dict[str, Any]:
    level = {"level": "1", "throughput": 1234.0, "percentiles": {"50": 0.0005}, "stable": True}
    names = {key: probe[key] for key in ("name", "target", "model")}
    return {**names, "state": "ok", "reason": "", "reason_text": "", "levels": [level] if measured else []}


if __name__ == "__main__":
    main(*sys.argv[1:])
