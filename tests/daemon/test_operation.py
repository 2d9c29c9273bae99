"""Operating the daemon as a process: its configuration changes under it, /probe, and secrets that are reported
nowhere."""

from __future__ import annotations

import http.server
import json
import os
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import bcrypt
import pytest
import yaml

from exporter.demo.triton import EmbeddedTriton
from tests.daemon.running import RunningDaemon

SECRET = "s3cr3t-planted"

PROBES = 100  # a thousand are in tests/daemon/test_reload.py, without the process round them
NEVER = {"cron": "0 0 1 1 *"}
RELOADED = "triton_canary_exporter_config_last_reload_successful"


def refused_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def many(changed: int | None = None) -> dict[str, Any]:
    """A configuration of many probes that never run; one of them may differ."""
    probes = [
        {"name": f"p{i}", "target": "t", "model": "m", "load": {"concurrency": 2 if i == changed else 1}}
        for i in range(PROBES)
    ]
    return {"targets": [{"name": "t", "url": "http://127.0.0.1:1"}], "defaults": {"schedule": NEVER}, "probes": probes}


def swap(daemon: RunningDaemon, number: int, content: str) -> None:
    """As the kubelet changes a ConfigMap: a folder beside, and a link renamed over."""
    folder = daemon.folder / f"..{number}"
    folder.mkdir()
    (folder / "canary.yaml").write_text(content)
    (daemon.folder / "..data_tmp").symlink_to(folder.name)
    os.replace(daemon.folder / "..data_tmp", daemon.folder / "..data")


def planned(daemon: RunningDaemon) -> dict[str, float]:
    """When each probe is due next."""
    probes = json.loads(daemon.get("/api/status")[1])["probes"]
    return {probe["name"]: probe["next_run_unix_s"] for probe in probes}


def reloaded(daemon: RunningDaemon) -> bool:
    return f"{RELOADED} 1.0".encode() in daemon.get(f"/metrics?name[]={RELOADED}")[1]


def samples_of(daemon: RunningDaemon, probe: str) -> list[str]:
    """The lines about a probe, as they are."""
    return [line for line in daemon.get("/metrics")[1].decode().splitlines() if f'probe="{probe}"' in line]


def test_of_many_probes_one_changes(tmp_path: Path) -> None:
    daemon = RunningDaemon(tmp_path, many())
    rest = yaml.safe_load(daemon.config_path.read_text())
    good, changed, broken = (yaml.safe_dump(rest | new) for new in (many(), many(changed=50), {"targets": 7}))
    swap(daemon, 0, good)
    daemon.config_path.unlink()
    daemon.config_path.symlink_to("..data/canary.yaml")
    with daemon:
        before, samples = planned(daemon), samples_of(daemon, "p7")

        swap(daemon, 1, changed)
        event = daemon.wait_for_log("probes changed")
        assert (event["changed"], event["unchanged"]) == ("1", "99")
        assert planned(daemon) == before
        assert len(samples) > 10
        assert samples_of(daemon, "p7") == samples

        swap(daemon, 2, broken)
        daemon.wait_for(lambda: not reloaded(daemon))
        event = daemon.wait_for_log("configuration not reloaded")
        assert "canary.yaml:" in event["error"]
        assert b"The configuration was not reloaded; the old one is still in use" in daemon.get("/")[1]
        assert planned(daemon) == before

        for number in range(3, 13):
            swap(daemon, number, changed if number % 2 else good)
        daemon.wait_for(lambda: reloaded(daemon))
        assert b"was not reloaded" not in daemon.get("/")[1]
        assert planned(daemon) == before

        os.kill(daemon.pid, signal.SIGHUP)
        daemon.wait_for_log("configuration reloaded", why="SIGHUP")
        assert daemon.get("/-/reload", method="POST")[0] == 403


def test_a_reload_leaves_what_a_probe_has_measured(triton: EmbeddedTriton, tmp_path: Path) -> None:
    """One probe has run and counted; another of the same server is changed."""
    probes = [
        {"name": name, "target": "t", "model": "delay", "load": {"concurrency": levels}, "schedule": {"every": "1h"}}
        for name, levels in (("stays", [1, 2]), ("changes", [1]))
    ]
    configuration = {"targets": [{"name": "t", "url": triton.http_url}], "probes": probes}
    with RunningDaemon(tmp_path, configuration) as daemon:
        for name in ("stays", "changes"):
            daemon.wait_for_state(name, "", "unstable")
        before, samples, due = daemon.status("stays"), samples_of(daemon, "stays"), planned(daemon)
        others = daemon.status("changes")
        document = yaml.safe_load(daemon.config_path.read_text())
        document["probes"][1]["load"] = {"concurrency": [1, 3]}
        daemon.config_path.write_text(yaml.safe_dump(document))
        event = daemon.wait_for_log("probes changed")
        assert (event["changed"], event["unchanged"], event["added"], event["removed"]) == ("1", "1", "0", "0")
        sent = daemon.value("triton_canary_requests_total", probe="stays", outcome="ok")
        assert sent is not None
        assert sent > 10
        assert samples_of(daemon, "stays") == samples
        assert planned(daemon) == due
        after = daemon.status("stays")
        assert [level["level"] for level in after["levels"]] == ["1", "2"]
        assert without_age(after) == without_age(before)
        # The changed one keeps its count, and the results of the level that it still has.
        assert [level["level"] for level in daemon.status("changes")["levels"]] == ["1"]
        assert daemon.value("triton_canary_sweeps_total", probe="changes", status=others["state"]) == 1


def without_age(status: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in status.items() if not key.endswith("age_seconds")}


def ignores_hang_ups(pid: int) -> bool:
    status = Path(f"/proc/{pid}/status").read_text()
    ignored = next(line.split()[1] for line in status.splitlines() if line.startswith("SigIgn"))
    return bool(int(ignored, 16) >> (signal.SIGHUP - 1) & 1)


def test_hang_ups_while_it_starts(tmp_path: Path) -> None:
    inherited = signal.signal(signal.SIGHUP, signal.SIG_DFL)  # as a shell or systemd leaves it to the daemon
    daemon = RunningDaemon(tmp_path, many())

    def hang_up() -> bool:
        os.kill(daemon.pid, signal.SIGHUP)
        return any(event.get("msg") == "ready" for event in daemon.log_events())

    try:
        daemon.launch()
        daemon.wait_for(lambda: ignores_hang_ups(daemon.pid))
        daemon.wait_for(hang_up)
    finally:
        signal.signal(signal.SIGHUP, inherited)
    assert daemon.stop() == 0


# --- /probe ----------------------------------------------------------------------------------------------------------


def test_probe_on_demand(triton: EmbeddedTriton, tmp_path: Path) -> None:
    probe = {"name": "p", "target": "t", "model": "delay", "load": {"concurrency": [1, 4]}, "schedule": NEVER}
    configuration = {
        "targets": [{"name": "t", "url": triton.http_url}],
        "probes": [probe],
        "web": {"listen": "127.0.0.1:0", "probe": True},
    }
    with RunningDaemon(tmp_path, configuration) as daemon:
        status, body = daemon.get("/probe?target=t&module=p", {"X-Prometheus-Scrape-Timeout-Seconds": "20"})
        assert status == 200
        lines = body.decode().splitlines()
        assert "probe_success 1.0" in lines
        assert [line for line in lines if line.startswith("triton_canary_latency_seconds{") and 'level="1"' in line]
        assert not [line for line in lines if 'level="4"' in line]
        sent = daemon.value("triton_canary_requests_total", probe="p", outcome="ok")
        assert sent is not None
        assert sent > 0
        assert daemon.value("triton_canary_up", probe="p") is None
        assert daemon.value("triton_canary_sweeps_total", probe="p") == 0

        for query in ("target=t&module=q", "target=elsewhere&module=p", f"target={triton.http_url}&module=p", ""):
            assert daemon.get(f"/probe?{query}")[0] == 400
        assert daemon.get("/probe?target=t&module=p", method="HEAD")[0] == 405
        assert daemon.value("triton_canary_requests_total", probe="p", outcome="ok") == sent


# --- secrets ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def secretive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RunningDaemon]:
    """A daemon with the secret wherever a secret can be, that fails at its target."""
    for name in ("header", "token"):
        (tmp_path / name).write_text(f"{SECRET}-{name}\n")
    hashed = bcrypt.hashpw(f"{SECRET}-password".encode(), bcrypt.gensalt(4)).decode()
    (tmp_path / "web.yml").write_text(yaml.safe_dump({"basic_auth_users": {"alice": hashed}}))
    monkeypatch.setenv("CANARY_TEST_SECRET", f"{SECRET}-environment")
    monkeypatch.setenv("TRITON_CANARY_DEFAULTS__INPUT__PARAMETERS", json.dumps({"tenant": f"{SECRET}-inherited"}))
    configuration: dict[str, Any] = {
        "targets": [
            {
                "name": "t",
                "url": f"http://127.0.0.1:{refused_port()}",
                "headers": {
                    "X-Plain": f"{SECRET}-plain",
                    "Authorization": {"env": "CANARY_TEST_SECRET", "prefix": f"{SECRET}-prefix "},
                    "X-Api-Key": {"file": str(tmp_path / "header")},
                },
            },
            {
                "name": "listed",
                "url": "http://pattern",
                "discover": {
                    "http_sd": {
                        "url": f"http://127.0.0.1:{refused_port()}",
                        "headers": {"X-Plain": f"{SECRET}-listed", "X-Api-Key": {"env": "CANARY_TEST_SECRET"}},
                    }
                },
            },
            {
                "name": "managed",
                "kind": "torchserve",
                "url": f"http://127.0.0.1:{refused_port()}",
                "management_url": f"http://127.0.0.1:{refused_port()}",
                "management_headers": {"X-Plain": f"{SECRET}-managed", "X-Api-Key": {"env": "CANARY_TEST_SECRET"}},
            },
        ],
        "probes": [
            {
                "name": "p",
                "target": "t",
                "model": "m",
                "load": {"concurrency": 1},
                "input": {"string_data": f"{SECRET}-data", "parameters": {"user": f"{SECRET}-parameter"}},
            },
            {"name": "on-listed", "target": "listed", "model": "m", "load": {"concurrency": 1}},
        ],
        "web": {"listen": "127.0.0.1:0", "api_token_file": str(tmp_path / "token")},
        "log": {"level": "debug"},
    }
    with RunningDaemon(tmp_path, configuration, "--web.config.file", str(tmp_path / "web.yml")) as daemon:
        yield daemon


def bearer(secret: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {secret}"}


def test_a_secret_is_reported_nowhere(secretive: RunningDaemon, tmp_path: Path) -> None:
    daemon, token = secretive, bearer(f"{SECRET}-token")
    hashed = yaml.safe_load((tmp_path / "web.yml").read_text())["basic_auth_users"]["alice"]
    daemon.wait_for_log("sweep ended", probe="p")
    daemon.wait_for_log("discovery failed", source="addresses of listed")
    reported = [daemon.get(path, token)[1] for path in ("/", "/metrics", "/api/status", "/config", "/api/baseline/p")]
    reported += [daemon.get("/", bearer(f"{SECRET}-wrong"))[1]]
    reported += [daemon.get(f"/probe?target={SECRET}&module={SECRET}", token)[1]]
    document = yaml.safe_load(daemon.config_path.read_text())
    for path, value in BROKEN:
        daemon.config_path.write_text(yaml.safe_dump(with_value(document, path, value)))
        status, body = daemon.get("/-/reload", token, "POST")
        assert status == 500, (path, body)
        reported += [body, *(daemon.get(path, token)[1] for path in ("/", "/metrics", "/api/status", "/config"))]
    (tmp_path / "web.yml").write_text(f"basic_auth_users: {{alice: {SECRET}}}")
    daemon.wait_for_log("web configuration not reloaded")
    reported += [daemon.get("/", token)[1], daemon.log_path.read_bytes()]
    assert daemon.stop() == 0
    reported += [path.read_bytes() for path in (tmp_path / "data").rglob("*") if path.is_file()]
    assert len(reported) > 50
    for text_shown in reported:
        assert SECRET.encode() not in text_shown
        assert hashed.encode() not in text_shown


PEM = f"-----BEGIN PRIVATE KEY-----\n{SECRET}\n-----END PRIVATE KEY-----\n"

BROKEN: list[tuple[tuple[str | int, ...], object]] = [
    (("targets", 0, "url"), f"http://me:{SECRET}@127.0.0.1:8000"),
    (("targets", 0, "url"), f"http://127.0.0.1:8000/?key={SECRET}"),
    (("targets", 0, "metrics_url"), f"http://me:{SECRET}@127.0.0.1:8002/metrics"),
    (("targets", 0, "metrics_url"), f"http://127.0.0.1:8002/metrics?token={SECRET}"),
    (("targets", 0, "headers", "Authorization"), f"Bearer {SECRET}"),
    (("targets", 0, "headers", "X-Plain"), [SECRET]),
    (("targets", 0, "headers", "X-Plain"), {"value": SECRET}),
    (("targets", 0, "headers", "X-Plain"), {SECRET: 1}),
    (("targets", 0, "headers", "X-Plain"), {"env": [SECRET]}),
    (("targets", 0, "headers", "X-Plain"), {"file": {"path": SECRET}}),
    (("targets", 0, "headers"), SECRET),
    (("targets", 0, "headers"), [SECRET]),
    (("targets", 0, "password"), SECRET),
    (("probes", 0, "input", "parameters"), [SECRET]),
    (("probes", 0, "input", "parameters"), {"user": [SECRET]}),
    (("probes", 0, "input", "string_data"), [SECRET]),
    (("web", "api_token"), SECRET),
    (("web", "api_token_file"), [SECRET]),
    (("web", "api_token_file"), f"{SECRET}\n"),
    *(
        (("targets", 0, "tls", key), document)
        for key in ("key_file", "cert_file", "ca_file", "server_name")
        for document in (PEM, PEM.replace("\n", " "), [PEM], {"pem": PEM})
    ),
    (("targets", 0, "tls"), PEM),
    (("targets", 0, "tls"), [PEM]),
    (("targets", 0, "tls", "key_file"), [SECRET]),
    (("targets", 0, "tls", "key_file"), f"/run/secrets/key\t{SECRET}"),
    (("targets", 0, "tls", "password"), SECRET),
    *(
        (("targets", 1, "discover", "http_sd", "url"), url)
        for url in (f"http://me:{SECRET}@h/list", f"http://h/list?token={SECRET}", [f"http://h/?{SECRET}"], {SECRET: 1})
    ),
    *(
        ((*headers, *key), value)
        for headers in (("targets", 1, "discover", "http_sd", "headers"), ("targets", 2, "management_headers"))
        for key, value in (
            ((), SECRET),
            ((), [SECRET]),
            (("Authorization",), f"Bearer {SECRET}"),
            (("X-Plain",), [SECRET]),
            (("X-Plain",), {"value": SECRET}),
            (("X-Plain",), {"env": [SECRET]}),
            (("X-Plain",), {"file": f"{SECRET}\n"}),
        )
    ),
]
"""Values of the wrong kind, or in the wrong place."""


def with_value(document: Any, path: tuple[str | int, ...], value: object) -> Any:
    """The document with another value at a path."""
    if not path:
        return value
    key, *rest = path
    if isinstance(document, list):
        assert isinstance(key, int)
        return [with_value(each, tuple(rest), value) if i == key else each for i, each in enumerate(document)]
    return {**document, key: with_value(document.get(key, {}), tuple(rest), value)}


class Echo(http.server.BaseHTTPRequestHandler):
    """A server that states back what it was reported: to any question, or, below /ready, to inference alone."""

    protocol_version = "HTTP/1.1"
    seen: ClassVar[list[str | None]] = []

    def do_GET(self) -> None:
        if self.path.startswith("/ready"):
            tensors = [{"name": "x", "datatype": "FP32", "shape": [1]}]
            self._response(200, {"name": "m", "platform": "p", "versions": [], "inputs": tensors, "outputs": tensors})
        else:
            self._refuse(401)

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self._refuse(500)

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - the base's name
        pass

    def _refuse(self, status: int) -> None:
        reported = self.headers["Authorization"]
        self.seen.append(reported)
        self._response(status, {"error": f"{'x' * 200}, not authorized: {reported} {reported}"})

    def _response(self, status: int, content: object) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture
def echo(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The url of such a server; what it saw is in `Echo.seen`."""
    monkeypatch.setattr(Echo, "seen", [])
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Echo) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def test_a_server_that_repeats_our_secret(echo: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CANARY_TEST_SECRET", f"{SECRET}-environment")
    headers = {"Authorization": {"env": "CANARY_TEST_SECRET", "prefix": "Bearer "}}
    endpoints = {"asked": {"url": echo}, "loaded": {"url": f"{echo}/ready", "kind": "oip"}}
    configuration: dict[str, Any] = {
        "targets": [
            {"name": name, "headers": headers, "group": name, **endpoint} for name, endpoint in endpoints.items()
        ],
        "probes": [{"name": name, "target": name, "model": "m", "load": {"concurrency": 2}} for name in endpoints],
        "log": {"level": "debug"},
    }
    with RunningDaemon(tmp_path, configuration) as daemon:
        asked, loaded = daemon.wait_for_state("asked", "auth"), daemon.wait_for_state("loaded", "error_ratio")
        for text in (asked["reason_text"], loaded["reason_text"]):
            assert "not authorized: Bearer <secret>" in text
        reported = [daemon.get(path)[1] for path in ("/", "/metrics", "/api/status")]
    # What a wrong endpoint is diagnosed with carries no secret.
    assert set(Echo.seen) - {None} == {f"Bearer {SECRET}-environment"}
    reported += [path.read_bytes() for path in (tmp_path / "data").rglob("*") if path.is_file()]
    reported.append(daemon.log_path.read_bytes())
    assert [text for text in reported if SECRET[:8].encode() in text] == []
    assert sum(b"<secret>" in text for text in reported) >= 3
